"""The tar of a layer that is put together."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from provider.content.errors import ContentChangedError
from provider.content.tree import walk
from provider.images.archive import Archive, Entry, Folder, Generated, Link, Linked, files_below
from tests.unit.images.support import unpacked


def test_entries_are_read_back_in_order(tmp_path: Path) -> None:
    (tmp_path / "code" / "sub").mkdir(parents=True)
    (tmp_path / "code" / "sub" / "module.py").write_text("x = 1\n")
    (tmp_path / "code" / "run").write_text("#!/bin/sh\n")
    (tmp_path / "code" / "run").chmod(0o700)
    entries: dict[str, Entry] = {
        **files_below("app", walk(tmp_path / "code")),
        "app/link": Link("/models/é" + "x" * 150),
        "app/made": Generated(b"content"),
        "empty/inner": Folder(),
    }
    archive = Archive(entries)
    with tarfile.open(fileobj=archive.open(), mode="r|") as tar:
        found = [(entry.name, entry.mode, entry.type, entry.linkname) for entry in tar]
    assert found == [
        ("app", 0o755, tarfile.DIRTYPE, ""),
        ("app/link", 0o777, tarfile.SYMTYPE, "/models/é" + "x" * 150),
        ("app/made", 0o644, tarfile.REGTYPE, ""),
        ("app/run", 0o755, tarfile.REGTYPE, ""),
        ("app/sub", 0o755, tarfile.DIRTYPE, ""),
        ("app/sub/module.py", 0o644, tarfile.REGTYPE, ""),
        ("empty", 0o755, tarfile.DIRTYPE, ""),
        ("empty/inner", 0o755, tarfile.DIRTYPE, ""),
    ]


def test_nothing_of_the_machine_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "code").mkdir(parents=True)
    (tmp_path / "a" / "code" / "x").write_text("x")
    for entry in unpacked(Archive(files_below("app", walk(tmp_path / "a" / "code"))).open()).values():
        assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0, 0, "", "", 0)


def test_the_order_of_entries_is_no_matter() -> None:
    entries: dict[str, Entry] = {"b": Generated(b"1"), "a/c": Generated(b"2"), "a.d": Link("b")}
    assert Archive(entries).blob == Archive(dict(reversed(entries.items()))).blob


def test_its_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "big").write_bytes(bytes(3 * 2**20 + 17))
    archive = Archive(files_below("app", walk(tmp_path / "code")))
    data = archive.open().read()
    assert len(data) == archive.blob.size
    assert data == b"".join(archive.pieces())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getmember("app/big").size == 3 * 2**20 + 17


def test_a_file_with_other_names_may_gain_and_lose_them_while_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    (file,) = walk(tmp_path / "x").files
    pieces = Archive({"x": Linked(file)}).pieces()
    read = [next(pieces)]
    (tmp_path / "other").hardlink_to(tmp_path / "x")
    read += pieces
    assert unpacked(io.BytesIO(b"".join(read)))["x"].size == 7


def test_a_file_with_other_names_that_changed_since_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    (file,) = walk(tmp_path / "x").files
    (tmp_path / "x").write_bytes(b"other")
    with pytest.raises(ContentChangedError, match="x changed while it was being read"):
        list(Archive({"x": Linked(file)}).pieces())


def test_a_file_that_changed_since_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "x").write_text("x")
    archive = Archive(files_below("app", walk(tmp_path / "code")))
    assert archive.blob.size
    (tmp_path / "code" / "x").write_text("other")
    with pytest.raises(ContentChangedError, match="x changed while it was being read"):
        archive.open().read()
