"""What a resource is given with each operation, by the tests in the engine's place: a context, and a log in it."""

from __future__ import annotations

from typing import Any

from provider.resource import Context


class Lines:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        """Everything."""
        self.lines: list[str] = []
        """What stays on the screen: all but the progress."""
        self.warnings: list[str] = []

    def info(self, message: str) -> None:
        self.said.append(message)
        self.lines.append(message)

    def warning(self, message: str) -> None:
        self.info(message)
        self.warnings.append(message)

    def status(self, message: str) -> None:
        self.said.append(message)


def urn(kind: str, name: str, stack: str = "dev") -> str:
    """The URN of a resource of the project's; `kind` may have its parents before it (`slipway:index:Model$...`)."""
    return f"urn:pulumi:{stack}::slipway::{kind}::{name}"


def context(kind: str, name: str, *, log: Lines | None = None, stack: str = "dev", **more: Any) -> Context:
    """The context of an operation on such a resource; `more` are further fields of it."""
    return Context(urn(kind, name, stack), log if log is not None else Lines(), **more)
