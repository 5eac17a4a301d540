"""Small stand-ins for the parts of Azure's packages that entry scripts import; they step aside for the real ones.

`install` appends a finder to the end of `sys.meta_path`: it is asked only for what no installed package provides.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, cast

MODULES = {
    "azureml": None,
    "azureml.contrib": None,
    "azureml.contrib.services": None,
    "azureml.contrib.services.aml_request": "slipway_serving.compat.services",
    "azureml.contrib.services.aml_response": "slipway_serving.compat.services",
    "azureml_inference_server_http": None,
    "azureml_inference_server_http.api": None,
    "azureml_inference_server_http.api.aml_request": "slipway_serving.compat.services",
    "azureml_inference_server_http.api.aml_response": "slipway_serving.compat.services",
    "inference_schema": None,
    "inference_schema.schema_decorators": "slipway_serving.compat.schema",
    "inference_schema.schema_util": "slipway_serving.compat.schema",
    "inference_schema.parameter_types": None,
    "inference_schema.parameter_types.abstract_parameter_type": "slipway_serving.compat.schema",
    "inference_schema.parameter_types.standard_py_parameter_type": "slipway_serving.compat.schema",
    "inference_schema.parameter_types.numpy_parameter_type": "slipway_serving.compat.schema_numpy",
    "inference_schema.parameter_types.pandas_parameter_type": "slipway_serving.compat.schema_pandas",
    "azureml.monitoring": "slipway_serving.compat.monitoring",
    "azureml.core": "slipway_serving.compat.core",
    "azureml.core.model": "slipway_serving.compat.core",
}
"""The modules stood in for, and where their names come from; None is an empty package."""


class _Finder:
    """Finder and loader in one; the abstract classes for them cost 10 ms of start time to import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in MODULES:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in MODULES)
        return importlib.machinery.ModuleSpec(
            fullname, cast(Any, self), is_package=is_package, origin="slipway_serving.compat"
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        source = MODULES[module.__name__]
        if source is None:
            return
        names = importlib.import_module(source)
        for name in names.__all__:
            setattr(module, name, getattr(names, name))


def install() -> None:
    """Make the stand-ins importable. Calling it again changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(cast(Any, _Finder()))
