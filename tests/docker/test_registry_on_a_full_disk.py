"""A registry service whose disk is really full: a small file system of its own, which takes root to mount."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider.content.watch import Watch
from provider.registry.errors import RegistryFullError
from provider.registry_host import host
from provider.resource import ResourceError
from tests.registry.receiver import Receiver
from tests.registry.service import Service, context, eventually, run
from tests.registry.support import MANIFEST, MIB, content, manifest_of, put, read


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Service]:
    """A service on a disk of 24 MiB, whose quota would allow far more."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "slipway-test", str(disk)], check=True)
    service = Service(disk / "registry")
    service.inputs["quotaBytes"] = 1024 * MIB
    try:
        yield service
    finally:
        host.remove(service.folder, Watch())
        subprocess.run(["umount", str(disk)], check=True)


def fill(service: Service) -> Path:
    """Leaves not a byte."""
    filler = service.folder.parent / "filler"
    with filler.open("wb", buffering=0) as file:

        def full() -> bool:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            return shutil.disk_usage(filler.parent).free == 0

        # Others write there too, and what they remove leaves room again.
        eventually(full, "the disk is full")
    return filler


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_full_disk_is_told_and_the_registry_goes_on_serving(small: Service, replicas: int) -> None:
    small.up(replicas=replicas)
    repository, kept, large = small.registry().repository("full"), content(MIB, seed=950), content(32 * MIB, seed=951)
    put(repository, kept)
    repository.put_manifest("1", MANIFEST, manifest_of(kept))
    with pytest.raises(RegistryFullError, match=r"has no room left.*free space on its disk"):
        put(repository, large)
    filler = fill(small)
    # Neither a tick nor a change of what is told of it ends the keeper.
    keeper = small.status()["keeper"]
    assert read(small.registry().repository("full"), kept.digest) == kept.data
    assert not repository.has_blob(large.digest)
    assert repository.tags() == ["1"]
    assert host.is_running(small.folder)
    filler.unlink()
    shutil.rmtree(next(small.folder.glob("data/docker/registry/v2/repositories/full/_uploads")), ignore_errors=True)
    fits = content(8 * MIB, seed=952)
    put(repository, fits)
    assert read(repository, fits.digest) == fits.data
    assert small.status()["keeper"] == keeper


def test_a_change_on_a_full_disk_is_told_and_changes_nothing(small: Service) -> None:
    small.up()
    filler = fill(small)
    with pytest.raises(ResourceError, match=r"the registry's folder .* cannot be written: No space left on device"):
        run(small.resource.update(context(), str(small.folder), small.state, {**small.inputs, "quotaBytes": MIB}))
    small.registry().check()
    filler.unlink()
    small.up(quotaBytes=512 * MIB)


def test_events_of_a_full_disk_are_told_later(small: Service) -> None:
    """The courier keeps nothing that it cannot write, and the registry holds it meanwhile."""
    with Receiver() as receiver:
        small.up(webhooks=[{"name": "ci", "url": receiver.url}])
        repository, blob = small.registry().repository("events"), content(1000, seed=960)
        put(repository, blob)
        repository.put_manifest("1", MANIFEST, manifest_of(blob))
        eventually(lambda: receiver.received, "the push was told")
        filler = fill(small)
        repository.get_manifest("1")
        digest = repository.find_manifest("1")
        assert digest is not None
        repository.delete_manifest(digest.digest)
        eventually(lambda: len(receiver.received) > 1 or "cannot be kept" in small.log, "the deletion was heard of")
        filler.unlink()
        eventually(lambda: "delete" in [action for action, _ in receiver.told], "the deletion was told")
