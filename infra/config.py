"""The stack configuration's vocabulary: one pydantic model a section, with Azure's field names.

Pure: nothing here reads a file, the network or the clock. A field that a model does not know is an error; what spans
sections is checked in `references`, what is on disk in `preflight`. `stacks/schema.json` is generated from these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

NAMESPACE = "slipway:"
"""What the keys of the configuration begin with: the project's name."""


def _dns_label(name: str) -> str:
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) is None:
        raise ValueError(
            f"{name!r} is no DNS label (RFC 1123): 1 to 63 of a-z, 0-9 and '-', the first and last a letter or digit"
        )
    return name


def _asset_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", name) is None:
        raise ValueError(
            f"{name!r} is no name: up to 255 letters, digits, '.', '_' and '-', the first a letter or digit"
        )
    return name


def _model_reference(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}(:[1-9][0-9]*|@[A-Za-z][A-Za-z0-9_]{0,62})?", text) is None:
        raise ValueError(
            f"{text!r} must be the name of a model, name:version with a whole number from 1, or name@alias"
        )
    return text


def _alias(name: str) -> str:
    # Beside a model's name it becomes a tag, `name-alias`: with a dash or as a number it could be another one's.
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name) is None:
        raise ValueError(f"{name!r} is no alias: up to 63 letters, digits and '_', a letter first")
    return name


def _text(value: object) -> object:
    # YAML reads 1.7 and true as what they look like; as a tag or a variable they mean their text.
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


DnsLabel = Annotated[str, AfterValidator(_dns_label)]
AssetName = Annotated[str, AfterValidator(_asset_name)]
Alias = Annotated[str, AfterValidator(_alias)]
Text = Annotated[str, BeforeValidator(_text)]
Path = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """What all sections share."""

    # The fields' docstrings come into the schema by `infra.schema`: to have pydantic read the source for them
    # (`use_attribute_docstrings`) would cost every preview a tenth of a second.
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Workspace(Section):
    """The workspace: everything of a stack belongs to it."""

    name: DnsLabel
    """Name, a DNS label."""
    description: str | None = None
    """What the workspace is for."""
    tags: Mapping[AssetName, Text] = {}
    """Tags, `name: value`."""


class Registry(Section):
    """The container registry of the workspace."""

    tier: Literal["Basic", "Standard", "Premium"] = "Basic"
    """Basic: 10 GiB; Standard: 100 GiB; Premium: 500 GiB."""


class LocalTarget(Section):
    """This machine: services run as supervised processes, without a container."""

    kind: Literal["local"]
    """The kind of target."""


ComputeTarget = LocalTarget
"""Every kind of compute target; a union once there is a second one."""


class Environment(Section):
    """The packages that services run with, beside those of the scoring server."""

    clone: AssetName | None = None
    """Environment to begin with: a curated one (`minimal`, `sklearn`, `onnx`, `tensorflow`, `pytorch`) or another of
    this file."""
    pip: tuple[str, ...] = ()
    """Packages to add, as pip names them: `scikit-learn`, `numpy>=2,<3`."""
    pip_requirements_file: Path | None = None
    """A requirements file with packages to add, relative to the project's folder."""
    conda_dependencies_file: Path | None = None
    """A conda file: its pip packages, Python's version, and from PyPI its conda packages."""
    python_version: Annotated[str, Field(pattern=r"^3\.\d+$")] | None = None
    """Python's version, `"3.12"` (in quotes); by default the one that runs Slipway."""
    environment_variables: Mapping[str, Text] = {}
    """Environment variables of the services."""


class MlflowRun(Section):
    """A training run that MLflow tracked: one by its id, or the best one of an experiment."""

    tracking_uri: Path = "mlruns"
    """Where MLflow tracks: a folder or `sqlite:///mlflow.db`, relative to the project's folder, or `http://...`."""
    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] | None = None
    """Id of the run."""
    experiment: Annotated[str, Field(min_length=1)] | None = None
    """In the place of an id: the name of an experiment, whose best finished run is taken."""
    metric: Annotated[str, Field(min_length=1)] | None = None
    """The metric that says which run is the best."""
    mode: Literal["max", "min"] | None = None
    """Whether the highest (`max`, the default) or the lowest (`min`) value is the best."""
    artifact_path: Annotated[str, Field(min_length=1)] = "model"
    """The model among the run's artifacts, or the name that it was logged with."""

    @model_validator(mode="after")
    def _one_run(self) -> Self:
        if (self.run_id is None) == (self.experiment is None):
            raise ValueError("needs either `runId` or `experiment`")
        if self.run_id is None and self.metric is None:
            raise ValueError("needs the `metric` that says which run of the experiment is the best")
        if self.run_id is not None and (self.metric is not None or self.mode is not None):
            raise ValueError("has a `runId`, beside which `metric` and `mode` mean nothing; remove them")
        return self


