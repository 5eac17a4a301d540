"""Requirements as pip writes them: one of them, and a file of them. Read for a preview, so without a resolver.

What a name or a version means is left to uv. Here is what can be seen without a network: lines that are no
requirement, options that have their place elsewhere, credentials that would go into the state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.problems import Problem
from provider.credentials import has_credentials

# Names and specifiers: PyPA's "Dependency specifiers", with pip's `--hash` behind.
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\s*(?:\[[A-Za-z0-9._,\s-]*\])?\s*"
    r"(?:@\s*[a-z+]+://\S+|\(?\s*(?:(?:===?|~=|!=|<=|>=|<|>)\s*[^\s,;()=<>!~]+\s*,?\s*)*\)?)\s*"
    r"(?:;.+?)?(?:\s+--hash=sha256:[0-9a-f]{64})*"
)
_INCLUDE = re.compile(r"(?:-r\s*|--requirement[\s=]\s*)(\S+)")
# Azure's own scoring server: Slipway's takes its place, and the old pins of these packages would hold others back.
_AZURE_SERVER = re.compile(r"azureml-(defaults|inference-server-http)\b", re.IGNORECASE)
_INDEX_OPTIONS = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--trusted-host")

INDEX_SETTINGS = (
    "an index is set in uv's own settings, where no state and no log sees it: UV_DEFAULT_INDEX or UV_INDEX "
    "(credentials: UV_INDEX_<NAME>_USERNAME and _PASSWORD, or netrc)"
)


@dataclass(frozen=True)
class Requirement:
    """A requirement and where it was asked for, `requirements.txt: line 3`."""

    text: str
    source: str


def requirement_mistake(text: str) -> str | None:
    """What is wrong with a requirement, and how to mend it; None where nothing is to be seen."""
    if has_credentials(text):
        return f"{text!r} holds credentials, which the lock and the state would show; {INDEX_SETTINGS}"
    if _REQUIREMENT.fullmatch(text):
        return None
    if text.startswith("-"):
        return _option_mistake(text)
    if match := re.fullmatch(r"([\w.-]+)\s*=\s*([\w.*]+)", text):
        return f"{text!r} is conda's way; pip's is '{match[1]}=={match[2]}'"
    return f"{text!r} is no requirement of pip's; write it like 'numpy>=2,<3' or 'name @ https://...whl'"


def _option_mistake(text: str) -> str:
    option = re.split(r"[\s=]", text, maxsplit=1)[0]
    if option in _INDEX_OPTIONS:
        return f"{option} does not belong here: {INDEX_SETTINGS}"
    if option in ("-e", "--editable"):
        return f"{option}: a folder cannot be locked; build a wheel and let uv find it (UV_FIND_LINKS)"
    return f"the option {option} is not known here; remove it"


def is_azure_server(text: str) -> bool:
    """Whether the requirement is Azure's scoring server, in whose place Slipway's is."""
    return _AZURE_SERVER.match(text) is not None


def read_requirements_file(path: Path, shown: str, problems: list[Problem]) -> Iterator[Requirement]:
    """The requirements of a file and of those it includes (`-r`). `shown` is its name for whoever reads a mistake.

    Raises `OSError` and `UnicodeDecodeError` where the file itself cannot be read."""
    yield from _read(path, shown, problems, ())


def _read(path: Path, shown: str, problems: list[Problem], including: tuple[Path, ...]) -> Iterator[Requirement]:
    including = (*including, path.resolve())
    for number, text in _logical_lines(path.read_text(encoding="utf-8-sig")):
        where = f"line {number}"
        if match := _INCLUDE.fullmatch(text):
            other = path.parent / match[1]
            if other.resolve() in including:
                problems.append(Problem(shown, where, f"{text}: the files include each other; remove one of the lines"))
                continue
            try:
                yield from _read(other, str(Path(shown).parent / match[1]), problems, including)
            except (OSError, UnicodeDecodeError) as error:
                problems.append(Problem(shown, where, f"{text}: {unreadable(error)}"))
        elif text == "--require-hashes" or is_azure_server(text):
            continue  # a lock always has hashes
        elif mistake := requirement_mistake(text):
            problems.append(Problem(shown, where, mistake))
        else:
            yield Requirement(text, f"{shown}: {where}")


def unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read, and how to mend it."""
    if isinstance(error, OSError):
        return f"the file cannot be read: {error.strerror}; mend the path"
    return "the file is no UTF-8 text; save it as such"


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, joined where they end in a backslash, with the number of the first (pip's format)."""
    start, joined = 0, ""
    for number, line in enumerate([*text.splitlines(), ""], 1):
        start = start if joined else number
        # A line that is continued has no comment: its '#' would be the last thing in it.
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            joined += line[:-1] + " "
            continue
        whole = " ".join(re.sub(r"(^|\s)#.*$", "", joined + line).split())
        joined = ""
        if whole:
            yield start, whole
