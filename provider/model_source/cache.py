"""Where copies of, and links to, models of runs are kept: they can be made again at any time."""

import os
from pathlib import Path


def directory() -> Path:
    """`$XDG_CACHE_HOME/slipway/mlflow`, by default below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification: a path that is not absolute is to be ignored.
    root = Path(base) if base.startswith("/") else Path("~/.cache").expanduser()
    return root / "slipway" / "mlflow"
