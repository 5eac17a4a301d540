"""Locks, state files and removal."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from provider.local.layout import BusyError, is_held, locked, read_json, remove_tree, write_json
from tests.unit.local.conftest import eventually


def test_json_comes_back_and_is_private(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1]})
    assert read_json(tmp_path / "x.json") == {"a": [1]}
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("content", ["", '{"a": '])
def test_a_file_that_was_cut_short_reads_as_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    assert read_json(tmp_path / "x.json") is None


def test_a_lock_is_seen_from_outside_while_it_is_held(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        assert is_held(tmp_path / "lock")
        with pytest.raises(BusyError), locked(tmp_path / "lock", wait=False):
            pass
    assert not is_held(tmp_path / "lock")


def test_shared_holders_do_not_exclude_each_other(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", shared=True), locked(tmp_path / "lock", shared=True):
        assert not is_held(tmp_path / "lock")


def test_who_waited_for_a_lock_file_that_was_removed_takes_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    inside, leave = threading.Event(), threading.Event()

    def wait() -> None:
        with locked(path):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=wait)
    with locked(path):
        thread.start()
        path.unlink()
    inside.wait()
    assert eventually(path.exists, "the new lock file")
    assert is_held(path)
    leave.set()
    thread.join()


def test_removing_follows_no_links_and_takes_read_only_folders(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "deep" / "link").symlink_to(outside)
    (tree / "deep" / "file").touch(0o400)
    (tree / "deep").chmod(0o500)
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "precious").exists()
    remove_tree(tree)
