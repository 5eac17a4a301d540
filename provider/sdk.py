"""The provider's resources as a Pulumi program sees them. Names are snake_case here and camelCase on the wire.

Each class documents its outputs; the inputs are documented where they are declared, in the module of the resource.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi

_SECRETS = frozenset({"password", "source_password", "model_password"})
"""Arguments that are secrets, whether the program says so or not."""


def _on_the_wire(name: str) -> str:
    """The name of an argument as the provider knows it. Arguments alone are translated: the SDK's own way would change
    the keys inside them as well, which are the names of tags, models and environment variables."""
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


class _SlipwayResource(pulumi.CustomResource):
    """A custom resource whose arguments and outputs are translated between snake_case and camelCase."""

    def __init__(
        self,
        token: str,
        resource_name: str,
        args: Mapping[str, Any],
        outputs: Sequence[str],
        opts: pulumi.ResourceOptions | None,
    ) -> None:
        # The SDK makes an Output of every property it is given, also of one that is None: what is not set stays out.
        given = {
            _on_the_wire(name): pulumi.Output.secret(value) if name in _SECRETS else value
            for name, value in args.items()
            if value is not None
        }
        super().__init__(token, resource_name, {**dict.fromkeys(outputs), **given}, opts)

    def translate_output_property(self, prop: str) -> str:
        return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: "_" + match.group(1).lower(), prop)


def _keeping(secret: str, opts: pulumi.ResourceOptions | None) -> pulumi.ResourceOptions:
    """Options with which the output `secret` is secret in the program as well."""
    return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=[_on_the_wire(secret)]))


class WorkspaceFolderArgs(TypedDict):
    """Arguments of `WorkspaceFolder`."""

    path: pulumi.Input[str]
    """The folder. What is in it belongs to the workspace and goes with it."""


class WorkspaceFolder(_SlipwayResource):
    """The folder of a workspace on this machine."""

    path: pulumi.Output[str]
    """The folder."""

    def __init__(self, name: str, args: WorkspaceFolderArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:WorkspaceFolder", name, args, ["path"], opts)


class ImageLayoutArgs(TypedDict):
    """Arguments of `ImageLayout`."""

    path: pulumi.Input[str]
    """Folder of the layout."""
    tier: pulumi.Input[str]
    """Tier of the registry that the layout stands for."""
    quota_bytes: pulumi.Input[int]
    """What may be stored, in bytes."""


class ImageLayout(_SlipwayResource):
    """The store of a workspace on this machine: an OCI image layout with a quota."""

    path: pulumi.Output[str]
    """Folder of the layout."""

    def __init__(self, name: str, args: ImageLayoutArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:ImageLayout", name, args, ["path"], opts)


class RegistryServiceArgs(TypedDict):
    """Arguments of `RegistryService`."""

    path: pulumi.Input[str]
    """Folder of the service. What the registry stores lies in it and goes with it."""
    port: pulumi.Input[int]
    """TCP port."""
    tier: pulumi.Input[str]
    """Tier of the registry."""
    quota_bytes: pulumi.Input[int]
    """What may be stored, in bytes."""
    cpus: pulumi.Input[float]
    """CPUs that the registry may use, rounded up."""
    memory_bytes: pulumi.Input[int]
    """Memory that the registry tries to stay within, in bytes."""
    retention_days: NotRequired[pulumi.Input[int] | None]
    """After how many days a manifest without a tag goes; they stay where it is not given."""
    bind: NotRequired[pulumi.Input[str] | None]
    """IP address to listen on; 127.0.0.1 where it is not given. Any other than loopback needs a certificate."""
    host: NotRequired[pulumi.Input[str] | None]
    """Name or address by which clients reach it; `bind` where it is not given. 0.0.0.0 needs one."""
    certificate: NotRequired[pulumi.Input[str] | None]
    """PEM. With it and its key the registry speaks TLS."""
    private_key: NotRequired[pulumi.Input[str] | None]
    """PEM; a secret."""
    replicas: NotRequired[pulumi.Input[int] | None]
    """How many registries serve the same data behind the one port: 1, where it is not given, to 4."""
    webhooks: NotRequired[pulumi.Input[Sequence[pulumi.Input[Mapping[str, Any]]]] | None]
    """Where events go: `name`, `url`, and perhaps `actions` (`push`, `delete`, `pull`; by default the first two),
    `scope` (`REPOSITORY[:TAG]`, with `*`) and `headers`. What is secret in it is to be marked so."""
    webhook_limit: NotRequired[pulumi.Input[int] | None]
    """How many webhooks the tier has."""


class RegistryService(_SlipwayResource):
    """A registry on this machine, with generated credentials."""

    address: pulumi.Output[str]
    """HOST:PORT; with https:// before it where it speaks TLS on loopback."""
    username: pulumi.Output[str]
    """The one user."""
    password: pulumi.Output[str]
    """A secret."""

    def __init__(self, name: str, args: RegistryServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        outputs = ["address", "username", "password"]
        super().__init__("slipway:index:RegistryService", name, args, outputs, _keeping("password", opts))


class CertificateAuthorityArgs(TypedDict):
    """Arguments of `CertificateAuthority`."""

    name: pulumi.Input[str]
    """What its certificate calls it."""
    valid_days: NotRequired[pulumi.Input[int] | None]
    """How long its certificate is valid; ten years where it is not given."""


class CertificateAuthority(_SlipwayResource):
    """An authority of the stack's own, which signs the certificates of its servers."""

    certificate: pulumi.Output[str]
    """PEM; what clients are to trust."""
    private_key: pulumi.Output[str]
    """PEM; a secret."""
    not_after: pulumi.Output[str]
    """When it ends (RFC 3339)."""

    def __init__(self, name: str, args: CertificateAuthorityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        outputs = ["certificate", "private_key", "not_after"]
        super().__init__("slipway:index:CertificateAuthority", name, args, outputs, _keeping("private_key", opts))


class CertificateArgs(TypedDict):
    """Arguments of `Certificate`."""

    ca_certificate: pulumi.Input[str]
    """The authority's certificate, PEM."""
    ca_private_key: pulumi.Input[str]
    """The authority's key, PEM; a secret."""
    common_name: pulumi.Input[str]
    """What the certificate calls its holder."""
    names: pulumi.Input[Sequence[pulumi.Input[str]]]
    """DNS names and IP addresses that clients connect to."""
    valid_days: NotRequired[pulumi.Input[int] | None]
    """How long it is valid; a year where it is not given, and no longer than its authority."""


class Certificate(_SlipwayResource):
    """A server's certificate and key. A refresh marks one that nears its end, and the next `up` renews it."""

    certificate: pulumi.Output[str]
    """PEM."""
    private_key: pulumi.Output[str]
    """PEM; a secret."""
    not_after: pulumi.Output[str]
    """When it ends (RFC 3339)."""

    def __init__(self, name: str, args: CertificateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        outputs = ["certificate", "private_key", "not_after"]
        super().__init__("slipway:index:Certificate", name, args, outputs, _keeping("private_key", opts))


class ClusterVolumeArgs(TypedDict):
    """Arguments of `ClusterVolume`."""

    cluster: pulumi.Input[Mapping[str, Any]]
    """How the cluster is reached: `kubeconfig` (a path) and `context`, where they are not those of kubectl."""
    namespace: pulumi.Input[str]
    """A namespace that is there."""
    name: pulumi.Input[str]
    """Name of the claim."""
    size_bytes: pulumi.Input[int]
    """In whole GiB. A volume grows, where its storage class lets it, and never shrinks."""
    storage_class: NotRequired[pulumi.Input[str] | None]
    """By default the cluster's own default. It stays as long as the volume."""
    labels: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[str]]] | None]
    """Labels of the claim."""


