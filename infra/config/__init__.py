"""The stack configuration's vocabulary: one pydantic model a section, with Azure's field names.

Pure: nothing here reads a file, the network or the clock. A field that a model does not know is an error; what spans
sections is checked in `infra.references`, what is on disk in `infra.preflight`. `stacks/schema.json` is generated from
these. One module a group of sections; all of it is imported from here.
"""

from infra.config.base import NAMESPACE, AssetName, DnsLabel, Secret, SecretReference, Section, field_names
from infra.config.deployments import (
    AZURE_DEPLOYMENT_FIELDS,
    DEPLOYMENTS,
    AutoScaler,
    ContainerDeployment,
    ContainerResources,
    Deployment,
    KubernetesDeployment,
    KubernetesResources,
    LivenessProbe,
    LocalDeployment,
)
from infra.config.environments import AzureDocker, AzureEnvironment, AzurePython, CondaDependencies, Environment
from infra.config.images import Images
from infra.config.models import MlflowRun, Model
from infra.config.packages import Package
from infra.config.registry import (
    REGISTRY_FIELDS,
    ClusterRegistry,
    ExternalRegistry,
    LayoutRegistry,
    Registry,
    ServiceRegistry,
    Webhook,
)
from infra.config.services import ONLY_DEPLOYMENT, InferenceConfig, Service, ServiceDeployment
from infra.config.stack import StackConfig
from infra.config.targets import ComputeTarget, ContainerTarget, KubernetesTarget, LocalTarget, Toleration
from infra.config.workspace import Workspace

__all__ = [
    "AZURE_DEPLOYMENT_FIELDS",
    "DEPLOYMENTS",
    "NAMESPACE",
    "ONLY_DEPLOYMENT",
    "REGISTRY_FIELDS",
    "AssetName",
    "AutoScaler",
    "AzureDocker",
    "AzureEnvironment",
    "AzurePython",
    "ClusterRegistry",
    "ComputeTarget",
    "CondaDependencies",
    "ContainerDeployment",
    "ContainerResources",
    "ContainerTarget",
    "Deployment",
    "DnsLabel",
    "Environment",
    "ExternalRegistry",
    "Images",
    "InferenceConfig",
    "KubernetesDeployment",
    "KubernetesResources",
    "KubernetesTarget",
    "LayoutRegistry",
    "LivenessProbe",
    "LocalDeployment",
    "LocalTarget",
    "MlflowRun",
    "Model",
    "Package",
    "Registry",
    "Secret",
    "SecretReference",
    "Section",
    "Service",
    "ServiceDeployment",
    "ServiceRegistry",
    "StackConfig",
    "Toleration",
    "Webhook",
    "Workspace",
    "field_names",
]
