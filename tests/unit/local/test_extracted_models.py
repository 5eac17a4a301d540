"""Model layers: unpacked once, verified, read-only, and nothing from outside."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from provider.local.layout import models
from provider.local.models import extracted
from provider.resource import ResourceError
from tests.unit.local.deployment import stored_model


def never() -> bool:
    return False


def stored(home: Path, *entries: tarfile.TarInfo) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    blobs = home / "store" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / digest).write_bytes(buffer.getvalue())
    return f"sha256:{digest}"


def entry(name: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def left(home: Path) -> list[str]:
    return [path.name for path in models(home).iterdir() if not path.name.endswith(".lock")]


def test_a_model_is_extracted_read_only(tmp_path: Path) -> None:
    model = stored_model(tmp_path, "digits", b"seven")
    file = extracted(tmp_path, model["digest"], never) / "models" / "digits" / "weights.txt"
    assert file.read_bytes() == b"seven"
    assert file.stat().st_mode & 0o777 == 0o444


def test_a_model_that_is_there_is_not_read_again(tmp_path: Path) -> None:
    model = stored_model(tmp_path, "digits", b"seven")
    place = extracted(tmp_path, model["digest"], never)
    for blob in (tmp_path / "store" / "blobs" / "sha256").iterdir():
        blob.unlink()
    assert extracted(tmp_path, model["digest"], never) == place


def test_services_that_want_the_same_model_at_once_both_get_it(tmp_path: Path) -> None:
    model = stored_model(tmp_path, "digits", b"seven" * 100_000)
    places: list[Path] = []
    threads = [
        threading.Thread(target=lambda: places.append(extracted(tmp_path, model["digest"], never))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(places) == 4
    assert len(set(places)) == 1


def test_a_damaged_layer_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    model = stored_model(tmp_path, "digits", b"seven")
    blob = tmp_path / "store" / "blobs" / "sha256" / model["digest"][7:]
    blob.write_bytes(blob.read_bytes().replace(b"seven", b"eight"))
    with pytest.raises(ResourceError, match=r"is damaged: .* is corrupt: its content is not sha256:"):
        extracted(tmp_path, model["digest"], never)
    assert left(tmp_path) == []


def test_a_layer_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    model = stored_model(tmp_path, "digits", b"seven" * 10_000)
    blob = tmp_path / "store" / "blobs" / "sha256" / model["digest"][7:]
    blob.write_bytes(blob.read_bytes()[:3000])
    with pytest.raises(ResourceError, match="is damaged"):
        extracted(tmp_path, model["digest"], never)
    assert left(tmp_path) == []


def test_a_layer_that_is_missing_says_how_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"has no layer sha256:0000.*pulumi up --refresh"):
        extracted(tmp_path, "sha256:" + "0" * 64, never)


@pytest.mark.parametrize(
    "bad",
    [
        entry("models/../../outside", size=1),
        entry("/etc/outside", size=1),
        entry("elsewhere/file", size=1),
        entry("models/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        entry("models/link", type=tarfile.LNKTYPE, linkname="models/other"),
        entry("models/pipe", type=tarfile.FIFOTYPE),
    ],
    ids=lambda bad: f"{bad.name}-{bad.type!r}",
)
def test_what_does_not_belong_into_a_model_is_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    digest = stored(tmp_path, bad)
    with pytest.raises(ResourceError, match="is damaged: the entry"):
        extracted(tmp_path, digest, never)
    assert left(tmp_path) == []


def test_cancelling_leaves_nothing(tmp_path: Path) -> None:
    model = stored_model(tmp_path, "digits", b"seven")
    with pytest.raises(ResourceError, match="cancelled"):
        extracted(tmp_path, model["digest"], lambda: True)
    assert left(tmp_path) == []


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    model = stored_model(tmp_path, "digits", b"seven")
    partial = models(tmp_path) / f".partial-{model['digest'][7:]}" / "models"
    partial.mkdir(parents=True)
    (partial / "half").touch()
    place = extracted(tmp_path, model["digest"], never)
    assert sorted(path.name for path in place.rglob("*")) == ["digits", "models", "weights.txt"]
