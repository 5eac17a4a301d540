"""The router's image: no more than it needs, and the folders that fresh volumes take their owner from."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from airgap.base import debian, image
from airgap.router import image as router
from provider.content.cache import DigestCache
from provider.images.store import ImageLayoutStore


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root file system in small; owners are left as they are, which takes no rights."""
    for name in ("usr/sbin/haproxy", "usr/bin/apt", "usr/bin/apt-get", "usr/lib/apt/methods/http", "etc/apt/apt.conf"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text("x")
    monkeypatch.setattr(router.shutil, "chown", lambda *_: None)
    router.prepare(tmp_path / "root")
    return tmp_path / "root"


def test_nothing_is_installed_later(root: Path) -> None:
    assert [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()] == ["usr/sbin/haproxy"]


def test_services_share_the_folder_of_their_sockets(root: Path, tmp_path: Path) -> None:
    image.pack(root, tmp_path / "layer.tar", shared={"run/slipway"})
    with tarfile.open(tmp_path / "layer.tar") as archive:
        modes = {entry.name: entry.mode for entry in archive}
    assert (modes["run/slipway"], modes["etc/slipway-router"]) == (0o3770, 0o770)


def test_a_layer_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(router.shutil, "chown", lambda *_: None)
    made = []

    def make_root(folder: Path, mirror: str | None, packages: tuple[str, ...]) -> None:
        made.append((mirror, packages))
        (folder / "usr").mkdir(parents=True)
        os.utime(folder / "usr", (1, 1))

    monkeypatch.setattr(debian, "make_root", make_root)
    first = router.cached_layer("http://mirror.example")
    assert router.cached_layer() == first
    assert made == [("http://mirror.example", ("haproxy",))]
    with ImageLayoutStore(tmp_path / "layout", "router", DigestCache(tmp_path / "cache")) as store:
        assert router.push(store, "debian12", *first) == router.push(store, "debian12", *first)
