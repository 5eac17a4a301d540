"""The layer of an environment: the packages of a lock, installed for the platform of the image and packed.

`uv` chooses and unpacks the wheels; nothing of a package is run, so a layer for another platform is made like any
other. What would differ between machines is taken out: the path of the interpreter in scripts (and so their digests in
RECORD), bytecode, times, owners. The same lock is the same layer everywhere.

Layers are kept below `$XDG_CACHE_HOME/slipway/layers`, by lock, platform and version of Python. The cache only saves
time: whoever stores a layer verifies it, and a damaged one is made again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from provider import environments
from provider.content.cache import default_directory
from provider.content.errors import ContentError
from provider.content.layout import disk_errors, try_lock
from provider.content.modelpack import Blob
from provider.content.tree import TreeFile, walk
from provider.content.watch import Watch
from provider.images.archive import Archive, Entry, Generated, Linked

ENVIRONMENT = "opt/slipway/environment"
"""Where the environment is in an image (without the leading slash): Python's user base there."""

PLATFORMS = {
    # glibc 2.28 (2018): what the wheels of today are built for, and every base image in use has it.
    "linux/amd64": "x86_64-manylinux_2_28",
    "linux/arm64": "aarch64-manylinux_2_28",
}
"""What an image may be made for, and uv's name of it."""

_FORMAT = "environment-1"  # changes whenever the bytes of a layer do, so that layers made before are not used
_POLL_SECONDS = 0.05
_HEADER = re.compile(r"# Locked by [^\n]*\n")
_SHEBANG = b"#!/usr/bin/env python3\n"
# What an installer writes where the interpreter's path is too long, or has spaces, for a shebang.
_LONG_SHEBANG = re.compile(rb"\A#!/bin/sh\n'''exec' [^\n]*\n' '''\n")
_SHORT_SHEBANG = re.compile(rb"\A#![^\n]*python[^\n]*\n")


@dataclass(frozen=True)
class EnvironmentLayer:
    """A layer in the cache."""

    blob: Blob
    path: Path

    def open(self) -> BinaryIO:
        """The tar as a stream."""
        return self.path.open("rb")


def lock_digest(lock: str) -> str:
    """`sha256:<hex>` of the packages of a lock, without the line that says what it was made for."""
    body = lock[match.end() :] if (match := _HEADER.match(lock)) else lock
    return f"sha256:{hashlib.sha256(body.encode()).hexdigest()}"


def key_of(digest: str, platform: str, python_version: str) -> str:
    """What the layer follows from: the digest of a lock, a platform and a version of Python."""
    identity = json.dumps([_FORMAT, digest, platform, python_version])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def known_layer(key: str, directory: Path | None = None) -> EnvironmentLayer | None:
    """The layer of the environment `key`, where the cache has it. Reads only."""
    return _known(_default() if directory is None else directory, key)


def site_packages(python_version: str) -> str:
    """Where the packages are in an image, without the leading slash."""
    return f"{ENVIRONMENT}/lib/python{python_version}/site-packages"


def environment_layer(
    lock: str, platform: str, python_version: str, watch: Watch | None = None, directory: Path | None = None
) -> EnvironmentLayer:
    """The layer of the packages that the text `lock` names with their hashes; made where the cache has none.

    Raises `ContentError` in the installer's words: a package without a wheel for the platform, a hash that differs."""
    watch = watch or Watch()
    directory = _default() if directory is None else directory
    key = key_of(lock_digest(lock), platform, python_version)
    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory / f"{key}.lock", watch) as held:
            known = _known(directory, key)
            if known is not None:
                return known
            for left_behind in directory.glob(f"{key}-*"):  # by a run that was killed: nobody else holds the lock
                shutil.rmtree(left_behind)
            _clear_others(directory)
            with tempfile.TemporaryDirectory(prefix=f"{key}-", dir=directory) as folder:
                return _make(Path(folder), directory, key, lock, platform, python_version, watch, held)


def forget_damaged(key: str, directory: Path | None = None) -> bool:
    """Takes the layer of the environment `key` out of the cache, where it is not what it was when it was made."""
    layer = known_layer(key, directory)
    if layer is None:
        return False
    with layer.path.open("rb") as file:
        if f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == layer.blob.digest:
            return False
    layer.path.with_suffix(".json").unlink(missing_ok=True)
    return True


def _default() -> Path:
    return default_directory().with_name("layers")


@contextmanager
def _locked(path: Path, watch: Watch) -> Iterator[int]:
    with path.open("wb") as lock:
        while not try_lock(lock.fileno()):
            watch.check("waiting for another operation that makes the same environment")
            time.sleep(_POLL_SECONDS)
        yield lock.fileno()


