"""Which cases of a benchmark run, and how large they are: by environment variables, the same in each benchmark."""

from __future__ import annotations

import os


def chosen(name: str, variable: str) -> bool:
    """Whether the variable (parts of names, separated by commas) chooses `name`; all are where it is not set."""
    wanted = os.environ.get(variable)
    return wanted is None or any(part.strip().lower() in name.lower() for part in wanted.split(","))


def rounds() -> int:
    """How often each figure is measured (BENCH_ROUNDS); the median counts."""
    return int(os.environ.get("BENCH_ROUNDS", "3"))


def shrink() -> int:
    """What BENCH_SHRINK divides sizes by, to try whether a benchmark runs; 1 otherwise."""
    return int(os.environ.get("BENCH_SHRINK", "1"))
