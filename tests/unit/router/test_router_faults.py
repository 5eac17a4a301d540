"""What is said of a router that goes away while it is told something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from provider.container.engine import Engine, Finished
from provider.resource import ResourceError
from provider.router.configuration import Deployment, Service
from provider.router.router import Router, Wanted

SERVICE = Service("digits", 8890, "0.0.0.0", False, False, 60_000, (Deployment("blue", 100, ("/run/slipway/a.sock",)),))
WANTED = Wanted(SERVICE, "owner", (), None, "")


class FakeEngine:
    """An engine whose router answers each command in turn, by its first word."""

    host = "unix:///s"

    def __init__(self, **answers: Finished) -> None:
        self.answers = answers

    def inspect(self, container: str) -> dict[str, Any]:
        return {"State": {"Running": True}}

    def put(self, *arguments: Any) -> None:
        pass

    def log(self, container: str, lines: int) -> list[str]:
        return []

    def execute(self, container: str, command: Sequence[str], seconds: float = 0) -> Finished:
        return self.answers[command[4]]


def said(**answers: Finished) -> str:
    router = Router(cast(Engine, FakeEngine(**answers)), "router")
    with pytest.raises(ResourceError) as raised:
        router.apply(WANTED, lambda _: None)
    return str(raised.value)


CUT_OFF = Finished(137, b"%% file services/digits.cfg\nsome of it", b"")
NOTHING = Finished(0, b"", b"")


@pytest.mark.parametrize(
    ("doing", "answers"),
    [("facts", {"facts": CUT_OFF}), ("load", {"facts": NOTHING, "load": Finished(137, b"", b"")})],
)
def test_a_router_that_ended_meanwhile_is_told_as_that(doing: str, answers: dict[str, Finished]) -> None:
    assert said(**answers) == (
        f"the router router on unix:///s ended while it did `{doing}` (exit code 137). `pulumi up` tries again; what "
        "it said: docker logs router"
    )


def test_what_a_router_says_itself_is_told() -> None:
    assert (
        said(facts=Finished(1, b"", b"no such file\n"))
        == "the router router on unix:///s did not do `facts`: no such file"
    )
    refused = said(facts=NOTHING, load=Finished(1, b"", b"refused: unknown keyword\n"))
    assert refused.startswith("the router router does not take the service digits: unknown keyword. What was routed")