class ClusterVolume(_SlipwayResource):
    """The claim of a volume in a cluster; what is on it goes with it."""

    name: pulumi.Output[str]
    """The claim's name."""

    def __init__(self, name: str, args: ClusterVolumeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:ClusterVolume", name, args, ["name"], opts)


class RegistryEndpointArgs(TypedDict):
    """Arguments of `RegistryEndpoint`."""

    registry: pulumi.Input[str]
    """Its address, as nodes know it."""
    username: pulumi.Input[str]
    password: pulumi.Input[str]
    """A secret."""
    port_forward: pulumi.Input[Mapping[str, Any]]
    """How it is reached: `cluster`, `namespace`, `statefulSet` and `port`."""
    revision: pulumi.Input[str]
    """Names what its pod is made from."""
    timeout_seconds: NotRequired[pulumi.Input[int] | None]
    """How long to wait at most; 600 where it is not given."""


class RegistryEndpoint(_SlipwayResource):
    """Waits until a registry in a cluster serves."""

    state: pulumi.Output[str]
    """Serving."""

    def __init__(self, name: str, args: RegistryEndpointArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:RegistryEndpoint", name, args, ["state"], opts)


class AccessKeyArgs(TypedDict):
    """Arguments of `AccessKey`."""

    name: pulumi.Input[str]
    """What it is called."""
    renewal: NotRequired[pulumi.Input[str] | None]
    """Any text; another one makes another key."""


class AccessKey(_SlipwayResource):
    """A key that clients of a service send, made once."""

    key: pulumi.Output[str]
    """A secret."""

    def __init__(self, name: str, args: AccessKeyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:AccessKey", name, args, ["key"], _keeping("key", opts))


class ModelVersionArgs(TypedDict):
    """Arguments of `ModelVersion`."""

    store: pulumi.Input[str]
    """An OCI image layout (absolute path), or a registry's address: HOST[:PORT][/PATH]."""
    quota_bytes: NotRequired[pulumi.Input[int] | None]
    """What a layout may hold, in bytes. A registry keeps to its quota by itself."""
    username: NotRequired[pulumi.Input[str] | None]
    """For a registry. Another user or password sends nothing."""
    password: NotRequired[pulumi.Input[str] | None]
    """A secret."""
    ca_certificate: NotRequired[pulumi.Input[str] | None]
    """The authority (PEM) of a registry's certificate, where it is none of those that the system trusts."""
    port_forward: NotRequired[pulumi.Input[Mapping[str, Any]] | None]
    """How a registry in a cluster is reached: `cluster`, `namespace`, `statefulSet` and `port`; else by its address."""
    parallel: NotRequired[pulumi.Input[int] | None]
    """How many files a registry is sent at once; 2 where it is not given."""
    name: pulumi.Input[str]
    """Name of the model."""
    path: pulumi.Input[str]
    """The model's file or folder."""
    framework: NotRequired[pulumi.Input[str] | None]
    framework_version: NotRequired[pulumi.Input[str] | None]
    description: NotRequired[pulumi.Input[str] | None]
    tags: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[str]]] | None]
    properties: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[str]]] | None]
    keep_versions: NotRequired[pulumi.Input[int] | None]
    """How many of the newest versions stay in the store; all of them where it is not given."""
    pinned: NotRequired[pulumi.Input[Sequence[pulumi.Input[int]]] | None]
    """Versions that stay whatever `keep_versions` says."""
    aliases: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[int]]] | None]
    """Alias -> version; these versions stay too."""
    sample_input: NotRequired[pulumi.Input[str] | None]
    sample_output: NotRequired[pulumi.Input[str] | None]


