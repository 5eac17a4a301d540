"""A base image for services, made from Debian's packages where no registry of images can be reached.

`debian` makes the root file system, `image` packs it into one layer and stores it as an image.
"""
