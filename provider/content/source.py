"""A folder of code: its digest, and a faithful copy of it.

Two folders with the same files (paths, contents, executable or not) have the same digest, whatever their times, owners
and other mode bits. What tools leave in a working folder is no part of the code: see `ignore`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from provider.content.cache import DigestCache, Remembered
from provider.content.errors import ContentChangedError, ContentError
from provider.content.ignore import ignored_in
from provider.content.layer import opened
from provider.content.layout import disk_errors
from provider.content.tree import Tree, walk
from provider.content.watch import Watch

_FORMAT = "code-1"
_READ_BYTES = 1024 * 1024
_LISTED_DIGITS = 12


def walk_code(directory: Path) -> Tree:
    """The files of a folder of code. Raises `ContentError`, as `tree.walk` does."""
    tree = walk(directory, ignored_in(directory))
    if not tree.is_folder:
        raise ContentError(f"{directory} is a file; name the folder that holds the code")
    return tree


def code_digest(directory: Path, cache: DigestCache | None = None, watch: Watch | None = None) -> str:
    """`sha256:<hex>` over the folder's files; reads none that `cache` vouches for.

    Raises `ContentError`, also where a file changed during two attempts to read it."""
    cache = DigestCache() if cache is None else cache
    watch = watch or Watch()
    try:
        return _digest(walk_code(directory), cache, watch)
    except ContentChangedError as error:
        watch.warning(f"{error}; reading it once more")
    return _digest(walk_code(directory), cache, watch)


def code_listing(directory: Path, most: int) -> dict[str, str] | None:
    """Each file of the folder of code and the first digits of its sha256, to tell which ones changed; None where they
    are more than `most`. Raises `ContentError`."""
    tree = walk_code(directory)
    if len(tree.files) > most:
        return None
    listing = {}
    for file in tree.files:
        with opened(file) as handle, open(handle, "rb", closefd=False) as content:
            listing[file.path] = hashlib.file_digest(content, "sha256").hexdigest()[:_LISTED_DIGITS]
    return listing


def snapshot(directory: Path, target: Path, digest: str) -> None:
    """Copies the folder's files to `target`, which must not exist, and appears only when it is whole and what `digest`
    (of `code_digest`) says. Files are 0644 or 0755.

    Raises `ContentError`: the code is another by now, or the disk does not take it; then nothing is left. What a
    killed copy leaves (`<target>.part`) is cleared by the next one; the caller sees to it that there are no two at
    once to one target."""
    partial = target.with_name(f"{target.name}.part")
    with disk_errors(target.parent):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            tree = walk_code(directory)
            copied = hashlib.sha256()
            for file in tree.files:
                place = partial / file.path
                place.parent.mkdir(parents=True, exist_ok=True)
                with opened(file) as source:
                    content = _copy(source, place, 0o755 if file.executable else 0o644)
                copied.update(_entry(file.path, file.executable, content))
            if f"sha256:{copied.hexdigest()}" != digest:
                raise ContentChangedError(
                    f"{directory} changed since it was checked; wait until nothing writes to it, then run `up` again"
                )
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _digest(tree: Tree, cache: DigestCache, watch: Watch) -> str:
    subject = f"{_FORMAT}\0{tree.root}"
    known = cache.get(subject, tree.signature)
    if known is not None:
        return known.digest
    digest = hashlib.sha256()
    for file in tree.files:
        watch.check(f"reading {tree.root}")
        with opened(file) as source:
            content = hashlib.sha256()
            while data := os.read(source, _READ_BYTES):
                content.update(data)
        digest.update(_entry(file.path, file.executable, content.hexdigest()))
    found = Remembered(f"sha256:{digest.hexdigest()}", tree.size)
    cache.put(subject, tree.signature, found, looked_ns=tree.walked_ns, newest_ns=tree.newest_ns)
    return found.digest


def _entry(path: str, executable: bool, content: str) -> bytes:
    # No path holds a null byte, so no two lists of files run together into the same bytes.
    return f"{path}\0{'x' if executable else '-'}\0{content}\0".encode()


def _copy(source: int, place: Path, mode: int) -> str:
    digest = hashlib.sha256()
    with place.open("xb") as target:
        while data := os.read(source, _READ_BYTES):
            digest.update(data)
            target.write(data)
        target.flush()
        os.fchmod(target.fileno(), mode)
        # A power cut after the rename must not leave empty files that look whole.
        os.fsync(target.fileno())
    return digest.hexdigest()
