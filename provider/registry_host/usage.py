"""What a registry's data folder holds, and which of it may go.

The layout is CNCF Distribution's: `blobs/sha256/<2>/<hex>/data`, and for each repository `_manifests/revisions` (every
manifest) and `_manifests/tags/<tag>/current/link` (what a tag names).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("docker") / "registry" / "v2"


def used_bytes(data: Path) -> int:
    """Bytes of all files, uploads that are under way included."""
    return sum(status.st_size for _, status in _files(str(data)))


def _files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """The name and the status of each file. What goes meanwhile is left out; `Path.glob` raises an error there."""
    try:
        entries = list(os.scandir(folder))
    except OSError:  # removed meanwhile
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            else:
                yield entry.name, entry.stat(follow_symlinks=False)
        except OSError:
            continue


def last_written(data: Path) -> float:
    """When a blob or an upload was last written to (seconds since 1970); 0 where there is none."""
    # Nothing else has this name: neither what names a blob, nor what goes on with an upload.
    return max((status.st_mtime for name, status in _files(str(data / _ROOT)) if name == "data"), default=0.0)


def drop_untagged(data: Path, before: float) -> list[str]:
    """Removes the manifests that no tag names, that no kept index lists, and that are older than `before` (seconds
    since 1970). For a registry that is not running. Returns `repository@digest` of each."""
    dropped = []
    for manifests in sorted((data / _ROOT / "repositories").glob("**/_manifests")):
        tags = (manifests / "tags").glob("*/current/link")
        kept = {digest for link in tags if (digest := _read(link))}
        revisions = {f"sha256:{path.name}": path for path in (manifests / "revisions" / "sha256").glob("*")}
        kept |= {digest for digest, path in revisions.items() if _modified(path / "link") >= before}
        waiting = list(kept)
        while waiting:
            listed = _listed_by(data, waiting.pop()) - kept
            kept |= listed
            waiting += listed
        name = manifests.parent.relative_to(data / _ROOT / "repositories")
        for digest in sorted(revisions.keys() - kept):
            shutil.rmtree(revisions[digest])
            dropped.append(f"{name}@{digest}")
    return dropped


def _listed_by(data: Path, digest: str) -> set[str]:
    """The manifests that an index lists; none for other manifests."""
    name = digest.removeprefix("sha256:")
    try:
        document = json.loads((data / _ROOT / "blobs" / "sha256" / name[:2] / name / "data").read_bytes())
        return {str(item["digest"]) for item in document.get("manifests", [])}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return set()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
