"""Rows of a benchmark: printed as a table, and written to `benchmarks/results/<name>.json`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One measured figure of ours, beside that of each peer measured in the same run."""

    what: str
    unit: str
    ours: float
    limit: float | None = None
    """What `ours` is to stay within (below it; above it for rates); None where there is no such aim."""
    peers: Mapping[str, float] = field(default_factory=dict)


def write(name: str, rows: Sequence[Row]) -> Path:
    """Writes the rows with what machine they were measured on; returns the file."""
    RESULTS.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    return file


def table(rows: Sequence[Row]) -> str:
    """The rows as text, a column for each peer."""
    peers = list(dict.fromkeys(name for row in rows for name in row.peers))
    lines = [["what", "unit", "ours", "limit", *peers]]
    for row in rows:
        limit = "" if row.limit is None else f"{row.limit:,.4g}"
        others = [f"{row.peers[name]:,.4g}" if name in row.peers else "" for name in peers]
        lines.append([row.what, row.unit, f"{row.ours:,.4g}", limit, *others])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
