"""`azureml.core.model.Model.get_model_path`: where the files of a registered model are, for scripts that ask."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["Model", "ModelNotFoundException"]


class ModelNotFoundException(Exception):  # noqa: N818 - the name is Azure's
    """No model of that name, or version, belongs to this service."""


class Model:
    """The part of Azure's `Model` that works inside a web service."""

    @staticmethod
    def get_model_path(model_name: str, version: int | str | None = None, _workspace: Any = None) -> str:
        """The path of a model's file or folder.

        With one model AZUREML_MODEL_DIR is `.../azureml-models/<name>/<version>`; with several it is
        `.../azureml-models`, and the models are `<name>/<version>` below. A version that holds a single file is given
        as that file. Raises ModelNotFoundException, naming the models there are.
        """
        root = Path(os.environ.get("AZUREML_MODEL_DIR") or "azureml-models")
        known = _models(root)
        versions = known.get(model_name)
        if not versions:
            names = ", ".join(sorted(known)) or "none"
            raise ModelNotFoundException(
                f"There is no model {model_name!r} in {root}. Models of this service: {names}."
            )
        wanted = max(versions, key=_order) if version is None else str(version)
        if wanted not in versions:
            raise ModelNotFoundException(
                f"There is no version {version} of model {model_name!r}; there are: "
                f"{', '.join(sorted(versions, key=_order))}."
            )
        path = versions[wanted]
        if not path.is_dir():
            return str(path)
        content = list(path.iterdir())
        return str(content[0] if len(content) == 1 else path)


def _order(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdigit() else (-1, version)


def _models(root: Path) -> dict[str, dict[str, Path]]:
    """Models and their versions: in Azure's layout, for one model or for several, or a plain directory of models."""
    if root.name.isdigit() and root.is_dir():
        return {root.parent.name: {root.name: root}}
    found: dict[str, dict[str, Path]] = {}
    if root.is_dir():
        for path in root.iterdir():
            versions = {p.name: p for p in path.iterdir() if p.name.isdigit()} if path.is_dir() else {}
            found[path.name] = versions or {"1": path}
        if root.name != "azureml-models":
            # A directory named after its only model, as --model-dir may be
            found.setdefault(root.name, {"1": root})
    return found
