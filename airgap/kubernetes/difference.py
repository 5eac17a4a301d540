"""What a change of the inputs is, against what the object was when it was last looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from airgap.kubernetes.objects import Object, same
from airgap.kubernetes.replacement import Path, Rules
from provider.resource import Change
from provider.values import UNKNOWN

_MISSING = object()
_STEP = re.compile(r'\.?([^.\[\]]+)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]|(\[\*\])')


def changes(old: Object, new: Object, rules: Rules, ignored: Sequence[str] = ()) -> list[Change]:
    """The differences between the pruned object `old` and the inputs `new`, but those below a path of `ignored`."""
    skipped = [parse(path) for path in ignored]
    found = []
    for path, kind, value in _differences((), old, new):
        if not any(_contains(skip, path) for skip in skipped):
            # What goes is shown as the program's doing; the rest as what becomes of the object.
            of_input = kind == "delete"
            found.append(Change(written(path), kind, replaces=rules.replace(path, value), of_input=of_input))
    return found


def _differences(path: Path, old: Any, new: Any) -> Iterator[tuple[Path, Literal["add", "delete", "update"], Any]]:
    """The path, the kind and the value of each difference; the value is what is new, or what goes."""
    if new is _MISSING or new is None:
        if old is not _MISSING and old is not None:
            yield path, "delete", old
    elif old is _MISSING or old is None:
        yield path, "add", new
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences((*path, key), old.get(key, _MISSING), new.get(key, _MISSING))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else _MISSING
            after = new[index] if index < len(new) else _MISSING
            yield from _differences((*path, index), before, after)
    elif new is UNKNOWN or not same(path, old, new):
        yield path, "update", new


def written(path: Path) -> str:
    """A path in Pulumi's notation: `spec.template.metadata.labels["app.kubernetes.io/name"]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.search(r'[."\[\]]', step):
            escaped = step.replace('"', '\\"')
            text += f'["{escaped}"]'
        else:
            text += f".{step}" if text else step
    return text


def parse(path: str) -> tuple[str | int, ...]:
    """The steps of a path in Pulumi's notation; `*` stands for any index or member."""
    steps: list[str | int] = []
    for match in _STEP.finditer(path):
        name, index, quoted, star = match.groups()
        if index is not None:
            steps.append(int(index))
        elif star is not None:
            steps.append("*")
        else:
            steps.append(name if name is not None else re.sub(r"\\(.)", r"\1", quoted))
    return tuple(steps)


def _contains(outer: Path, path: Path) -> bool:
    """Whether `path` is `outer`, or inside it."""
    return len(outer) <= len(path) and all(a in ("*", b) for a, b in zip(outer, path, strict=False))
