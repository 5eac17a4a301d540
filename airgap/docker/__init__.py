"""A stand-in for Pulumi's docker plugin, for machines that cannot download it.

The executable `pulumi-resource-docker` in this directory is found by Pulumi on PATH. It has the resource types that
Slipway uses, and behaves as the official plugin does: same properties, defaults, rules of replacement and state, so
that either can carry on with what the other has made. What it does not know is an error.
"""
