"""`python -m benchmarks [NAME ...]`: runs the named benchmarks, or all, and prints their tables."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from benchmarks import report

_NOT_BENCHMARKS = {"report"}


def names() -> list[str]:
    """Every benchmark: a module or package here with a function `run` that returns rows."""
    here = str(Path(__file__).parent)
    return [
        module.name
        for module in pkgutil.iter_modules([here])
        if module.name not in _NOT_BENCHMARKS and not module.name.startswith("_")
    ]


def main(chosen: list[str]) -> None:
    unknown = set(chosen) - set(names())
    if unknown:
        sys.exit(f"no benchmark is named {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    for name in chosen or names():
        print(f"--- {name}", flush=True)
        rows = importlib.import_module(f"benchmarks.{name}").run()
        print(report.table(rows))
        print(f"written to {report.write(name, rows)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
