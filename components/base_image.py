"""What images of services can begin with."""

from typing import Protocol

import pulumi


class BaseImage(Protocol):
    """An image in the workspace's registry."""

    base: pulumi.Output[str]
    """As images are built on it: REPOSITORY@DIGEST, once it is there."""
    reference: pulumi.Output[str]
    """As a container runtime names it: HOST/REPOSITORY@DIGEST."""
    made: pulumi.Resource
    """What has to be there before anything is built on it."""
