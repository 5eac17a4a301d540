"""The base image that is made of Debian's packages: packed the same way each time, without what names the machine."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest

from airgap.base import debian, image
from provider.content.cache import DigestCache
from provider.images.base import read_base
from provider.images.store import ImageLayoutStore


def root_file_system(root: Path) -> Path:
    """What debootstrap leaves, in small."""
    files = {
        "etc/hostname": "this-machine\n",
        "etc/machine-id": "0123456789abcdef\n",
        "etc/resolv.conf": "nameserver 10.0.0.1\n",
        "etc/apt/sources.list": "deb http://mirror.example bookworm main\n",
        "etc/shadow": "root:*:20414:0:99999:7:::\ndaemon:*:20414:0:99999:7:::\n",
        "usr/bin/python3.11": "#!/bin/sh\n",
        "usr/lib/python3.11/os.py": "x = 1\n",
        "usr/lib/python3.11/__pycache__/os.cpython-311.pyc": "compiled at some time",
        "usr/share/doc/python3/README": "text\n",
        "usr/share/doc/python3/copyright": "licence\n",
        "usr/share/man/man1/python3.1": "page\n",
        "var/cache/apt/pkgcache.bin": "cache",
        "var/log/bootstrap.log": "when and where\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "usr/bin/python3").symlink_to("python3.11")
    (root / "usr/bin/python").hardlink_to(root / "usr/bin/python3.11")
    (root / "usr/bin/python3.11").chmod(0o4755)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    os.mkfifo(root / "etc" / "pipe")
    return root


@pytest.fixture
def stripped(tmp_path: Path) -> Path:
    root = root_file_system(tmp_path / "root")
    debian._strip(root)
    return root


def test_nothing_that_names_the_machine_stays(stripped: Path) -> None:
    files = {str(path.relative_to(stripped)) for path in stripped.rglob("*") if not path.is_dir()}
    assert files == {
        *("etc/shadow", "etc/pipe", "usr/bin/python", "usr/bin/python3", "usr/bin/python3.11"),
        *("usr/lib/python3.11/os.py", "usr/share/doc/python3/copyright"),
    }
    assert (stripped / "etc/shadow").read_text() == "root:*::0:99999:7:::\ndaemon:*::0:99999:7:::\n"


def test_the_version_of_python_is_found(stripped: Path) -> None:
    assert debian.python_version(stripped) == "3.11"


def test_the_same_files_are_the_same_layer(tmp_path: Path) -> None:
    blobs = set()
    for name in ("a", "b"):
        root = root_file_system(tmp_path / name)
        debian._strip(root)
        os.utime(root / "usr" / "lib", (len(blobs), len(blobs)))
        blobs.add(image.pack(root, tmp_path / f"{name}.tar"))
    assert len(blobs) == 1


def test_a_layer_gives_no_rights_and_holds_no_pipes(stripped: Path, tmp_path: Path) -> None:
    image.pack(stripped, tmp_path / "layer.tar")
    with tarfile.open(tmp_path / "layer.tar") as archive:
        entries = {entry.name: entry for entry in archive}
    assert "etc/pipe" not in entries
    assert not [name for name, entry in entries.items() if entry.mode & 0o6000]
    assert entries["tmp"].mode == 0o1777
    assert entries["usr/bin/python3"].issym()
    assert {entries["usr/bin/python"].islnk(), entries["usr/bin/python3.11"].islnk()} == {True, False}
    assert {(entry.mtime, entry.uname, entry.gname) for entry in entries.values()} == {(0, "", "")}


def test_an_image_is_one_that_services_are_built_on(stripped: Path, tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    blob = image.pack(stripped, layer)
    with ImageLayoutStore(tmp_path / "layout", "base/python", DigestCache(tmp_path / "cache")) as store:
        digest = image.push(store, "debian12", layer, blob, "3.11")
        assert image.push(store, "debian12", layer, blob, "3.11") == digest
        base = read_base(store, "base/python", digest, f"linux/{debian.architecture()}")
    assert [item.blob for item in base.layers] == [blob]
    assert base.environment["PYTHON_VERSION"] == "3.11"


def test_a_missing_debootstrap_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(debian.shutil, "which", lambda *_, **__: None)
    with pytest.raises(debian.BaseImageError, match="apt-get install debootstrap"):
        debian.make_root(tmp_path / "root")


def test_root_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(debian.BaseImageError, match="needs root"):
        debian.make_root(tmp_path / "root")


def test_what_debootstrap_says_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "debootstrap"
    program.write_text("#!/bin/sh\necho E: no such suite\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(debian.BaseImageError, match=r"(?s)exit code 1:.*no such suite"):
        debian.make_root(tmp_path / "root")


def test_a_layer_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    made = []

    def make_root(folder: Path, mirror: str | None) -> None:
        made.append(mirror)
        debian._strip(root_file_system(folder))

    monkeypatch.setattr(debian, "make_root", make_root)
    first = image.cached_layer("http://mirror.example")
    assert image.cached_layer() == first
    assert made == ["http://mirror.example"]
    assert sorted(path.suffix for path in first[0].parent.iterdir()) == [".json", ".tar"]
    assert json.loads(first[0].with_suffix(".json").read_bytes())["python"] == "3.11"
