"""What tests of several rooms have in common."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Tests do not time things. Without this an example has 0.2 s, and what is drawn for the first ten of them 1 s together:
# where processes stand in line for a processor, that is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder for sockets: their paths have 107 bytes at most, of which `tmp_path` may take all."""
    with tempfile.TemporaryDirectory(prefix="short-") as folder:
        yield Path(folder)