class ModelVersion(_SlipwayResource):
    """A registered model: its content as an immutable artifact, its versions counted up."""

    version: pulumi.Output[int]
    """Version of the content at `path`."""
    digest: pulumi.Output[str]
    """Digest of the artifact's manifest."""
    versions: pulumi.Output[Mapping[str, str]]
    """The versions in the store and the digest of each one's layer."""
    sizes: pulumi.Output[Mapping[str, int]]
    """The versions in the store and the bytes of each one's layer."""
    repository: pulumi.Output[str | None]
    """Where in the registry the artifacts are, below the address' path; None in a layout."""

    def __init__(self, name: str, args: ModelVersionArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        outputs = ["version", "digest", "versions", "sizes", "repository"]
        super().__init__("slipway:index:ModelVersion", name, args, outputs, opts)


class MirroredImageArgs(TypedDict):
    """Arguments of `MirroredImage`."""

    source: pulumi.Input[str]
    """Where the image is: an OCI image layout (absolute path), or a registry's address: HOST[:PORT][/PATH]."""
    source_repository: pulumi.Input[str]
    """Its repository there."""
    source_username: NotRequired[pulumi.Input[str] | None]
    source_password: NotRequired[pulumi.Input[str] | None]
    """A secret."""
    source_ca_certificate: NotRequired[pulumi.Input[str] | None]
    """The authority (PEM) of the source's certificate, where it is none of those that the system trusts."""
    digest: pulumi.Input[str]
    """Of the image, or of an index with several images, which are copied with it."""
    registry: pulumi.Input[str]
    """Where it goes, as `source`."""
    repository: pulumi.Input[str]
    """Its repository there."""
    username: NotRequired[pulumi.Input[str] | None]
    password: NotRequired[pulumi.Input[str] | None]
    """A secret."""
    ca_certificate: NotRequired[pulumi.Input[str] | None]
    """The authority (PEM) of the registry's certificate, where it is none of those that the system trusts."""
    port_forward: NotRequired[pulumi.Input[Mapping[str, Any]] | None]
    """How a registry in a cluster is reached: `cluster`, `namespace`, `statefulSet` and `port`; else by its address."""
    parallel: NotRequired[pulumi.Input[int] | None]
    """How many layers are copied at once; 2 where it is not given."""


class MirroredImage(_SlipwayResource):
    """A copy of an image, by digest."""

    reference: pulumi.Output[str]
    """The copy, as a container runtime names it: `HOST/REPOSITORY@DIGEST`."""

    def __init__(self, name: str, args: MirroredImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:MirroredImage", name, args, ["reference"], opts)


class PythonEnvironmentArgs(TypedDict):
    """Arguments of `PythonEnvironment`."""

    workspace: pulumi.Input[str]
    """Folder of the workspace."""
    requirements: pulumi.Input[Sequence[pulumi.Input[str]]]
    """What is to be installed, as in a requirements file."""
    lock_file: pulumi.Input[str]
    """Where the resolved packages are kept, with hashes."""
    python_version: NotRequired[pulumi.Input[str] | None]
    """Python's version, `3.12`; the one that runs the provider where it is not given."""
    sources: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[str]]] | None]
    """Requirement -> where it stands, for the words of a mistake."""
    torch_backend: NotRequired[pulumi.Input[str] | None]
    """Which builds of PyTorch's packages to take, in uv's words (`cpu`); by default those of the index."""
    installed: NotRequired[pulumi.Input[bool] | None]
    """False: only the lock is made, and no virtual environment."""


