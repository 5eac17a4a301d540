"""Builds of the docker plugin's stand-in: what counts as a change of the context, and what the command is told."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from airgap.docker import build, build_context
from airgap.docker.build import Build
from airgap.docker.connection import Auth, Connection
from airgap.docker.image import INPUTS, Image
from provider.resource import ResourceError
from provider.values import UNKNOWN


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    (folder / "app").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "app/score.py").write_text("run()\n")
    for path in (folder / "Dockerfile", folder / "app/score.py"):
        path.chmod(0o644)
    return folder


def digest(folder: Path, dockerfile: Path | None = None) -> str:
    return build_context.digest(str(folder), str(dockerfile or folder / "Dockerfile"))


def test_digest_is_made_of_names_modes_and_contents(context: Path) -> None:
    def part(name: str, mode: str, content: bytes) -> bytes:
        return name.encode() + mode.encode() + hashlib.sha256(content).digest() + b"\0"

    expected = hashlib.sha256(
        part("Dockerfile", "----------", b"FROM scratch\n")
        + part("Dockerfile", "-rw-r--r--", b"FROM scratch\n")
        + part("app/score.py", "-rw-r--r--", b"run()\n")
    )

    assert digest(context) == expected.hexdigest()


def test_content_name_and_mode_count(context: Path) -> None:
    before = digest(context)

    (context / "app/score.py").write_text("run2()\n")
    content = digest(context)
    (context / "app/score.py").chmod(0o755)
    mode = digest(context)
    (context / "app/score.py").rename(context / "app/other.py")

    assert len({before, content, mode, digest(context)}) == 4


def test_times_and_place_do_not_count(context: Path, tmp_path: Path) -> None:
    before = digest(context)

    (context / "app/score.py").touch()
    context.rename(tmp_path / "elsewhere")

    assert digest(tmp_path / "elsewhere") == before


def test_link_counts_by_where_it_leads(context: Path) -> None:
    (context / "link").symlink_to("app")
    before = digest(context)
    (context / "link").unlink()
    (context / "link").symlink_to("Dockerfile")

    assert digest(context) != before


def test_dockerfile_outside_counts_by_its_content_alone(context: Path, tmp_path: Path) -> None:
    for name in ("one.Dockerfile", "two.Dockerfile"):
        (tmp_path / name).write_text("FROM scratch\nUSER 1\n")

    assert digest(context, tmp_path / "one.Dockerfile") == digest(context, tmp_path / "two.Dockerfile")
    assert digest(context, tmp_path / "one.Dockerfile") != digest(context)


@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    [
        ("*.tmp", "a.tmp", True),
        ("*.tmp", "app/a.tmp", False),
        ("**/*.tmp", "app/deep/a.tmp", True),
        ("**/*.tmp", "a.tmp", True),
        ("app", "app/score.py", True),
        ("/app/", "app/score.py", True),
        ("app/*.py", "app/score.py", True),
        ("app/*.py", "app/deep/score.py", False),
        ("app/**", "app/deep/score.py", True),
        ("?.txt", "a.txt", True),
        ("?.txt", "ab.txt", False),
        ("[ab].txt", "b.txt", True),
        ("*\n!keep.txt", "keep.txt", False),
        ("app\n!app/keep.txt", "app/keep.txt", False),
        ("!app/keep.txt\napp", "app/keep.txt", True),
        ("app\n!app/*/keep", "app/deep/keep", False),
        ("# app", "app", False),
        ("./app/../other", "other", True),
        ("a.b", "axb", False),
    ],
)
def test_ignored_files(patterns: str, name: str, expected: bool) -> None:
    assert build_context.ignored(name, build_context.parse(patterns)) is expected


def test_ignored_files_do_not_count(context: Path) -> None:
    (context / ".dockerignore").write_text("*.tmp\nsecret\n")
    before = digest(context)

    (context / "a.tmp").write_text("draft")
    (context / "secret").mkdir()
    (context / "secret/key").write_text("key")

    assert digest(context) == before


def test_file_in_an_ignored_folder_can_be_taken_in_again(context: Path) -> None:
    (context / ".dockerignore").write_text("app\n!app/score.py\n")

    assert list(build_context.files(str(context), context / ".dockerignore")) == [
        ".dockerignore",
        "Dockerfile",
        "app/score.py",
    ]


def test_dockerfile_may_have_a_list_of_its_own(context: Path) -> None:
    (context / ".dockerignore").write_text("nothing\n")
    own = context / "Dockerfile.dockerignore"
    own.write_text("app\n")

    assert build_context.ignore_file(str(context), str(context / "Dockerfile")) == own


def test_arguments_are_named_and_not_told_on_the_command_line() -> None:
    asked = Build(
        tag="t",
        context="/c",
        dockerfile="/c/Dockerfile",
        arguments={"PASSWORD": "hidden", "A": "1"},
        network="host",
        platform="linux/arm64",
        target="final",
        hosts=["a:192.0.2.1"],
        cache_from=["x"],
    )

    assert "hidden" not in repr(asked)
    assert asked.command == [
        *["build", "--tag", "t", "--file", "/c/Dockerfile", "--progress", "plain", "--target", "final"],
        *["--platform", "linux/arm64", "--network", "host", "--add-host", "a:192.0.2.1", "--cache-from", "x"],
        *["--build-arg", "A", "--build-arg", "PASSWORD", "/c"],
    ]


def fake_docker(folder: Path, version: str, *, buildx: bool) -> Path:
    folder.mkdir()
    program = folder / "docker"
    answer = "echo github.com/docker/buildx" if buildx else "exit 1"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in --version) echo Docker version {version}, build 1;; buildx) {answer};; esac\n'
    )
    program.chmod(0o755)
    return folder


def test_first_docker_that_has_buildkit_is_taken(tmp_path: Path) -> None:
    newer = fake_docker(tmp_path / "newer", "28.2.2", buildx=False)
    older = fake_docker(tmp_path / "older", "20.10.24+dfsg1", buildx=False)
    whole = fake_docker(tmp_path / "whole", "28.2.2", buildx=True)

    assert build.docker_program(f"{newer}:{older}:{whole}") == f"{older}/docker"
    assert build.docker_program(f"{newer}:{whole}") == f"{whole}/docker"


def test_missing_buildkit_says_what_to_install(tmp_path: Path) -> None:
    newer = fake_docker(tmp_path / "newer", "28.2.2", buildx=False)

    with pytest.raises(ResourceError, match="apt-get install docker-buildx"):
        build.docker_program(str(newer))
    with pytest.raises(ResourceError, match="docker is missing"):
        build.docker_program(str(tmp_path))


KILLED = """
import os
from airgap.docker import build
from airgap.docker.connection import Auth, Connection
asked = build.Build("t", "/c", "/c/Dockerfile")
with build._environment(asked, Connection({"host": "unix:///s"}), [Auth("r.example", "ann", "hidden")]):
    os.kill(os.getpid(), 9)
