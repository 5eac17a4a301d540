"""How a bad condition is told to the user: the error that waiting for a service or a registry ends with. Pure."""

from __future__ import annotations

from provider.condition import Cause, Condition

_SHOWN_LINES = 15


def story(what: str, condition: Condition, *more: str) -> str:
    """The error. `what` is in that condition; `more` are lines of its own that stand before what is to be done."""
    cause = condition.cause
    lines = [f"{what}: {condition.state} ({condition.reason})", f"  {condition.message}"]
    if cause is not None:
        lines += _details(cause)
    lines += more
    if cause is not None and cause.hint:
        lines.append(f"What to do: {cause.hint}.")
    return "\n".join(lines)


def _details(cause: Cause) -> list[str]:
    """The last lines of what a process said."""
    lines = []
    if cause.traceback:
        lines.append("The traceback's last lines:")
        lines += [f"  | {line}" for line in cause.traceback[-_SHOWN_LINES:]]
    elif cause.log:
        lines.append("The log's last lines:")
        lines += [f"  | {line}" for line in cause.log[-_SHOWN_LINES:]]
    return lines