class PythonEnvironment(_SlipwayResource):
    """A lock, and a virtual environment with exactly its packages."""

    python: pulumi.Output[str]
    """Path of its interpreter; none where only the lock is made."""
    lock_digest: pulumi.Output[str]
    """Digest of the locked packages."""

    def __init__(self, name: str, args: PythonEnvironmentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:PythonEnvironment", name, args, ["python", "lock_digest"], opts)


class ServiceImageArgs(TypedDict):
    """Arguments of `ServiceImage`."""

    registry: pulumi.Input[str]
    """An OCI image layout (absolute path), or a registry's address: HOST[:PORT][/PATH]."""
    repository: pulumi.Input[str]
    """The repository of the service's images; no other service has it."""
    username: NotRequired[pulumi.Input[str] | None]
    password: NotRequired[pulumi.Input[str] | None]
    """A secret."""
    ca_certificate: NotRequired[pulumi.Input[str] | None]
    """The authority (PEM) of the registry's certificate, where it is none of those that the system trusts."""
    port_forward: NotRequired[pulumi.Input[Mapping[str, Any]] | None]
    """How a registry in a cluster is reached: `cluster`, `namespace`, `statefulSet` and `port`; else by its address."""
    parallel: NotRequired[pulumi.Input[int] | None]
    """How many layers are sent at once; 2 where it is not given."""
    name: pulumi.Input[str]
    """Name of the service."""
    base: pulumi.Input[str]
    """The image to begin with, which has Python: `<repository>@<digest>`."""
    base_registry: NotRequired[pulumi.Input[str] | None]
    """Where the base image is; `registry` where it is not given."""
    platform: pulumi.Input[str]
    """`linux/amd64` or `linux/arm64`."""
    python_version: pulumi.Input[str]
    """The base image's, `3.11`."""
    lock_file: pulumi.Input[str]
    """The packages of the environment, locked with hashes."""
    environment_digest: pulumi.Input[str]
    """Digest of the environment's locked packages."""
    server_directory: pulumi.Input[str]
    """Folder of the scoring server's package."""
    models: pulumi.Input[Sequence[pulumi.Input[Mapping[str, Any]]]]
    """`name`, `version`, layer `digest` and its `size` in bytes, of each model."""
    model_repositories: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[str]]] | None]
    """By name: the repository of `registry` that has the model's artifact."""
    model_layout: NotRequired[pulumi.Input[str] | None]
    """An OCI image layout that has the models which `registry` has not."""
    source_directory: NotRequired[pulumi.Input[str] | None]
    """Folder of the entry script."""
    entry_script: NotRequired[pulumi.Input[str] | None]
    """The entry script, relative to the source directory; a model is served without one."""
    environment_variables: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[str]]] | None]
    """In the image, for all to read."""
    port: pulumi.Input[int]
    """TCP port that the service listens on in its container."""


