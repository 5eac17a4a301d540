"""A folder of code: what names it, what is left out, and its copies."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from provider.content import source as module
from provider.content.cache import DigestCache
from provider.content.errors import ContentChangedError, ContentError
from provider.content.source import code_digest, snapshot, walk_code


@pytest.fixture
def cache(tmp_path: Path) -> DigestCache:
    return DigestCache(tmp_path / "no-cache", racy_ns=2**63)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    root = tmp_path / "code"
    (root / "lib").mkdir(parents=True)
    (root / "score.py").write_text("def init(): ...\n")
    (root / "lib" / "tool.sh").write_text("#!/bin/sh\n")
    (root / "lib" / "tool.sh").chmod(0o755)
    return root


def test_times_and_modes_do_not_count(code: Path, cache: DigestCache) -> None:
    before = code_digest(code, cache)
    os.utime(code / "score.py", (1, 1))
    (code / "score.py").chmod(0o600)
    assert code_digest(code, cache) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "score.py").write_text("def init(): pass\n"),
        lambda root: (root / "score.py").rename(root / "main.py"),
        lambda root: (root / "score.py").chmod(0o755),
        lambda root: (root / "new.py").touch(),
        lambda root: (root / "lib" / "tool.sh").unlink(),
    ],
    ids=["content", "name", "executable", "added", "removed"],
)
def test_what_the_code_is_counts(code: Path, cache: DigestCache, change: object) -> None:
    before = code_digest(code, cache)
    assert callable(change)
    change(code)
    assert code_digest(code, cache) != before


def test_what_tools_leave_is_no_code(code: Path, cache: DigestCache) -> None:
    before = code_digest(code, cache)
    for path in (
        "__pycache__/a.py",
        "lib/__pycache__/b",
        ".git/HEAD",
        ".venv/bin/python",
        ".ipynb_checkpoints/x",
        "c.pyc",
    ):
        (code / path).parent.mkdir(exist_ok=True, parents=True)
        (code / path).touch()
    (code / ".git" / "dangling").symlink_to("nowhere")
    assert code_digest(code, cache) == before


def test_amlignore_names_more(code: Path) -> None:
    (code / "data").mkdir()
    (code / "data" / "big.csv").touch()
    (code / "data" / "keep.csv").touch()
    (code / "notes.md").touch()
    (code / ".gitignore").write_text("score.py\n")
    (code / ".amlignore").write_text("# not for the service\n*.md\ndata/*\n!data/keep.csv\n")
    paths = [file.path for file in walk_code(code).files]
    assert paths == [".gitignore", "data/keep.csv", "lib/tool.sh", "score.py"]


def test_an_amlignore_that_is_no_text(code: Path) -> None:
    (code / ".amlignore").write_bytes(b"\xff\xfe")
    with pytest.raises(ContentError, match=r"amlignore cannot be read as text .*; mend or remove it"):
        walk_code(code)


def test_an_amlignore_that_cannot_be_understood(code: Path) -> None:
    (code / ".amlignore").write_text("!\n")
    with pytest.raises(ContentError, match=r"amlignore holds a pattern that cannot be understood .*; mend that line"):
        walk_code(code)


def test_a_file_is_no_code_folder(code: Path) -> None:
    with pytest.raises(ContentError, match=r"score\.py is a file; name the folder that holds the code"):
        walk_code(code / "score.py")


def test_unchanged_code_is_not_read_again(code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DigestCache(tmp_path / "cache", racy_ns=-(2**63))
    first = code_digest(code, cache)

    def opened(file: object) -> None:
        raise AssertionError(f"{file} was read")

    monkeypatch.setattr(module, "opened", opened)
    assert code_digest(code, cache) == first


def test_a_snapshot_is_the_same_code(code: Path, tmp_path: Path, cache: DigestCache) -> None:
    (code / "lib" / "again.sh").symlink_to("tool.sh")
    digest = code_digest(code, cache)
    target = tmp_path / "revision" / "code"
    snapshot(code, target, digest)
    assert code_digest(target, cache) == digest
    assert os.access(target / "lib" / "again.sh", os.X_OK)
    assert not (target / "lib" / "again.sh").is_symlink()
    assert [path.name for path in target.parent.iterdir()] == ["code"]


def test_a_snapshot_of_code_that_is_another_by_now(code: Path, tmp_path: Path, cache: DigestCache) -> None:
    digest = code_digest(code, cache)
    (code / "score.py").write_text("import sys\n")
    with pytest.raises(ContentChangedError) as caught:
        snapshot(code, tmp_path / "target", digest)
    assert str(caught.value) == (
        f"{code} changed since it was checked; wait until nothing writes to it, then run `up` again"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code"]


def test_a_snapshot_clears_what_a_killed_one_left(code: Path, tmp_path: Path, cache: DigestCache) -> None:
    (tmp_path / "target.part").mkdir()
    (tmp_path / "target.part" / "half").touch()
    snapshot(code, tmp_path / "target", code_digest(code, cache))
    assert sorted(path.name for path in (tmp_path / "target").iterdir()) == ["lib", "score.py"]


def test_a_full_disk_leaves_nothing(
    code: Path, tmp_path: Path, cache: DigestCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = code_digest(code, cache)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ContentError, match=r"the disk of .* is full: .* free; free some space, then try again"):
        snapshot(code, tmp_path / "target", digest)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code"]