def _clear_others(directory: Path) -> None:
    """Removes what killed runs left of environments that may never be asked for again, and that nobody is making."""
    for left_behind in directory.glob("*-*/"):
        key = left_behind.name.partition("-")[0]
        with (directory / f"{key}.lock").open("wb") as lock:
            if try_lock(lock.fileno()):
                shutil.rmtree(left_behind, ignore_errors=True)


def _known(directory: Path, key: str) -> EnvironmentLayer | None:
    path = directory / f"{key}.tar"
    try:
        entry = json.loads(path.with_suffix(".json").read_bytes())
        blob = Blob(str(entry["digest"]), int(entry["size"]))
        return EnvironmentLayer(blob, path) if path.stat().st_size == blob.size else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _make(
    work: Path, directory: Path, key: str, lock: str, platform: str, python_version: str, watch: Watch, held: int
) -> EnvironmentLayer:
    watch.check("making the environment's layer")
    site = work / "site"
    site.mkdir()
    (work / "lock.txt").write_text(lock)
    watch.status(f"installing packages for {platform}")
    try:
        environments.run_uv(
            *("pip", "install", "--target", str(site), "--requirements", str(work / "lock.txt")),
            *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile-bytecode"),
            *environments.installer_options(lock),
            *("--python-platform", PLATFORMS[platform], "--python-version", python_version),
            # Linked to the installer's cache: copies would take most of the time. They are read, and then removed.
            *("--link-mode", "hardlink"),
            held=held,
        )
    except environments.EnvironmentError as error:
        raise ContentError(
            f"the packages of the environment cannot be had as wheels for {platform}, Python {python_version}. "
            f"The installer says:\n{error}\n"
            f"Choose versions that have such wheels, or another platform or version of Python."
        ) from None
    watch.status("packing the environment")
    digest, size = hashlib.sha256(), 0
    with (work / "layer.tar").open("xb") as file:
        for piece in Archive(_entries(site, site_packages(python_version))).pieces():
            watch.check("packing the environment")
            digest.update(piece)
            size += len(piece)
            file.write(piece)
    target = directory / f"{key}.tar"
    (work / "layer.tar").replace(target)
    document = {"digest": f"sha256:{digest.hexdigest()}", "size": size}
    (work / "layer.json").write_text(json.dumps(document))
    (work / "layer.json").replace(target.with_suffix(".json"))
    return EnvironmentLayer(Blob(f"sha256:{digest.hexdigest()}", size), target)


def _entries(site: Path, prefix: str) -> dict[str, Entry]:
    """What is installed in `site`, as it is on every machine."""
    if not any(path.is_file() and path.name != ".lock" for path in site.rglob("*")):
        return {}
    files = {file.path: file for file in walk(site, _left_by_tools).files}
    entries: dict[str, Entry] = {f"{prefix}/{path}": Linked(file) for path, file in files.items()}
    scripts = {path: _script(file) for path, file in files.items() if path.startswith("bin/")}
    for path, script in scripts.items():
        entries[f"{prefix}/{path}"] = script
    for path, file in files.items():
        folder, _, name = path.rpartition("/")
        if name == "RECORD" and folder.endswith(".dist-info"):
            entries[f"{prefix}/{path}"] = Generated(_record(Path(file.source).read_text(), scripts).encode())
    return entries


def _left_by_tools(path: str, is_folder: bool) -> bool:
    name = path.rpartition("/")[2]
    return name == "__pycache__" if is_folder else path == ".lock" or name.endswith(".pyc")


def _script(file: TreeFile) -> Generated:
    content = Path(file.source).read_bytes()
    for shebang in (_LONG_SHEBANG, _SHORT_SHEBANG):
        content, count = shebang.subn(lambda _: _SHEBANG, content)
        if count:
            break
    return Generated(content, file.executable)


def _record(text: str, scripts: dict[str, Generated]) -> str:
    """A RECORD (packaging.python.org, "Recording installed projects") whose digests are those of the scripts as they
    are in the layer."""
    lines = []
    for line in text.splitlines():
        path = posixpath.normpath(line.partition(",")[0])
        if path.endswith(".pyc"):
            continue
        if (script := scripts.get(path)) is not None:
            digest = base64.urlsafe_b64encode(hashlib.sha256(script.content).digest()).rstrip(b"=").decode()
            line = f"{path},sha256={digest},{len(script.content)}"
        lines.append(line)
    return "".join(f"{line}\n" for line in sorted(lines))
