"""What every resource of the provider is made of: declared inputs, a check, an exact diff, and the five operations.

A resource is a class with one instance in the process. It declares its inputs once; from that follow the checks of
names and types, and the diff, which compares the declared inputs of the stored state with the new ones and looks
nowhere else. Operations take and give plain dicts (`provider.values`).
"""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from provider.errors import ResourceError as ResourceError
from provider.values import UNKNOWN, Properties


@dataclass(frozen=True)
class Failure:
    """A property that cannot be accepted: its path (`models[0].name`; "" for the whole) and why."""

    property: str
    reason: str


Kind = Literal["string", "integer", "number", "boolean", "list", "map"]

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "map": (dict,),
}


@dataclass(frozen=True)
class Input:
    """One declared input property of a resource."""

    kind: Kind
    required: bool = True
    replaces: bool = False
    """A change of it needs a new resource."""
    silent: bool = False
    """A change of it alone is no change of the resource: it only tells how an operation is carried out."""


@dataclass(frozen=True)
class Change:
    """One difference between state and new inputs: where, and of what kind."""

    path: str
    kind: Literal["add", "delete", "update"]
    replaces: bool = False
    of_input: bool = True
    """False: the deviation is in the state (found by a refresh), not in the inputs."""


class Log(Protocol):
    """Where a resource says what it is doing or what it found."""

    def info(self, message: str) -> None:
        """A line that stays."""

    def warning(self, message: str) -> None:
        """A line that stays, marked as a warning."""

    def status(self, message: str) -> None:
        """Progress: shown beside the resource while it is worked on, then gone."""


@dataclass(frozen=True)
class Context:
    """What an operation is told beside its properties."""

    urn: str
    log: Log
    preview: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when the engine asks to stop: a long operation looks at it, clears up and raises `ResourceError`."""

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return self.urn.rpartition("::")[2]


class Resource(ABC):
    """A kind of resource. Subclasses give `token`, `inputs` and the operations."""

    token: ClassVar[str]
    inputs: ClassVar[Mapping[str, Input]]
    secrets: ClassVar[Collection[str]] = ()
    """Inputs and outputs that are secret whatever the program says."""
    sound: ClassVar[tuple[str, str | bool] | None] = None
    """The output by which the resource is as it should be, and its value then. An update is to mend any other one."""

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        """Checks `news` (may hold `UNKNOWN`) and completes it. Reads only; called in previews too.

        Called when names and types are right. Returns the inputs to keep and what is wrong with them."""
        return news, []

    def diff(self, state: Properties, news: Properties) -> list[Change]:
        """The differences between the stored state and `news`; where there is none, what is not `sound`. Pure."""
        changes = declared_changes(self.inputs, state, news)
        if not changes and self.sound is not None:
            name, value = self.sound
            if state.get(name) != value:
                return [Change(name, "update", of_input=False)]
        return changes

    @abstractmethod
    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        """Makes the resource; idempotent, and safe to kill at any point. Returns its id and outputs.

        In a preview (`context.preview`) it touches nothing and returns what it can know, `UNKNOWN` for the rest."""

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        """The state as it is now; None when the resource is gone."""
        return state

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        """Changes the resource in place; the same rules as for `create`."""
        raise ResourceError(f"{self.token} {resource_id} cannot be changed in place")

    @abstractmethod
    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        """Removes the resource; succeeds where it is gone."""


def check_declared(inputs: Mapping[str, Input], news: Properties) -> list[Failure]:
    """Names and types of `news` against the declaration. Properties that begin with `__` are the engine's own."""
    failures = [
        Failure(name, f"unknown property; known are {', '.join(sorted(inputs))}")
        for name in news
        if name not in inputs and not name.startswith("__")
    ]
    for name, spec in inputs.items():
        value = news.get(name)
        if value is None:
            if spec.required:
                failures.append(Failure(name, "is required"))
        elif value is not UNKNOWN and not _is_of_kind(value, spec.kind):
            failures.append(Failure(name, f"must be a {spec.kind}, not {value!r}"))
    return failures


def _is_of_kind(value: Any, kind: Kind) -> bool:
    if isinstance(value, bool) and kind != "boolean":
        return False
    return isinstance(value, _PYTHON_TYPES[kind])


def declared_changes(inputs: Mapping[str, Input], state: Properties, news: Properties) -> list[Change]:
    """The differences between `state` and `news` in the declared inputs that are not silent, as exact paths."""
    return [
        Change(path, kind, replaces=spec.replaces)
        for name, spec in inputs.items()
        if not spec.silent
        for path, kind in _differences(name, state.get(name), news.get(name))
    ]


def _differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, Literal["add", "delete", "update"]]]:
    if old is None or new is None:
        if old is not new:
            yield path, "add" if old is None else "delete"
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(member(path, key), old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list):
        for index, (before, after) in enumerate(itertools.zip_longest(old, new)):
            yield from _differences(f"{path}[{index}]", before, after)
    elif UNKNOWN in (old, new) or old != new or isinstance(old, bool) != isinstance(new, bool):  # True == 1
        yield path, "update"


def member(path: str, key: str) -> str:
    """The path of a map's member, in Pulumi's notation: quoted in brackets unless it is a plain name."""
    if key.isidentifier():
        return f"{path}.{key}"
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'{path}["{escaped}"]'
