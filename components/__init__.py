"""Reusable Pulumi components: a workspace, its registry, environments, models and web services.

They stand on the provider's resource classes and on Pulumi alone, and can be used in any Pulumi program that has the
provider `slipway`; what a compute target does is in `components.targets`.
"""

from components.environment import Environment, EnvironmentArgs
from components.image import CopiedImage, CopiedImageArgs, ServiceImage, ServiceImageArgs
from components.model import Model, ModelArgs
from components.package import Package, PackageArgs
from components.registry import Registry, RegistryArgs
from components.webservice import Webservice, WebserviceArgs
from components.workspace import Workspace, WorkspaceArgs

__all__ = [
    "CopiedImage",
    "CopiedImageArgs",
    "Environment",
    "EnvironmentArgs",
    "Model",
    "ModelArgs",
    "Package",
    "PackageArgs",
    "Registry",
    "RegistryArgs",
    "ServiceImage",
    "ServiceImageArgs",
    "Webservice",
    "WebserviceArgs",
    "Workspace",
    "WorkspaceArgs",
]
