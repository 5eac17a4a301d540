"""Removes what a killed `pulumi` was making on a Docker engine when it was cut short.

A container or network that the engine made, and whose making Pulumi's state does not know to have ended, is in the way
of the next deployment under the same name. It is removed only where it has all the labels that it was to get, and where
it was to get some: what else has that name belongs to somebody else, and the deployment will say so. Pulumi notes an
unfinished creation for good, also once a later deployment made the thing: what the state has stays.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

KINDS = {"docker:index/container:Container": "container", "docker:index/network:Network": "network"}
_SECONDS = 60


class Leftover(NamedTuple):
    """Something that may have been made."""

    kind: str
    name: str
    labels: dict[str, str]
    engine: dict[str, str]
    """The environment by which `docker` reaches its engine."""


def unfinished(state: dict[str, Any]) -> Iterator[Leftover]:
    """What a stack's state (a checkpoint) says to have been in the making on a Docker engine."""
    deployment = (state.get("checkpoint") or state).get("latest") or state.get("deployment") or {}
    providers = {
        f"{resource['urn']}::{resource.get('id', '')}": resource.get("inputs") or {}
        for resource in deployment.get("resources") or []
        if str(resource.get("type", "")) == "pulumi:providers:docker"
    }
    # One that was deleted for its replacement is there until that one is.
    made = {_place(one) for one in deployment.get("resources") or [] if not one.get("pendingReplacement")}
    for operation in deployment.get("pending_operations") or []:
        resource = operation.get("resource") or {}
        kind = KINDS.get(str(resource.get("type", "")))
        inputs = resource.get("inputs") or {}
        labels = inputs.get("labels")
        if operation.get("type") != "creating" or kind is None or not labels or not isinstance(labels, list):
            continue
        if _place(resource) in made:
            continue
        yield Leftover(
            kind,
            str(inputs.get("name", "")),
            {str(label["label"]): str(label["value"]) for label in labels},
            engine_of(providers.get(str(resource.get("provider", "")), {})),
        )


def _place(resource: dict[str, Any]) -> tuple[str, str, str]:
    """What a resource takes on its engine: a name of its kind. A provider's id may change, its URN does not."""
    name = str((resource.get("inputs") or {}).get("name", ""))
    return str(resource.get("type", "")), str(resource.get("provider", "")).rpartition("::")[0], name


def engine_of(provider: dict[str, Any]) -> dict[str, str]:
    """The environment for an engine that a provider's inputs name."""
    engine = {}
    if isinstance(provider.get("host"), str):
        engine["DOCKER_HOST"] = provider["host"]
    if isinstance(provider.get("certPath"), str):
        engine |= {"DOCKER_CERT_PATH": provider["certPath"], "DOCKER_TLS_VERIFY": "1"}
    return engine


def remove(stored: Path) -> list[str]:
    """Removes what is left over of the operations that the state in the file `stored` has pending; returns names."""
    try:
        leftovers = list(unfinished(json.loads(stored.read_text())))
    except (OSError, ValueError, KeyError):
        return []  # Pulumi itself will say what is wrong with the state
    return [leftover.name for leftover in leftovers if leftover.name and is_ours(leftover) and removed(leftover)]


def is_ours(leftover: Leftover) -> bool:
    """Whether it is there with the labels that it was to get."""
    text = _docker(leftover, "inspect", "--format", "{{json .}}", leftover.name)
    if text is None:
        return False
    found = json.loads(text)
    labels = (found.get("Config") or {}).get("Labels") if leftover.kind == "container" else found.get("Labels")
    return leftover.labels.items() <= (labels or {}).items()


def removed(leftover: Leftover) -> bool:
    """Removes it; False where the engine does not."""
    options = ["--force", "--volumes"] if leftover.kind == "container" else []
    return _docker(leftover, "rm", *options, leftover.name) is not None


def _docker(leftover: Leftover, command: str, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["docker", leftover.kind, command, *arguments],
            env={**os.environ, **leftover.engine},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
