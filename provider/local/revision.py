"""A revision of a local service: what its name is made of, and its directory, which holds all that its process reads.

The directory is made under another name and renamed when complete. It holds a copy of the code, the sample request,
links to the models under the paths that Azure uses, and `spec.json`: what the supervisor starts, in which
environment, and which shared things it refers to.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from provider.content.source import snapshot
from provider.content.watch import Watch
from provider.images.parallel import run_all
from provider.local import shared
from provider.local.client import mark
from provider.local.layers import layers_of, parallel_of
from provider.local.layout import (
    PARTIAL,
    SPEC,
    ServicePaths,
    hexadecimal,
    locked,
    models,
    remove_tree,
    servers,
    write_json,
)
from provider.local.models import extracted
from provider.local.surroundings import base_environment
from provider.sample_request import content_type
from provider.values import Properties

SERVER_PACKAGE = "slipway_serving"
_LINKS = "azureml-models"


def revision_of(inputs: Properties) -> str:
    """The name of the revision that `inputs` describe, all known: 16 hexadecimal digits. Content alone decides, and
    settings that the process sees; the port, times and paths of this machine are no part of it."""
    models = sorted([model["name"], int(model["version"]), model["digest"]] for model in inputs["models"])
    identity = {
        "models": models,
        "code": inputs["codeDigest"],
        "entryScript": inputs["entryScript"],
        "environment": inputs["environmentDigest"],
        "server": inputs["serverDigest"],
        "environmentVariables": inputs.get("environmentVariables") or {},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def prepare(paths: ServicePaths, inputs: Properties, is_cancelled: Callable[[], bool], watch: Watch) -> str:
    """Makes the directory of the revision that `inputs` describe, and what it refers to. Returns the revision.

    Idempotent. Raises `ResourceError`, `ContentError` where the code is another by now, OSError."""
    revision = revision_of(inputs)
    place = paths.revision(revision)
    partial = paths.revisions / f"{PARTIAL}{revision}"
    with locked(shared.lock_of(paths.home), shared=True):
        remove_tree(partial)
        partial.mkdir(parents=True)
        # First of all: from now on nothing that this revision refers to is collected.
        write_json(partial / SPEC, spec_of(paths, inputs, revision))
        _server(paths.home, inputs)
        _models(paths.home, inputs, is_cancelled, watch)
        for model in inputs["models"]:
            content = models(paths.home) / hexadecimal(model["digest"])
            link = partial / _LINKS / model["name"] / str(model["version"])
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(content / "models" / model["name"])
        _copy_sample(inputs, partial)
        if place.is_dir():  # the same content: only how it is run may have changed
            for name in ("sample", SPEC):
                if (partial / name).exists():
                    (partial / name).replace(place / name)
            remove_tree(partial)
            return revision
        snapshot(Path(inputs["sourceDirectory"]), partial / "code", inputs["codeDigest"])
        partial.rename(place)
    return revision


def spec_of(paths: ServicePaths, inputs: Properties, revision: str) -> dict[str, Any]:
    """What the supervisor is to run for a revision."""
    place = paths.revision(revision)
    code = place / "code"
    model_directory = _model_directory(place, inputs["models"])
    # Not --model-dir: AZUREML_MODEL_DIR says it, with the path that Azure has, and not the one its links lead to.
    arguments = ["--entry-script", inputs["entryScript"], "--revision", revision, "--service-name", paths.name]
    sample = inputs.get("sampleRequest")
    return {
        "revision": revision,
        "service": paths.name,
        "python": inputs["python"],
        "argv": [inputs["python"], "-m", SERVER_PACKAGE, *arguments],
        "directory": str(code),
        "environment": _environment(paths, inputs, revision, code, model_directory),
        "models": inputs["models"],
        "serverDigest": inputs["serverDigest"],
        "sample": {"path": str(place / "sample"), "contentType": content_type(Path(sample))} if sample else None,
    }


def _environment(
    paths: ServicePaths, inputs: Properties, revision: str, code: Path, model_directory: Path | None
) -> dict[str, str]:
    base = base_environment(os.environ)
    base["PATH"] = f"{Path(inputs['python']).parent}:{base['PATH']}"
    own = dict(inputs.get("environmentVariables") or {})
    server = str(servers(paths.home) / hexadecimal(inputs["serverDigest"]))
    environment = {
        **base,
        "PYTHONUNBUFFERED": "1",
        **own,
        "PYTHONPATH": f"{server}:{own['PYTHONPATH']}" if own.get("PYTHONPATH") else server,
        "AML_APP_ROOT": str(code),
        "AZUREML_ENTRY_SCRIPT": inputs["entryScript"],
        "SLIPWAY_REVISION": revision,
        **mark(paths),
    }
    if model_directory is not None:
        environment["AZUREML_MODEL_DIR"] = str(model_directory)
    return environment


def _model_directory(place: Path, models: list[dict[str, Any]]) -> Path | None:
    """Where Azure's AZUREML_MODEL_DIR points: to the version's folder for one model, above all models for several."""
    if not models:
        return None
    if len(models) == 1:
        return place.joinpath(_LINKS, str(models[0]["name"]), str(models[0]["version"]))
    return place / _LINKS


def _models(home: Path, inputs: Properties, is_cancelled: Callable[[], bool], watch: Watch) -> None:
    """Extracts the models, several at once: each may come from far away."""
    open_layer = layers_of(inputs, watch)
    work: list[Callable[[], object]] = [
        functools.partial(extracted, home, model["digest"], is_cancelled, open_layer(model))
        for model in inputs["models"]
    ]
    run_all(work, parallel_of(inputs))


def _server(home: Path, inputs: Properties) -> None:
    place = servers(home) / hexadecimal(inputs["serverDigest"])
    if place.is_dir():
        return
    with locked(place.with_name(f".{place.name}.lock")):
        if place.is_dir():
            return
        partial = place.with_name(f"{PARTIAL}{place.name}")
        remove_tree(partial)
        partial.mkdir()
        snapshot(Path(inputs["serverDirectory"]), partial / SERVER_PACKAGE, inputs["serverDigest"])
        partial.rename(place)


def _copy_sample(inputs: Properties, partial: Path) -> None:
    sample = inputs.get("sampleRequest")
    if sample:
        (partial / "sample").write_bytes(Path(sample).read_bytes())
