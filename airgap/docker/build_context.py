"""The digest of an image's build context, as the official plugin has it: a change of it builds the image again.

Taken over from there so that either plugin finds the other's digest unchanged: of each file in lexical order its name,
its mode as Go writes it, and the sha256 of its content (of a link, of where it leads); before them the Dockerfile under
that very name. What a .dockerignore names is left out.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Iterator
from pathlib import Path


def digest(context: str, dockerfile: str) -> str:
    """The digest of the folder `context` with `dockerfile`. Raises OSError."""
    total = hashlib.sha256()
    _add(total, "Dockerfile", "----------", Path(dockerfile).read_bytes())
    for name in files(context, ignore_file(context, dockerfile)):
        path = Path(context, name)
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            _add(total, name, _go_mode(mode), _target(context, path).encode())
        elif stat.S_ISREG(mode):
            _add(total, name, _go_mode(mode), path.read_bytes())
    return total.hexdigest()


def _add(total: hashlib._Hash, name: str, mode: str, content: bytes) -> None:
    total.update(name.encode() + mode.encode() + hashlib.sha256(content).digest() + b"\0")


def _target(context: str, link: Path) -> str:
    """Where a link leads: in a context that is named relatively, relatively too."""
    target = link.resolve(strict=True)
    return str(target) if Path(context).is_absolute() else os.path.relpath(target)


def _go_mode(mode: int) -> str:
    """A file's mode as Go's `FileMode.String` writes it: like `ls`, with letters of its own for what is special."""
    special = "".join(
        letter
        for letter, there in (
            ("L", stat.S_ISLNK(mode)),
            ("u", mode & stat.S_ISUID),
            ("g", mode & stat.S_ISGID),
            ("t", mode & stat.S_ISVTX),
        )
        if there
    )
    return f"{special or '-'}{stat.filemode(stat.S_IFREG | mode & 0o777)[1:]}"


def ignore_file(context: str, dockerfile: str) -> Path | None:
    """The file that says what to leave out: that of the Dockerfile, else that of the context; None for none."""
    candidates = [Path(f"{dockerfile}.dockerignore"), Path(context, ".dockerignore")]
    return next((path for path in candidates if path.is_file()), None)


def files(context: str, ignoring: Path | None) -> Iterator[str]:
    """The names of what is in the context, folders aside, in the order of the digest."""
    patterns = parse(ignoring.read_text()) if ignoring else []
    yield from _walk(context, "", patterns)


def _walk(context: str, folder: str, patterns: list[tuple[re.Pattern[str], bool]]) -> Iterator[str]:
    with os.scandir(Path(context, folder)) as entries:
        ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in ordered:
        name = posixpath.join(folder, entry.name)
        if entry.is_dir(follow_symlinks=False):
            # A pattern with `!` may take something back in of a folder that is left out: it has to be looked into.
            if not ignored(name, patterns) or any(negated for _, negated in patterns):
                yield from _walk(context, name, patterns)
        elif not ignored(name, patterns):
            yield name


def parse(text: str) -> list[tuple[re.Pattern[str], bool]]:
    """The patterns of a .dockerignore, and for each whether it takes in again what others leave out."""
    patterns = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines()):
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        negated = pattern.startswith("!")
        pattern = posixpath.normpath(pattern.removeprefix("!").strip()).lstrip("/")
        if pattern in {"", "."}:
            if negated:
                raise ValueError(f"line {number + 1} of the .dockerignore: `!` needs a pattern")
            continue
        patterns.append((re.compile(_expression(pattern)), negated))
    return patterns


def ignored(name: str, patterns: list[tuple[re.Pattern[str], bool]]) -> bool:
    """Whether the last pattern that matches `name`, or a folder it is in, leaves it out."""
    parts = name.split("/")
    paths = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    left_out = False
    for expression, negated in patterns:
        if any(expression.fullmatch(path) for path in paths):
            left_out = not negated
    return left_out


def _expression(pattern: str) -> str:
    """A pattern of a .dockerignore as a regular expression: Go's `filepath.Match`, and `**` for any folders."""
    result = ""
    rest = pattern
    while rest:
        if rest.startswith("**/"):
            result, rest = f"{result}(?:.*/)?", rest[3:]
        elif rest.startswith("**"):
            result, rest = f"{result}.*", rest[2:]
        elif rest.startswith("*"):
            result, rest = f"{result}[^/]*", rest[1:]
        elif rest.startswith("?"):
            result, rest = f"{result}[^/]", rest[1:]
        elif rest.startswith("\\") and len(rest) > 1:
            result, rest = result + re.escape(rest[1]), rest[2:]
        elif rest.startswith("[") and "]" in rest[2:]:
            end = rest.index("]", 2)
            result, rest = result + rest[: end + 1], rest[end + 1 :]
        else:
            result, rest = result + re.escape(rest[0]), rest[1:]
    return result