class Model(Section):
    """A registered model."""

    path: Path | None = None
    """File or folder, relative to the project's folder."""
    mlflow: MlflowRun | None = None
    """In the place of a path: the training run that made it."""
    framework: str | None = None
    """Framework, as in Azure: ScikitLearn, Onnx, TensorFlow, ..."""
    framework_version: Text | None = None
    """The framework's version."""
    description: str | None = None
    """What the model is for."""
    tags: Mapping[AssetName, Text] = {}
    """Tags, `name: value`; they can change."""
    properties: Mapping[AssetName, Text] = {}
    """Properties, `name: value`."""
    keep_versions: Annotated[int, Field(ge=1)] | None = None
    """How many of the newest versions stay registered (and those that a service or an alias names); by default all."""
    aliases: Mapping[Alias, Annotated[int, Field(ge=1)]] = {}
    """Names for versions, `champion: 3`; they can move."""
    sample_input: Path | None = None
    """File with a sample of what it takes, up to 64 KiB of text; kept with the version."""
    sample_output: Path | None = None
    """File with what it answers to that."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.path is None and self.mlflow is None:
            raise ValueError("has neither a `path` nor an `mlflow` run; add one of them")
        return self

    @property
    def location(self) -> str:
        """The path of its files: that of a run is known once the run is found, as it is in a plan."""
        if self.path is None:
            raise ValueError("the run of this model was not looked for")
        return self.path


class CondaDependencies(Section):
    """The conda part of an Azure environment; its conda packages are taken from PyPI."""

    name: str | None = None
    channels: tuple[str, ...] = ()
    dependencies: tuple[str | Mapping[Literal["pip"], tuple[str, ...]], ...] = ()


class AzurePython(Section):
    """The `python` part of an Azure environment."""

    interpreter_path: Literal["python"] | None = None
    user_managed_dependencies: Literal[False] | None = None
    conda_dependencies: CondaDependencies | None = None
    conda_dependencies_file: Path | None = None
    base_conda_environment: None = None


class AzureEnvironment(Section):
    """An environment written out in an Azure `inferenceconfig.json`."""

    name: AssetName
    version: str | None = None
    environment_variables: Mapping[str, Text] = {}
    python: AzurePython = AzurePython()


class InferenceConfig(Section):
    """How a model is served: the fields of Azure's `inferenceconfig.json`."""

    entry_script: Path
    """The script with `init()` and `run()`, relative to the source directory."""
    source_directory: str | None = None
    """Folder with the script and all it imports, relative to the project's folder (in a file: to that file's)."""
    environment: AssetName | AzureEnvironment = "minimal"
    """Name of an environment, or one written out."""
    conda_file: Path | None = None
    """In the place of an environment: a conda file, relative to the source directory."""
    runtime: Literal["python", "python-slim"] | None = None
    """Azure's word for the kind of service, where a file says it."""
    description: str | None = None
    """What this is."""


class DeploymentConfig(Section):
    """What the service gets on its target: the fields of Azure's `deploymentconfig.json` that a local target knows."""

    compute_type: Literal["local"] | None = None
    """Azure's word for the kind of target; must fit the service's compute target."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """TCP port on 127.0.0.1."""


class Service(Section):
    """A web service: models, a script, a target."""

    models: tuple[Annotated[str, AfterValidator(_model_reference)], ...] = ()
    """Models it serves: `name`, `name:version` for one that stays, or `name@alias`."""
    inference: InferenceConfig | Path
    """How it is served, or the path of an Azure `inferenceconfig.json`."""
    compute_target: AssetName
    """Name of the target."""
    deployment: DeploymentConfig | Path
    """What it gets there, or the path of an Azure `deploymentconfig.json`."""
    sample_request: Path | None = None
    """File with a request's body that a new revision must answer before it takes traffic."""
    startup_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = 300
    """How long `init()` may take."""


class StackConfig(Section):
    """The whole configuration of a stack."""

    include: tuple[str, ...] = ()
    """YAML files with more of the four sections below, relative to the project's folder."""
    workspace: Workspace
    registry: Registry = Registry()
    compute_targets: Mapping[AssetName, ComputeTarget] = {}
    environments: Mapping[AssetName, Environment] = {}
    models: Mapping[AssetName, Model] = {}
    services: Mapping[DnsLabel, Service] = {}


AZURE_DEPLOYMENT_FIELDS = frozenset(
    {
        "containerResourceRequirements",
        "location",
        "authEnabled",
        "sslEnabled",
        "appInsightsEnabled",
        "sslCertificate",
        "sslKey",
        "sslCert",
        "cname",
        "dnsNameLabel",
        "autoScaler",
        "dataCollection",
        "maxConcurrentRequestsPerContainer",
        "maxQueueWaitMs",
        "namespace",
        "numReplicas",
        "scoringTimeoutMs",
        "tokenAuthEnabled",
        "primaryKey",
        "secondaryKey",
        "livenessProbeRequirements",
        "gpuCores",
        "isDefault",
        "trafficPercentile",
    }
)
"""Fields of Azure's `deploymentconfig.json` that only other targets can honour (Azure ML CLI v1)."""


def field_names() -> frozenset[str]:
    """Every field name of the vocabulary, as written in YAML."""
    return frozenset(field.alias or name for model in _sections(Section) for name, field in model.model_fields.items())


def _sections(base: type[Section]) -> list[type[Section]]:
    return [item for child in base.__subclasses__() for item in (child, *_sections(child))]
