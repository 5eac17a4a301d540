"""The images that Slipway needs, made on this machine where no registry of images can be reached.

They are kept in an OCI image layout, from which a stack copies them to its registry. `images.json` beside it says which
they are: the digests stay until what they are made of changes, so that a stack sees the same images each time.
"""
