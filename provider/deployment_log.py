"""What an `Endpoint` remembers of the revisions that came to serve: kept in the stack's state, newest last.

Pulumi keeps the states of earlier updates on some of its backends only, and hands them out on one; what the newest
state carries can be read from each. Only revisions that became healthy are remembered: others never served.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from provider.values import Properties

KEPT = 100
"""So many of the newest entries stay in the state, about 150 bytes each."""


def remembered(state: Properties | None, news: Properties) -> list[dict[str, Any]]:
    """The log of `state`, with what is deployed by `news` as its newest entry.

    An entry is the `time` (ISO 8601, UTC) at which a `revision` was found healthy, with its `models` as
    `name:version`. The same revision again is no entry: it has served all the time.
    """
    log: list[dict[str, Any]] = list((state or {}).get("history") or [])
    models = [f"{model['name']}:{model['version']}" for model in news.get("models") or []]
    what = {"revision": news["revision"], "models": models}
    if log and {key: log[-1].get(key) for key in what} == what:
        return log
    return [*log, {"time": datetime.now(UTC).isoformat(timespec="seconds"), **what}][-KEPT:]
