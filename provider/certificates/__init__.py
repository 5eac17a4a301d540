"""Certificates for TLS: an authority of one's own, certificates it signs, and a look at those that users bring.

`authority` and `certificate` are the resources, `issue` makes keys and certificates (RFC 5280), `life` says when one is
to be renewed, `names` which names it can carry, `pair` whether a certificate and a key can be used together.

`cryptography` takes a while to load: the modules that need it are imported where an operation begins, so that a
program without certificates does not wait for them.
"""