class ServiceImage(_SlipwayResource):
    """The image of a service, put together from layers without a Docker daemon."""

    reference: pulumi.Output[str]
    """As a container runtime names it, by digest."""
    digest: pulumi.Output[str]
    """Digest of the image's manifest."""
    revision: pulumi.Output[str]
    """Names what the image is made from."""
    size: pulumi.Output[int]
    """Bytes of the whole image."""
    layers: pulumi.Output[Sequence[Mapping[str, Any]]]
    """`kind`, `digest` and `size` in bytes of each layer, the base image's first."""

    def __init__(self, name: str, args: ServiceImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        outputs = ["reference", "digest", "revision", "size", "layers"]
        super().__init__("slipway:index:ServiceImage", name, args, outputs, opts)


class ImageIndexArgs(TypedDict):
    """Arguments of `ImageIndex`."""

    registry: pulumi.Input[str]
    """An OCI image layout (absolute path), or a registry's address: HOST[:PORT][/PATH]."""
    repository: pulumi.Input[str]
    """The repository that the images are in."""
    images: pulumi.Input[Sequence[pulumi.Input[Mapping[str, pulumi.Input[str]]]]]
    """`platform`, `digest` and `revision` of each."""
    username: NotRequired[pulumi.Input[str] | None]
    password: NotRequired[pulumi.Input[str] | None]
    """A secret."""
    ca_certificate: NotRequired[pulumi.Input[str] | None]
    """The authority (PEM) of the registry's certificate, where it is none of those that the system trusts."""
    port_forward: NotRequired[pulumi.Input[Mapping[str, Any]] | None]
    """How a registry in a cluster is reached: `cluster`, `namespace`, `statefulSet` and `port`; else by its address."""
    parallel: NotRequired[pulumi.Input[int] | None]
    """How many requests at once; 2 where it is not given."""


class ImageIndex(_SlipwayResource):
    """One name for the images of several platforms."""

    reference: pulumi.Output[str]
    """As a container runtime names it, by digest."""
    digest: pulumi.Output[str]
    """Digest of the index."""
    revision: pulumi.Output[str]
    """Names what the images are made from."""

    def __init__(self, name: str, args: ImageIndexArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:ImageIndex", name, args, ["reference", "digest", "revision"], opts)


class LocalServiceArgs(TypedDict):
    """Arguments of `LocalService`."""

    workspace: pulumi.Input[str]
    """Folder of the workspace."""
    name: pulumi.Input[str]
    """Name of the service."""
    port: pulumi.Input[int]
    """TCP port."""
    python: pulumi.Input[str]
    """Interpreter of the service's environment."""
    environment_digest: pulumi.Input[str]
    """Digest of the environment's locked packages."""
    source_directory: pulumi.Input[str]
    """Folder of the entry script."""
    entry_script: pulumi.Input[str]
    """The entry script, relative to the source directory."""
    server_directory: pulumi.Input[str]
    """Folder of the scoring server's package."""
    models: pulumi.Input[Sequence[pulumi.Input[Mapping[str, Any]]]]
    """`name`, `version` and layer `digest` of each model."""
    model_registry: NotRequired[pulumi.Input[str] | None]
    """Where the models are, as `ModelVersion`'s `store`; the workspace's own layout where it is not given."""
    model_username: NotRequired[pulumi.Input[str] | None]
    model_password: NotRequired[pulumi.Input[str] | None]
    """A secret."""
    model_ca_certificate: NotRequired[pulumi.Input[str] | None]
    """The authority (PEM) of the registry's certificate, where it is none of those that the system trusts."""
    model_port_forward: NotRequired[pulumi.Input[Mapping[str, Any]] | None]
    """As `ModelVersion`'s `port_forward`."""
    model_parallel: NotRequired[pulumi.Input[int] | None]
    """How many models are fetched at once; 2 where it is not given."""
    model_repositories: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[str]]] | None]
    """By name: the repository of a model's artifact (`ModelVersion.repository`)."""
    environment_variables: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[str]]] | None]
    sample_request: NotRequired[pulumi.Input[str] | None]
    """File with a request body that a revision must answer before it takes traffic."""
    startup_timeout_seconds: NotRequired[pulumi.Input[int] | None]


