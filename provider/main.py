"""Puts the provider together: all its resources, served to the engine."""

from __future__ import annotations

from collections.abc import Sequence

from provider import plugin
from provider.access_key import AccessKey
from provider.certificates.authority import CertificateAuthority
from provider.certificates.certificate import Certificate
from provider.cluster_volume import ClusterVolume
from provider.endpoint import Endpoint
from provider.image_index import ImageIndex
from provider.image_layout import ImageLayout
from provider.local_service import LocalService
from provider.mirrored_image import MirroredImage
from provider.model_version import ModelVersion
from provider.python_environment import PythonEnvironment
from provider.registry_endpoint import RegistryEndpoint
from provider.registry_service import RegistryService
from provider.replica_ownership import ReplicaOwnership
from provider.resource import Resource
from provider.route import Route
from provider.router_endpoint import RouterEndpoint
from provider.service_image import ServiceImage
from provider.workspace_folder import WorkspaceFolder

RESOURCES: Sequence[Resource] = (
    WorkspaceFolder(),
    ImageLayout(),
    ModelVersion(),
    PythonEnvironment(),
    RegistryService(),
    ClusterVolume(),
    RegistryEndpoint(),
    CertificateAuthority(),
    Certificate(),
    AccessKey(),
    ServiceImage(),
    ImageIndex(),
    MirroredImage(),
    LocalService(),
    ReplicaOwnership(),
    Endpoint(),
    RouterEndpoint(),
    Route(),
)


def main(argv: Sequence[str]) -> None:
    """Runs the provider's process until its engine is gone."""
    plugin.main(RESOURCES, argv)
