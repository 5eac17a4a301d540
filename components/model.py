"""Models: files registered under a name, with versions that count up and metadata that may change."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, cast

import pulumi

from components.registry import Registry
from provider import sdk


class ModelArgs(TypedDict):
    """Arguments of `Model`."""

    registry: Registry
    """Where it is registered."""
    name: str
    """Name of the model."""
    path: str
    """Its file or folder."""
    framework: NotRequired[str | None]
    """ScikitLearn, Onnx, TensorFlow, ..."""
    framework_version: NotRequired[str | None]
    """The framework's version."""
    description: NotRequired[str | None]
    """What it is for."""
    tags: NotRequired[Mapping[str, str] | None]
    """Tags, `name: value`."""
    properties: NotRequired[Mapping[str, str] | None]
    """Properties, `name: value`."""
    keep_versions: NotRequired[int | None]
    """How many of the newest versions stay registered."""
    pinned: NotRequired[Sequence[int] | None]
    """Versions that services name: they stay whatever `keep_versions` says."""
    aliases: NotRequired[Mapping[str, int] | None]
    """Alias -> version; these versions stay too."""
    sample_input: NotRequired[str | None]
    """A sample of what it takes."""
    sample_output: NotRequired[str | None]
    """What it answers to that."""


@dataclass(frozen=True)
class ServedModel:
    """A version of a model, for a service to serve."""

    name: str
    reference: pulumi.Output[dict[str, Any]]
    """`name`, `version`, layer `digest` and its `size`."""
    repository: pulumi.Output[str] | None
    """Where in the registry its artifact is; None in a layout."""


def repositories_of(models: Iterable[ServedModel]) -> dict[str, pulumi.Output[str]] | None:
    """The repositories of models by their names; None where the registry is a layout."""
    found = {model.name: model.repository for model in models if model.repository is not None}
    return found or None


class Model(pulumi.ComponentResource):
    """A registered model."""

    id: pulumi.Output[str]
    """`name:version`, as in Azure."""
    version: pulumi.Output[int]
    """The current version: the one of the content at `path`."""
    digest: pulumi.Output[str]
    """Digest of the current version's artifact."""

    def __init__(self, name: str, args: ModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:components:Model", name, {}, opts)
        registry = args["registry"]
        resource = sdk.ModelVersion(
            f"{name}-version",
            {
                "store": registry.location,
                "quota_bytes": registry.quota_bytes if registry.kind == "layout" else None,
                "username": registry.username,
                "password": registry.password,
                "ca_certificate": registry.ca_certificate,
                "port_forward": registry.port_forward,
                "parallel": registry.parallel,
                "name": args["name"],
                "path": args["path"],
                "framework": args.get("framework"),
                "framework_version": args.get("framework_version"),
                "description": args.get("description"),
                "tags": args.get("tags"),
                "properties": args.get("properties"),
                "keep_versions": args.get("keep_versions"),
                "pinned": args.get("pinned"),
                "aliases": args.get("aliases") or None,
                "sample_input": args.get("sample_input"),
                "sample_output": args.get("sample_output"),
            },
            registry.options_inside(self),
        )
        self._name = args["name"]
        self._references: dict[int | None, pulumi.Output[dict[str, Any]]] = {}
        self._versions, self._sizes = resource.versions, resource.sizes
        # In a registry it always has one.
        self._repository = None if registry.kind == "layout" else cast("pulumi.Output[str]", resource.repository)
        self.version = resource.version
        self.digest = resource.digest
        self.id = self.version.apply(lambda version: f"{args['name']}:{version}")
        self.register_outputs({"id": self.id, "version": self.version, "digest": self.digest})

    def served(self, version: int | None = None) -> ServedModel:
        """A version as services take it, the current one where none is given."""
        return ServedModel(self._name, self.reference(version), self._repository)

    def reference(self, version: int | None = None) -> pulumi.Output[dict[str, Any]]:
        """`name`, `version`, layer `digest` and its `size` of a version, the current one where none is given.

        Fails, in a preview too where the versions are known, when the registry does not have it."""
        if version not in self._references:
            self._references[version] = pulumi.Output.all(self.version, self._versions, self._sizes).apply(
                lambda known: _reference(self._name, version if version is not None else known[0], known[1], known[2])
            )
        return self._references[version]


def _reference(name: str, version: int, versions: Mapping[str, str], sizes: Mapping[str, int] | None) -> dict[str, Any]:
    # Pulumi's numbers are doubles.
    key = str(int(version))
    if key not in versions:
        raise pulumi.RunError(
            f"the model {name!r} has no version {key}; registered are {', '.join(sorted(versions, key=int))}"
        )
    reference: dict[str, Any] = {"name": name, "version": int(version), "digest": versions[key]}
    if sizes is not None and key in sizes:  # not in a state that was written before sizes were kept
        reference["size"] = int(sizes[key])
    return reference
