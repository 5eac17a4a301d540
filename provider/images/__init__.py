"""Images of services, put together from layers without a Docker daemon, the same to the byte on every machine.

`store` is what images are kept in (a protocol, and an OCI image layout on disk as one), `archive` makes the tar of a
layer, `environment` the layer of a locked list of packages, `compose` the image from its layers, and `publish` sends
what is missing. Nothing here knows of Pulumi; the resource `provider.service_image` stands on it.
"""
