"""The state machine of one service on this machine: pure, without processes, sockets or clocks.

A `Record` says what is asked for, what serves, how far a rollout has come and what is wrong. Each method is one event
and gives the next record; `condition` derives one of the five states. The supervisor holds the current record and does
the work (`rollout`, `keeper`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from provider.condition import Cause, Condition, State

Phase = Literal["Starting", "Checking", "Switching", "NoResources"]

_PHASES: dict[Phase, str] = {
    "Starting": "the process of revision {revision} is starting",
    "Checking": "revision {revision} is being checked before it takes traffic",
    "Switching": "traffic is moving to revision {revision}",
    "NoResources": "this machine cannot start the process of revision {revision} now; it is tried again",
}


@dataclass(frozen=True)
class Record:
    """Where a service stands."""

    desired: str | None = None
    """The revision asked for."""
    active: str | None = None
    """The revision that traffic goes to; None before the first one was ready."""
    up: bool = False
    """Whether the active revision's process is in working order."""
    phase: Phase | None = None
    """How far the rollout of the desired revision has come; None when none is under way."""
    failure: Cause | None = None
    """Why the last rollout failed; None when it did not."""
    trouble: Cause | None = None
    """Why the active revision is not up, or was not the last time."""
    restarts: int = 0
    """How often the active revision's process was started again."""

    def wanted(self, revision: str) -> Record:
        """A rollout of `revision` begins; it takes the place of one that is under way."""
        return replace(self, desired=revision, phase="Starting", failure=None)

    def settled(self, revision: str) -> Record:
        """`revision` is asked for and is active already: what was under way or had failed no longer matters."""
        if revision != self.active:
            raise ValueError(f"revision {revision} is not active")
        return replace(self, desired=revision, phase=None, failure=None)

    def reached(self, phase: Phase) -> Record:
        """The rollout came to another phase."""
        return replace(self, phase=phase) if self.phase is not None else self

    def failed(self, cause: Cause) -> Record:
        """The rollout failed. What is active stays so."""
        return replace(self, phase=None, failure=cause) if self.phase is not None else self

    def took_over(self) -> Record:
        """The desired revision's process has the public socket now."""
        if self.phase is None:
            return self
        return replace(self, active=self.desired, up=True, phase=None, failure=None, trouble=None, restarts=0)

    def went_down(self, cause: Cause) -> Record:
        """The active revision's process ended, or stopped answering."""
        return replace(self, up=False, trouble=cause) if self.active is not None else self

    def came_up(self) -> Record:
        """The active revision's process was started again and answers."""
        if self.active is None:
            return self
        return replace(self, up=True, restarts=self.restarts + 1)

    @property
    def serving(self) -> str | None:
        """The revision that answers requests at this moment."""
        return self.active if self.up else None

    @property
    def condition(self) -> Condition:
        """The state of the desired revision."""
        if self.phase is not None:
            state: State = "Unschedulable" if self.phase == "NoResources" else "Transitioning"
            return Condition(state, self.phase, _PHASES[self.phase].format(revision=self.desired), self._why_down)
        if self.failure is not None:
            return Condition("Failed", self.failure.reason, self.failure.message, self.failure)
        if self.active is None:
            return Condition("Transitioning", "Waiting", "nothing has been asked for yet")
        if not self.up:
            reason = self.trouble.reason if self.trouble is not None else "NotRunning"
            message = self.trouble.message if self.trouble is not None else "the process is not running"
            return Condition("Unhealthy", reason, f"{message}; it is started again", self.trouble)
        return Condition("Healthy", "Serving", f"revision {self.active} is serving")

    @property
    def _why_down(self) -> Cause | None:
        return None if self.up else self.trouble
