"""A stand-in for the API server, and what it is asked about."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from provider.kubernetes import cluster as connecting
from provider.kubernetes import looking
from provider.values import Properties
from tests.unit.kubernetes import objects
from tests.unit.kubernetes.api_server import ApiServer, serving


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving() as server:
        yield server


@pytest.fixture
def at_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is `objects.NOW` on the cluster, and the provider was started an hour before."""
    monkeypatch.setattr(connecting.Cluster, "now", lambda _: objects.NOW)
    monkeypatch.setattr(looking, "_STARTED", datetime.now(UTC) - timedelta(hours=1))


@pytest.fixture
def inputs(api: ApiServer, tmp_path: Path, at_now: None) -> Properties:
    """The inputs of what waits for a Deployment."""
    place = {
        "kind": "kubernetes",
        "cluster": {"kubeconfig": str(api.kubeconfig(tmp_path))},
        "namespace": "models",
        "service": "mnist",
        "deployment": "mnist",
        "port": 5001,
    }
    return {"target": place, "revision": "r2", "timeoutSeconds": 180}
