"""What is remembered of files, and when it is not believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provider.content.cache import RACY_NS, DigestCache, Remembered, default_directory

VALUE = Remembered("sha256:00", 7)


def test_a_digest_is_remembered_by_subject_and_signature(tmp_path: Path) -> None:
    cache = DigestCache(tmp_path)
    cache.put("model", "signature", VALUE, looked_ns=RACY_NS, newest_ns=0)
    assert DigestCache(tmp_path).get("model", "signature") == VALUE
    assert cache.get("model", "other") is None
    assert cache.get("other", "signature") is None


@pytest.mark.parametrize("newest_ns", [1, RACY_NS, 2 * RACY_NS])
def test_what_changed_shortly_before_it_was_looked_at_is_not_remembered(tmp_path: Path, newest_ns: int) -> None:
    cache = DigestCache(tmp_path)
    cache.put("model", "signature", VALUE, looked_ns=RACY_NS, newest_ns=newest_ns)
    assert cache.get("model", "signature") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"format": 1}', b"\xff"])
def test_a_damaged_entry_is_no_entry(tmp_path: Path, content: bytes) -> None:
    cache = DigestCache(tmp_path)
    cache.put("model", "signature", VALUE, looked_ns=RACY_NS, newest_ns=0)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(content)
    assert cache.get("model", "signature") is None


def test_an_entry_under_another_subjects_name_is_not_believed(tmp_path: Path) -> None:
    cache = DigestCache(tmp_path)
    cache.put("model", "signature", VALUE, looked_ns=RACY_NS, newest_ns=0)
    (entry,) = tmp_path.iterdir()
    document = json.loads(entry.read_text())
    entry.write_text(json.dumps({**document, "subject": "other"}))
    assert cache.get("model", "signature") is None


def test_a_directory_that_cannot_be_written_is_silently_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = DigestCache(tmp_path / "file" / "digests")
    cache.put("model", "signature", VALUE, looked_ns=RACY_NS, newest_ns=0)
    assert cache.get("model", "signature") is None


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    DigestCache(tmp_path).put("model", "signature", VALUE, looked_ns=RACY_NS, newest_ns=0)
    assert list(tmp_path.iterdir()) == []


def test_it_lies_where_caches_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_directory() == Path("/caches/slipway/digests")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_directory() == Path("~/.cache/slipway/digests").expanduser()
