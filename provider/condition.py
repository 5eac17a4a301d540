"""The five states of a deployed service, and the cause that goes with a bad one. The same for every compute target.

The states are those of Azure ML's web services. This module only names and carries them; how a state comes about is the
target's matter (`provider.local.record` on this machine), how it is told to the user is `provider.story`'s.

The supervisor imports it, so it stays small: standard library only, nothing that is slow to load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

State = Literal["Transitioning", "Unhealthy", "Unschedulable", "Failed", "Healthy"]

FINAL: Final[frozenset[State]] = frozenset({"Failed", "Healthy"})
"""States that no longer change by themselves as long as nothing else happens."""


@dataclass(frozen=True)
class Cause:
    """Why a revision is not healthy."""

    reason: str
    """A code for programs: `InitError`, `StartupTimeout`, `OutOfMemory`, ..."""
    message: str
    """One sentence for people."""
    exit_code: int | None = None
    """The exit code of the process, where it ended by itself."""
    signal: str | None = None
    """Name of the signal that ended the process (`SIGKILL`)."""
    out_of_memory: bool = False
    """Whether the kernel ended a process for want of memory at that time."""
    traceback: tuple[str, ...] = ()
    """Last lines of the Python traceback, where there is one."""
    log: tuple[str, ...] = ()
    """Last lines that the process wrote."""
    hint: str = ""
    """What to do about it."""

    def as_json(self) -> dict[str, Any]:
        """The cause as a JSON object."""
        return {field.name: _listed(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cause:
        """The cause that `as_json` wrote. Unknown members are ignored: another version may have written it."""
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items() if name in known
        }
        return cls(**values)


@dataclass(frozen=True)
class Condition:
    """A service's state with its reason code, a message, and the cause where something is wrong."""

    state: State
    reason: str
    message: str
    cause: Cause | None = None

    @property
    def final(self) -> bool:
        """Whether waiting any longer brings nothing new."""
        return self.state in FINAL


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
