"""The fixture that starts servers and ends every one of them with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.serving.support import Serving

Serve = Callable[..., Serving]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a server with a script: `serve(script, *options, env=...)`."""
    started: list[Serving] = []

    def start(*arguments: str | None, wait: bool = True, directory: Path | None = None, **keywords: object) -> Serving:
        place = directory or tmp_path / f"server-{len(started)}"
        server = Serving(place, *arguments, **keywords)  # type: ignore[arg-type]
        started.append(server)
        return server.wait_ready() if wait else server

    yield start
    for server in started:
        server.stop()
