"""`make history`: which revision of each service, with which versions of its models, came to serve when.

Each service's endpoint keeps that in the stack's state, whose newest version `pulumi stack export` gives on every
backend; `pulumi stack history` tells of the updates in which it happened. Where a service was deleted, what its
endpoint kept is read from the state before that (`infra.earlier_states`), on the backends that have it; on others, what
may be missing is said.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from infra.earlier_states import earlier_states
from infra.setup.problem import SetupError, report

NEAR_SECONDS = 30
"""So far from an update may an entry be that belongs to it: backends keep whole seconds, by clocks of their own."""

Resources = list[dict[str, Any]]
Name = tuple[str, str]
"""A service, and which of its deployments (`default` where it has one)."""
Deployments = dict[Name, list[dict[str, Any]]]
"""What the endpoint of each remembers (`provider/deployment_log.py`)."""


@dataclass(frozen=True)
class Update:
    """One update of the stack, as Pulumi tells it."""

    number: int
    """1 is the first."""
    result: str
    """`succeeded`, `failed` or `in-progress`."""
    start: datetime
    end: datetime
    deleted: bool
    """Whether a resource was deleted."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    update: int | None
    """The update's number; None where Pulumi kept no note of it, since it was killed."""
    time: str
    """ISO 8601, UTC: when the revision was found healthy, or the service deleted."""
    result: str
    """The update's."""
    service: str | None
    """None: the update deployed nothing."""
    deployment: str | None
    """`default` where the service has one alone."""
    revision: str | None
    """None: it was deleted."""
    models: list[str]
    """`name:version` of each."""


class PulumiError(Exception):
    """A `pulumi` command failed, and has said why on stderr. `code` is its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"pulumi ended with {code}")
        self.code = code


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code, which is Pulumi's where Pulumi fails."""
    parser = argparse.ArgumentParser(prog="python -m infra.history")
    parser.add_argument("stack", help="name of the stack")
    parser.add_argument("--all", action="store_true", help="updates that deployed nothing as well")
    parser.add_argument("--json", action="store_true", help="for programs: a list of objects, times in UTC")
    options = parser.parse_args(arguments)
    stack: str = options.stack
    try:
        told = json.loads(pulumi("history", "--json", "--page-size", "0", "--stack", stack))
        newest = json.loads(pulumi("export", "--stack", stack))["deployment"].get("resources") or []
        rows, unknown = history(updates(told), newest, earlier_states(stack, told), every=options.all)
    except PulumiError as error:
        return error.code
    except SetupError as problem:
        return report(problem)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print(table(rows) if rows else f"No service of stack {stack} was deployed so far.")
    if unknown:
        numbers = ", ".join(str(number) for number in unknown)
        print(
            f"note: this backend gives no earlier states. Services that were deleted (resources were, in update "
            f"{numbers}) are not shown.",
            file=sys.stderr,
        )
    return 0


