"""A client for registries that speak the OCI distribution specification (github.com/opencontainers/distribution-spec).

`client` opens a registry, `repository` reads and writes one repository of it, `upload` sends a blob, `download` reads
one, `transport` sends requests (and again, where that helps), `auth` answers challenges, `answers` turns what a
registry says into errors, and `slots` keeps to the tier's number of transfers. `model_store` keeps versions of models
in a registry. What an artifact or an image consists of is decided elsewhere; nothing here knows of Pulumi.
"""
