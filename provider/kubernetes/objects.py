"""Objects of the API as they are in JSON, and what is read from them in many places. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from provider.condition import Condition

Object = Mapping[str, Any]

REVISION = "slipway/revision"
"""The annotation of pods that names the revision they run."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "slipway"}
"""The label of everything that a stack makes."""
GRACE_SECONDS = 10.0
"""How long something may be wrong that often mends itself, before it counts as known to be in vain."""

WORST = ("Healthy", "Transitioning", "Unhealthy", "Unschedulable", "Failed")
"""From best to worst."""


@dataclass(frozen=True)
class Verdict:
    """A condition, and how sure it is."""

    condition: Condition
    hopeless: bool = False
    """Whether waiting is known to bring no better one."""
    at: datetime | None = None
    """When what it rests on happened, where that is known."""


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of several; what is known to be in vain counts before what may get better."""
    return max(verdicts, key=lambda verdict: (verdict.hopeless, WORST.index(verdict.condition.state)))


@dataclass(frozen=True)
class Event:
    """An event, which Kubernetes keeps for an hour."""

    reason: str
    message: str
    first: datetime | None
    last: datetime | None
    count: int
    field: str
    """The part of the object: `spec.containers{main}`."""

    @classmethod
    def of(cls, obj: Object) -> Event:
        """The event that is an object of the API. Some writers fill other members in than others."""
        series = obj.get("series") or {}
        made = obj.get("eventTime") or part(obj, "metadata", "creationTimestamp")
        return cls(
            reason=str(obj.get("reason") or ""),
            message=str(obj.get("message") or "").strip(),
            first=moment(obj.get("firstTimestamp") or made),
            last=moment(series.get("lastObservedTime") or obj.get("lastTimestamp") or made),
            count=int(series.get("count") or obj.get("count") or 1),
            field=str(part(obj, "involvedObject", "fieldPath") or ""),
        )


def latest(events: Sequence[Event], *reasons: str, containing: str = "") -> Event | None:
    """The latest event for one of these reasons."""
    found = [event for event in events if event.reason in reasons and containing in event.message]
    return max(found, key=lambda event: event.last or datetime.min.replace(tzinfo=UTC), default=None)


def part(obj: Any, *steps: str) -> Any:
    """A member of a member; None where there is none."""
    for step in steps:
        obj = obj.get(step) if isinstance(obj, Mapping) else None
    return obj


def name_of(obj: Object) -> str:
    return str(part(obj, "metadata", "name") or "")


def revision_of(obj: Object) -> str | None:
    """The revision that a pod, or the pods of a template, are for."""
    found = (part(obj, "metadata", "annotations") or {}).get(REVISION)
    return None if found is None else str(found)


def status_of(obj: Object, kind: str) -> Object:
    """The condition of that type; empty where there is none."""
    return next((c for c in part(obj, "status", "conditions") or () if c.get("type") == kind), {})


def number(obj: Object, *steps: str) -> int:
    """A number; 0 where it is left out, as Kubernetes does with zeros."""
    return int(part(obj, *steps) or 0)


def owned_by(obj: Object, owner: Object) -> bool:
    """Whether the controller `owner` made it."""
    uid = part(owner, "metadata", "uid")
    return any(
        one.get("uid") == uid and one.get("controller") for one in part(obj, "metadata", "ownerReferences") or ()
    )


def moment(text: Any) -> datetime | None:
    """A time of the API's."""
    if not text:
        return None
    return datetime.fromisoformat(re.sub(r"\.\d+", "", str(text)).replace("Z", "+00:00")).astimezone(UTC)


def seconds_since(then: datetime | None, now: datetime) -> float:
    """How long ago something was; 0 where it is not known."""
    return 0.0 if then is None else (now - then).total_seconds()


_QUANTITY = re.compile(r"^([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(m|u|n|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
_POWERS = {
    **{"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18},
    **{f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)},
}


def quantity(text: Any) -> float:
    """An amount as Kubernetes writes it: `500m`, `2`, `1.5Gi`. What is none counts as 0."""
    match = _QUANTITY.match(str(text).strip())
    return 0.0 if match is None else float(match[1]) * _POWERS[match[2] or ""]


def amount(resource: str, value: float) -> str:
    """An amount for people: CPUs and devices as numbers, bytes in MiB or GiB."""
    if resource not in ("memory", "ephemeral-storage") and not resource.startswith("hugepages-"):
        return f"{value:g}"
    mebibytes = value / 1024**2
    return f"{mebibytes / 1024:.4g} GiB" if mebibytes >= 1024 else f"{mebibytes:.4g} MiB"
