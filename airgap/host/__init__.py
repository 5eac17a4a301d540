"""Gets this machine ready for a stack whose containers run on it: Debian's packages, a Docker engine, images.

For machines that have none of it and nothing to download it from but Debian's mirror. Where somebody runs an engine,
that one is used, and nothing is installed for it.
"""
