"""What the provider was told: which cluster, which namespace, and how to treat some changes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from provider.resource import ResourceError

HONOURED = frozenset(
    {
        *("kubeconfig", "context", "cluster", "namespace", "enableConfigMapMutable", "enableSecretMutable"),
        *("deleteUnreachable", "skipUpdateUnreachable", "kubeClientSettings", "clusterIdentifier"),
        *("suppressDeprecationWarnings", "suppressHelmHookWarnings", "enableServerSideApply"),
        "enablePatchForce",
    }
)
"""The settings of the official plugin that mean the same here."""
_ENGINES = frozenset({"version", "pluginDownloadURL", "pluginChecksums"})
_VARIABLES = {
    "enableConfigMapMutable": "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE",
    "enableSecretMutable": "PULUMI_K8S_ENABLE_SECRET_MUTABLE",
    "deleteUnreachable": "PULUMI_K8S_DELETE_UNREACHABLE",
    "enablePatchForce": "PULUMI_K8S_ENABLE_PATCH_FORCE",
    "skipUpdateUnreachable": "PULUMI_K8S_SKIP_UPDATE_UNREACHABLE",
}


@dataclass(frozen=True)
class Settings:
    """The provider's settings."""

    kubeconfig: str = ""
    """A path, or the content; empty: what KUBECONFIG names, or ~/.kube/config."""
    context: str = ""
    cluster: str = ""
    namespace: str = ""
    """Of objects that name none; empty: the context's."""
    config_maps_change: bool = False
    secrets_change: bool = False
    delete_unreachable: bool = False
    skip_update_unreachable: bool = False
    takes_over: bool = False
    """Whether fields are taken away from other managers."""

    @classmethod
    def of(cls, given: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings that the engine gives, with those that the environment has in their stead."""

        def switched_on(name: str) -> bool:
            return str(given.get(name, environment.get(_VARIABLES[name], ""))).lower() == "true"

        def text(name: str) -> str:
            value = given.get(name)
            return value if isinstance(value, str) else ""

        return cls(
            kubeconfig=text("kubeconfig"),
            context=text("context"),
            cluster=text("cluster"),
            namespace=text("namespace"),
            config_maps_change=switched_on("enableConfigMapMutable"),
            secrets_change=switched_on("enableSecretMutable"),
            delete_unreachable=switched_on("deleteUnreachable"),
            skip_update_unreachable=switched_on("skipUpdateUnreachable"),
            takes_over=switched_on("enablePatchForce"),
        )

    @property
    def files(self) -> list[Path]:
        """The kubeconfig files, where the settings do not hold the content itself."""
        if self.kubeconfig and not is_content(self.kubeconfig):
            return [Path(self.kubeconfig).expanduser()]
        named = os.environ.get("KUBECONFIG", "")
        if named:
            return [Path(part).expanduser() for part in named.split(os.pathsep) if part]
        return [Path("~/.kube/config").expanduser()]


def problems(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings that cannot be honoured: the name, and why."""
    found = [
        (
            name,
            f"is not a setting of this stand-in for the kubernetes plugin; known are {', '.join(sorted(HONOURED))}",
        )
        for name in sorted(given)
        if name not in HONOURED | _ENGINES and not name.startswith("__")
    ]
    if str(given.get("enableServerSideApply", "true")).lower() == "false":
        found.append(("enableServerSideApply", "this stand-in knows server-side apply alone; leave the setting out"))
    return found


def is_content(kubeconfig: str) -> bool:
    """Whether the text is a kubeconfig itself rather than the path of one."""
    return "\n" in kubeconfig.strip() or kubeconfig.lstrip().startswith("{")


def load(settings: Settings) -> dict[str, Any]:
    """The kubeconfig, as kubectl joins several files: the first to name something wins. Raises `ResourceError`."""
    if settings.kubeconfig and is_content(settings.kubeconfig):
        return _parsed(settings.kubeconfig, "the provider's setting kubeconfig")
    joined: dict[str, Any] = {"current-context": "", "contexts": [], "clusters": [], "users": []}
    for file in settings.files:
        if not file.is_file():
            continue
        document = _parsed(file.read_text(), str(file))
        joined["current-context"] = joined["current-context"] or document.get("current-context") or ""
        for section in ("contexts", "clusters", "users"):
            known = {entry.get("name") for entry in joined[section]}
            joined[section] += [e for e in document.get(section) or () if e.get("name") not in known]
    return joined


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ResourceError(f"{where} is not a kubeconfig: {error}") from None
    if not isinstance(document, dict):
        raise ResourceError(f"{where} is not a kubeconfig: it is no map")
    return document


def active(kubeconfig: Mapping[str, Any], settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """The context that is used, and its cluster; empty where there is none."""
    name = settings.context or kubeconfig.get("current-context") or ""
    context = _entry(kubeconfig, "contexts", name, "context")
    cluster = settings.cluster or context.get("cluster") or ""
    return context, _entry(kubeconfig, "clusters", cluster, "cluster")


def _entry(kubeconfig: Mapping[str, Any], section: str, name: str, member: str) -> dict[str, Any]:
    return next((e.get(member) or {} for e in kubeconfig.get(section) or () if e.get("name") == name), {})


def default_namespace(settings: Settings) -> str:
    """The namespace of objects that name none."""
    if settings.namespace:
        return settings.namespace
    try:
        context, _ = active(load(settings), settings)
    except (ResourceError, OSError):
        return "default"  # told where the cluster is needed
    return context.get("namespace") or "default"
