"""The router's image, made from Debian's packages where no registry of images can be reached.

It holds HAProxy and what the scripts of `provider.router` call: nothing that the official image `haproxy` has not.
"""
