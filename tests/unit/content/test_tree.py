"""What a path holds, and what is refused."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from provider.content.errors import ContentError
from provider.content.tree import walk


def problem_of(path: Path) -> str:
    with pytest.raises(ContentError) as caught:
        walk(path)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    root.mkdir()
    (root / "a.bin").write_bytes(b"a")
    return root


def test_a_file_is_a_tree_of_its_own_name(folder: Path) -> None:
    tree = walk(folder / "a.bin")
    assert not tree.is_folder
    assert [(file.path, file.size) for file in tree.files] == [("a.bin", 1)]


def test_files_are_sorted_by_the_bytes_of_their_paths(folder: Path) -> None:
    for path in ("b/z", "b.txt", "b-", "B", "ä", "z/y/x"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    assert [file.path for file in walk(folder).files] == ["B", "a.bin", "b-", "b.txt", "b/z", "z/y/x", "ä"]


def test_odd_names_are_kept(folder: Path) -> None:
    names = ["-rf", " ", "new\nline", 'quo"te', "back\\slash", "*", "模型.onnx", ".hidden", "a" * 255]
    for name in names:
        (folder / name).touch()
    assert {file.path for file in walk(folder).files} == {"a.bin", *names}


def test_only_the_owners_right_to_execute_is_content(folder: Path) -> None:
    (folder / "a.bin").chmod(0o611)
    assert not walk(folder).files[0].executable
    (folder / "a.bin").chmod(0o700)
    assert walk(folder).files[0].executable


def test_an_empty_file_counts(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"")
    assert walk(folder).size == 0


def test_the_signature_follows_every_change(folder: Path) -> None:
    before = walk(folder).signature
    assert walk(folder).signature == before
    (folder / "b.bin").touch()
    added = walk(folder).signature
    (folder / "b.bin").rename(folder / "c.bin")
    assert len({before, added, walk(folder).signature}) == 3


def test_a_missing_path(tmp_path: Path) -> None:
    assert problem_of(tmp_path / "none") == f"{tmp_path}/none is missing; create it, or correct the path"


def test_a_path_below_a_file(folder: Path) -> None:
    assert problem_of(folder / "a.bin" / "x") == f"{folder}/a.bin/x is missing; create it, or correct the path"


def test_the_root_of_the_file_system_has_no_name() -> None:
    assert "/ has no name of its own" in problem_of(Path("/"))


def test_a_folder_without_files(tmp_path: Path) -> None:
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    assert problem_of(tmp_path / "empty") == (
        f"{tmp_path}/empty is a folder without a file; put the files into it, or name another path"
    )


def test_an_unreadable_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever runs the tests may be root, who can read everything.
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("a.bin"))
    assert problem_of(folder) == (
        f"{folder}/a.bin is not readable for user id {os.geteuid()}; grant the right with chmod or chown"
    )


def test_an_unreadable_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", denied)
    assert f"{folder} is not readable for user id" in problem_of(folder)


def test_a_dangling_link(folder: Path) -> None:
    (folder / "link").symlink_to("nowhere")
    assert problem_of(folder) == (f"the link {folder}/link leads to nowhere, which is missing; mend or remove the link")


def test_a_root_that_is_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert "leads to nowhere, which is missing" in problem_of(tmp_path / "link")


def test_a_link_that_leads_outside(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    (folder / "link").symlink_to("../secret")
    assert problem_of(folder) == (
        f"the link {folder}/link leads outside, to {tmp_path}/secret; "
        f"put the file itself in its place, or name the folder that holds both"
    )


def test_a_neighbour_with_the_roots_name_as_its_beginning_is_outside(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model-2").mkdir()
    (tmp_path / "model-2" / "x").touch()
    (folder / "link").symlink_to("../model-2")
    assert f"leads outside, to {tmp_path}/model-2;" in problem_of(folder)


def test_links_that_stay_inside_count_as_what_they_lead_to(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "b").write_bytes(b"bb")
    (folder / "file").symlink_to("sub/b")
    (folder / "absolute").symlink_to(folder / "a.bin")
    (folder / "folder").symlink_to("sub")
    assert {file.path: file.size for file in walk(folder).files} == {
        "a.bin": 1,
        "absolute": 1,
        "file": 2,
        "folder/b": 2,
        "sub/b": 2,
    }


def test_a_root_that_is_a_link_keeps_its_own_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("model")
    (folder / "inner").symlink_to(folder / "a.bin")
    tree = walk(tmp_path / "current")
    assert (tree.name, [file.path for file in tree.files]) == ("current", ["a.bin", "inner"])


def test_a_link_to_a_folder_above_it(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to("..")
    assert problem_of(folder) == f"the link {folder}/sub/up leads back into its own folder; remove it"


def test_a_link_to_itself(folder: Path) -> None:
    (folder / "self").symlink_to("self")
    assert f"the link {folder}/self to self cannot be followed" in problem_of(folder)


def test_special_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)  # a socket's path is limited to about a hundred bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        told = problem_of(folder)
    assert f"{folder}/pipe is a named pipe; only regular files can be stored: move it elsewhere" in told
    assert f"{folder}/socket is a socket; only regular files can be stored" in told
    assert told.startswith(f"{folder} has 2 problems: ")


def test_a_device() -> None:
    assert problem_of(Path("/dev/null")) == (
        "/dev/null is a device; only regular files can be stored: move it elsewhere"
    )


def test_a_name_that_is_not_utf_8(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).touch()
    assert problem_of(folder) == f"the name of {folder}/caf\\xe9 is not UTF-8; rename it"


def test_a_name_that_would_delete_files_in_an_image(folder: Path) -> None:
    (folder / ".wh.a.bin").touch()
    assert "begins with .wh., which deletes files in an image; rename it" in problem_of(folder)


def test_many_problems_are_counted_and_the_first_are_shown(folder: Path) -> None:
    for number in range(7):
        (folder / f"link{number}").symlink_to("nowhere")
    told = problem_of(folder)
    assert told.startswith(f"{folder} has 7 problems: ")
    assert told.endswith("; and 2 more")