def pulumi(*arguments: str) -> str:
    """The output of a command of `pulumi stack`; raises PulumiError."""
    command = ["pulumi", "stack", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise PulumiError(done.returncode)
    return done.stdout


def updates(told: Sequence[dict[str, Any]]) -> list[Update]:
    """The updates in the order in which they happened; `told` is Pulumi's JSON, the newest first.

    Pulumi Cloud numbers them; other backends tell 0 for each, and keep all of them.
    """
    return [
        Update(
            number=update.get("version") or position,
            result=update["result"],
            start=moment(update["startTime"]),
            end=moment(update.get("endTime") or update["startTime"]),
            deleted=bool((update.get("resourceChanges") or {}).get("delete")),
        )
        for position, update in enumerate(reversed(told), start=1)
    ]


def moment(time: str) -> datetime:
    """An ISO 8601 time; one without an offset is UTC."""
    parsed = datetime.fromisoformat(time)
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def deployments(resources: Resources) -> Deployments:
    """What the endpoints in a state remember."""
    found: Deployments = {}
    for resource in resources:
        if resource["type"] == "slipway:index:Endpoint" and not resource.get("delete"):
            found[name_of(resource)] = (resource.get("outputs") or {}).get("history") or []
    return found


def name_of(endpoint: dict[str, Any]) -> Name:
    """The service is the endpoint's id. Its resource is named after that and, on targets where a service may have
    several, the deployment: `digits-endpoint`, `digits-blue-endpoint`."""
    service: str = endpoint["id"]
    name = endpoint["urn"].rpartition("::")[2].removesuffix("-endpoint")
    return service, name.removeprefix(service).removeprefix("-") or "default"


def history(
    happened: Sequence[Update],
    newest: Resources,
    state_after: Callable[[int], Resources | None],
    *,
    every: bool = False,
) -> tuple[list[Row], list[int]]:
    """The rows, newest first, and the numbers of those updates that may have deleted services unseen.

    `state_after` gives the resources after the update of that index in `happened`, None where they are not to be had.
    With `every`, updates that deployed nothing have a row as well.
    """
    remembered = [deployments(newest)]
    rows: list[Row] = []
    unknown: list[int] = []
    for index, update in enumerate(happened):
        if not update.deleted:
            continue
        before, after = state_after(index - 1) if index else [], state_after(index)
        if before is None or after is None:
            unknown.append(update.number)
            continue
        remembered.append(deployments(before))
        gone = deployments(before).keys() - deployments(after).keys()
        rows += [Row(update.number, utc(update.end), update.result, *name, None, []) for name in gone]
    rows += deployed(happened, remembered)
    if every:
        shown = {row.update for row in rows}
        quiet = [update for update in happened if update.number not in shown]
        rows += [Row(update.number, utc(update.end), update.result, None, None, None, []) for update in quiet]
    return sorted(rows, key=_order, reverse=True), unknown


def _order(row: Row) -> tuple[str, int, str, str]:
    return row.time, row.update or 0, row.service or "", row.deployment or ""


def deployed(happened: Sequence[Update], remembered: Sequence[Deployments]) -> list[Row]:
    """A row for each entry that any of the states remembers; the later states repeat those of the earlier."""
    entries = {
        (name, entry["time"], entry["revision"]): entry["models"]
        for state in remembered
        for name, log in state.items()
        for entry in log
    }
    rows = []
    for (name, time, revision), models in entries.items():
        update = update_at(happened, moment(time))
        number, result = (None, "interrupted") if update is None else (update.number, update.result)
        rows.append(Row(number, utc(moment(time)), result, *name, revision, models))
    return rows


def update_at(happened: Sequence[Update], time: datetime) -> Update | None:
    """The update that `time` belongs to. A killed one may be unknown, and what it did then belongs to none."""

    def distance(update: Update) -> float:
        return max((update.start - time).total_seconds(), (time - update.end).total_seconds(), 0)

    nearest = min(happened, key=distance, default=None)
    return nearest if nearest is not None and distance(nearest) <= NEAR_SECONDS else None


def utc(time: datetime) -> str:
    """`time` as the rows hold it."""
    return time.astimezone(UTC).isoformat(timespec="seconds")


def label(row: Row) -> str:
    """The service, with its deployment where it has more than one."""
    if row.service is None:
        return "-"
    return row.service if row.deployment == "default" else f"{row.service}/{row.deployment}"


def table(rows: Sequence[Row]) -> str:
    """The rows in columns, with a heading; times are those of this machine's zone."""
    cells = [
        ["update", "time", "result", "service", "revision", "models"],
        *(
            [
                "-" if row.update is None else str(row.update),
                moment(row.time).astimezone().isoformat(sep=" ", timespec="seconds"),
                row.result,
                label(row),
                row.revision or ("-" if row.service is None else "deleted"),
                ", ".join(row.models) or "-",
            ]
            for row in rows
        ),
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


if __name__ == "__main__":
    sys.exit(main())