class LocalService(_SlipwayResource):
    """A web service on this machine, kept alive by a supervisor of its own."""

    revision: pulumi.Output[str]
    """The revision asked for."""

    def __init__(self, name: str, args: LocalServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:LocalService", name, args, ["revision"], opts)


class ReplicaOwnershipArgs(TypedDict):
    """Arguments of `ReplicaOwnership`."""

    cluster: pulumi.Input[Mapping[str, Any]]
    """How the cluster is reached: `kubeconfig` (a path) and `context`, where they are not those of kubectl."""
    namespace: pulumi.Input[str]
    deployment: pulumi.Input[str]
    """Name of a Deployment, which need not be there yet."""


class ReplicaOwnership(_SlipwayResource):
    """Sees to it that no autoscaler of the stack says how many pods a Deployment has."""

    owned: pulumi.Output[bool]
    """True. Not known in a preview that finds an autoscaler in the way."""

    def __init__(self, name: str, args: ReplicaOwnershipArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:ReplicaOwnership", name, args, ["owned"], opts)


class EndpointArgs(TypedDict):
    """Arguments of `Endpoint`."""

    target: pulumi.Input[Mapping[str, Any]]
    """What to watch; its `kind` says where: `local` with `workspace` and `service`; `container` with `engine`,
    `service`, `containers` (their names), `image`, and the limits `cpus` and `memoryBytes` where there are any;
    `kubernetes` with `cluster` (`kubeconfig`, `context`), `namespace`, `service`, `deployment`, `port`, and, where
    there are any, `image`, `replicas`, `keysFile`, and `autoscaler`: its `name`, the group of the `api` that tells it
    the load, and `provided`, whether the stack itself brings that."""
    revision: pulumi.Input[str]
    """The revision that must answer."""
    scoring_uri: NotRequired[pulumi.Input[str] | None]
    """Where clients reach it, on targets whose services are reached before the endpoint is satisfied."""
    sample_request: NotRequired[pulumi.Input[str] | None]
    """File with a request body that must be answered."""
    timeout_seconds: NotRequired[pulumi.Input[int] | None]
    """How long to wait at most; 600 where it is not given."""
    models: NotRequired[pulumi.Input[Sequence[pulumi.Input[Mapping[str, Any]]]]]
    """`name` and `version` of each model, for the history of what was deployed (`make history`)."""


class Endpoint(_SlipwayResource):
    """Waits until a revision serves, verifies it, and names its state."""

    state: pulumi.Output[str]
    """Transitioning, Unhealthy, Unschedulable, Failed or Healthy."""

    def __init__(self, name: str, args: EndpointArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:Endpoint", name, args, ["state"], opts)


class RouterEndpointArgs(TypedDict):
    """Arguments of `RouterEndpoint`."""

    target: pulumi.Input[Mapping[str, Any]]
    """The router's Deployment: as the target of an `Endpoint` of the kind `kubernetes`."""
    revision: pulumi.Input[str]
    """Names what its pods are made from: the annotation `slipway/revision` of theirs."""
    timeout_seconds: NotRequired[pulumi.Input[int] | None]
    """How long to wait at most; 600 where it is not given."""


class RouterEndpoint(_SlipwayResource):
    """Waits until a router on a cluster is rolled out, and names its state."""

    state: pulumi.Output[str]
    """As of an `Endpoint`."""

    def __init__(self, name: str, args: RouterEndpointArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:RouterEndpoint", name, args, ["state"], opts)


class RouteArgs(TypedDict):
    """Arguments of `Route`."""

    engine: pulumi.Input[Mapping[str, pulumi.Input[str]]]
    """The Docker engine that runs the router: `host` and, for TLS, the folder `certPath`."""
    router: pulumi.Input[str]
    """Name of the router's container."""
    service: pulumi.Input[str]
    """Name of the service."""
    port: pulumi.Input[int]
    """TCP port of the host that clients connect to."""
    bind: NotRequired[pulumi.Input[str] | None]
    """Address of the host to listen on; all of IPv4 where it is not given."""
    host: NotRequired[pulumi.Input[str] | None]
    """The name or address in the URIs; told by the engine's address where it is not given."""
    certificate: NotRequired[pulumi.Input[str] | None]
    """A certificate chain, PEM: the service is reached over TLS alone."""
    private_key: NotRequired[pulumi.Input[str] | None]
    """The certificate's key, PEM; a secret."""
    primary_key: NotRequired[pulumi.Input[str] | None]
    """A key that clients may send; a secret."""
    secondary_key: NotRequired[pulumi.Input[str] | None]
    """The other key; a secret."""
    scoring_timeout_ms: NotRequired[pulumi.Input[int] | None]
    """The scoring server's longest time for an answer, which the router waits for; 60,000 where it is not given."""
    deployments: pulumi.Input[Sequence[pulumi.Input[Mapping[str, Any]]]]
    """`name`, `revision`, `weight` in percent, and `sockets` (paths) of each; the weights add up to 100."""
    containers: NotRequired[pulumi.Input[Sequence[pulumi.Input[str]]]]
    """Ids of their containers: where another one takes the place of one, `up` ends once it answers."""


class Route(_SlipwayResource):
    """The way of clients' requests to the deployments of a service."""

    scoring_uri: pulumi.Output[str]
    """Where requests are posted to."""
    swagger_uri: pulumi.Output[str]
    """Where the service's description is."""
    revision: pulumi.Output[str]
    """The revision that gets the largest share of the requests."""
    revisions: pulumi.Output[Mapping[str, str]]
    """Deployment -> revision."""

    def __init__(self, name: str, args: RouteArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["privateKey", "primaryKey", "secondaryKey"])
        outputs = ["scoring_uri", "swagger_uri", "revision", "revisions"]
        super().__init__("slipway:index:Route", name, args, outputs, pulumi.ResourceOptions.merge(opts, secret))
