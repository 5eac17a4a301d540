"""Whether a registry that does not answer is gone: one of this machine is, one elsewhere may come back."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from provider.content.watch import Watch
from provider.location import Location
from provider.registry.address import parse
from tests.ports import free_port


@pytest.fixture
def named_here(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that leads to this machine, and is not known for that."""
    resolve = socket.getaddrinfo

    def resolved(host: Any, *arguments: Any, **named: Any) -> Any:
        return resolve("127.0.0.1" if host == "registry.example" else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    return f"registry.example:{free_port()}"


def test_a_registry_of_this_machine_that_does_not_answer_is_gone(named_here: str) -> None:
    assert "Connection refused" in str(Location(named_here).gone(Watch()))


def test_one_elsewhere_is_not() -> None:
    assert Location("198.51.100.1:5000").gone(Watch()) is None


def test_which_addresses_are_of_this_machine(named_here: str) -> None:
    for place in ("localhost:5000", "127.0.0.1:5000", "https://127.8.8.8", named_here):
        assert parse(place).is_of_this_machine, place
    for place in ("198.51.100.1:5000", "[2001:db8::1]:5000"):
        assert not parse(place).is_of_this_machine, place