"""


def test_credentials_of_a_build_that_was_killed_go_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    left = list(tmp_path.rglob("config.json"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    asked = Build("t", "/c", "/c/Dockerfile")
    with build._environment(asked, Connection({"host": "unix:///s"}), [Auth("r.example", "bob", "x")]) as told:
        found = list(tmp_path.rglob("config.json"))

    assert len(left) == 1
    assert found == [Path(told["DOCKER_CONFIG"], "config.json")]
    assert list(tmp_path.iterdir()) == []


NEWS = {"imageName": "r.example/a", "build": {"contextDigest": "1"}, "registry": {"server": "r", "password": "x"}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"registry": {"server": "r", "password": "y"}}, []),
        ({"registry": {"server": "r", "username": "u", "password": UNKNOWN}}, []),
        ({"registry": {"server": "other"}}, [("registry", "update")]),
        ({"registry": UNKNOWN}, [("registry", "update")]),
        ({"build": {"contextDigest": "2"}}, [("build", "update")]),
        ({"skipPush": True}, [("skipPush", "add")]),
        ({"imageName": "r.example/b"}, [("imageName", "update")]),
    ],
)
def test_what_builds_an_image_again(change: dict[str, object], expected: list[tuple[str, str]]) -> None:
    changes = Image().diff({INPUTS: NEWS, "imageName": "r.example/a"}, {**NEWS, **change})

    assert [(found.path, found.kind) for found in changes] == expected
    assert not any(found.replaces for found in changes)
