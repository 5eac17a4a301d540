"""Finds, imports and initialises an entry script: a Python file with `init()` and `run(data)`, as Azure ML v1 defines
it.

What `run` takes and what it may return is `binding`'s business; when it runs is the scheduler's.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

from slipway_serving.failures import StartError, describe, user_traceback

MODULE_NAME = "entry_module"
"""The name Azure's server imports the script under; pickles made in a script may depend on it."""


def find(entry_script: str, source_directory: Path, app_root: Path) -> Path:
    """The script's path: absolute, else below the source directory, else below the application root.

    Raises StartError("EntryScriptError") where there is no such file.
    """
    tried = [directory / entry_script for directory in dict.fromkeys((source_directory, app_root, Path.cwd()))]
    for path in tried:
        if path.is_file():
            return path.resolve()
    places = ", ".join(str(path) for path in dict.fromkeys(tried))
    raise StartError(
        "EntryScriptError",
        f"There is no entry script {entry_script!r}: looked for {places}. Name it with --entry-script.",
    )


def load(path: Path, source_directory: Path, app_root: Path) -> ModuleType:
    """Import the script, with its own directory and the source directory importable.

    Raises StartError: ImportError (a module is missing), EntryScriptError (anything else, and a script without `init`
    or `run`).
    """
    make_importable([path.parent, source_directory, app_root])
    spec = importlib.util.spec_from_file_location(MODULE_NAME, path)
    if spec is None or spec.loader is None:
        raise StartError("EntryScriptError", f"The entry script {path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise StartError(
            "ImportError",
            f"{path.name} imports {error.name!r}, which the environment does not have. "
            "Add the package to the service's environment.",
            user_traceback(error),
        ) from error
    except ImportError as error:
        raise StartError("ImportError", f"{path.name}: {describe(error)}", user_traceback(error)) from error
    except BaseException as error:
        raise StartError("EntryScriptError", f"{path.name}: {describe(error)}", user_traceback(error)) from error
    missing = [name for name in ("init", "run") if not callable(getattr(module, name, None))]
    if missing:
        raise StartError(
            "EntryScriptError", f"{path.name} defines no {' and no '.join(f'{name}()' for name in missing)}."
        )
    return module


def make_importable(directories: list[Path]) -> None:
    """Put directories on the import path: before installed packages, so that a script's own modules win over those, and
    behind the standard library, which nothing of a script's should replace.
    """
    entries = [str(directory.resolve()) for directory in directories]
    new = [entry for entry in dict.fromkeys(entries) if entry not in sys.path]
    installed = (index for index, entry in enumerate(sys.path) if entry.endswith(("site-packages", "dist-packages")))
    place = next(installed, len(sys.path))
    sys.path[place:place] = new


def run_of(module: ModuleType) -> Callable[..., Any]:
    """The function to call for a request.

    Azure's tools generate driver scripts that forward to the script proper; as in Azure's server, its `run` is called
    directly, since the drivers pass named parameters on wrongly.
    """
    driven = getattr(module, "driver_module", None)
    function: Callable[..., Any] = (
        driven.run if isinstance(driven, ModuleType) and hasattr(driven, "run") else module.run
    )
    return function


def initialise(module: ModuleType, complete: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
    """Call the script's `init()`; `complete` runs it where it is a coroutine.

    Raises StartError("InitError") with the user's own traceback.
    """
    try:
        result = module.init()
        if inspect.iscoroutine(result):
            complete(result)
    except BaseException as error:
        name = Path(getattr(module, "__file__", None) or "the entry script").name
        raise StartError("InitError", f"init() of {name} failed: {describe(error)}", user_traceback(error)) from error
