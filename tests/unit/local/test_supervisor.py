"""The supervisor with real processes, which run the fake server."""

from __future__ import annotations

from tests.unit.local.conftest import Service, get


def test_starts_a_service(service: Service) -> None:
    status = service.deploy(service.revision("aaaa"))
    assert (status["state"], status["reason"], status["active"]) == ("Healthy", "Serving", "aaaa")
    assert get(service.port)["revision"] == "aaaa"
