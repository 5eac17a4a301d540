"""A registry's notifications as CloudEvents, and who wants which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provider.registry_host.events import deleted, from_notification, is_wanted

SOURCE = "https://registry.example:5000"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DIGEST = f"sha256:{'ab' * 32}"


def notification(action: str = "push", **target: Any) -> dict[str, Any]:
    """As CNCF Distribution 2.8 writes it."""
    event = {
        "id": "659ebf64-2ac1-4d16-8bdd-55adfb64afc8",
        "timestamp": "2026-11-22T17:20:38.147259725Z",
        "action": action,
        "target": {"repository": "models/mnist", **target},
        "request": {
            "id": "a8ed6b67-5874-4b1e-8544-f6ff650ed0c7",
            "addr": "192.0.2.7:1234",
            "host": "registry.example:5000",
            "method": "PUT",
            "useragent": "slipway",
        },
        "actor": {"name": "slipway"},
        "source": {"addr": "machine:5000", "instanceID": "1d79d737-033c-4ba5-b1ac-5ef0e3690d51"},
    }
    return {"events": [event]}


def one(document: dict[str, Any], data: Path = Path("/nonexistent")) -> dict[str, Any]:
    (event,) = from_notification(document, SOURCE, data)
    return event


def store(data: Path, digest: str, content: bytes) -> None:
    name = digest.removeprefix("sha256:")
    path = data / "docker" / "registry" / "v2" / "blobs" / "sha256" / name[:2] / name / "data"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_a_push_has_what_azure_s_events_have_and_nothing_of_the_network() -> None:
    target = {"mediaType": MANIFEST, "size": 258, "digest": DIGEST, "length": 258, "url": "https://x", "tag": "1"}
    assert one(notification(**target)) == {
        "specversion": "1.0",
        "id": "659ebf64-2ac1-4d16-8bdd-55adfb64afc8",
        "source": SOURCE,
        "type": "Microsoft.ContainerRegistry.ImagePushed",
        "subject": "models/mnist:1",
        "time": "2026-11-22T17:20:38.147259725Z",
        "datacontenttype": "application/json",
        "data": {
            "id": "659ebf64-2ac1-4d16-8bdd-55adfb64afc8",
            "timestamp": "2026-11-22T17:20:38.147259725Z",
            "action": "push",
            "target": {
                "mediaType": MANIFEST,
                "size": 258,
                "digest": DIGEST,
                "length": 258,
                "repository": "models/mnist",
                "tag": "1",
            },
            "request": {
                "id": "a8ed6b67-5874-4b1e-8544-f6ff650ed0c7",
                "host": "registry.example:5000",
                "method": "PUT",
                "useragent": "slipway",
            },
        },
    }


def test_a_push_without_a_tag_is_about_its_digest() -> None:
    assert one(notification(digest=DIGEST))["subject"] == f"models/mnist@{DIGEST}"


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        ({"schemaVersion": 2, "mediaType": "application/x", "layers": []}, "application/x"),
        ({"schemaVersion": 2, "layers": []}, MANIFEST),
        ({"schemaVersion": 2, "manifests": []}, "application/vnd.oci.image.index.v1+json"),
    ],
)
def test_a_deleted_manifest_says_what_it_was(tmp_path: Path, content: dict[str, Any], media_type: str) -> None:
    store(tmp_path, DIGEST, json.dumps(content).encode())
    event = one(notification("delete", digest=DIGEST), tmp_path)
    assert (event["type"], event["subject"]) == ("Microsoft.ContainerRegistry.ImageDeleted", "models/mnist")
    assert event["data"]["target"] == {"mediaType": media_type, "digest": DIGEST, "repository": "models/mnist"}


@pytest.mark.parametrize("content", [b"weights", b"[]", b'{"architecture": "amd64"}', b'{"schemaVersion": 1}'])
def test_a_deleted_blob_is_no_event(tmp_path: Path, content: bytes) -> None:
    store(tmp_path, DIGEST, content)
    assert list(from_notification(notification("delete", digest=DIGEST), SOURCE, tmp_path)) == []


def test_what_is_deleted_and_unknown_is_no_event(tmp_path: Path) -> None:
    assert list(from_notification(notification("delete", digest=DIGEST), SOURCE, tmp_path)) == []


def test_a_deleted_tag_is_about_the_tag() -> None:
    event = one(notification("delete", tag="1"))
    assert event["subject"] == "models/mnist:1"
    assert event["data"]["target"] == {"repository": "models/mnist", "tag": "1"}


def test_a_mount_is_no_event() -> None:
    assert list(from_notification(notification("mount", digest=DIGEST), SOURCE, Path("/nonexistent"))) == []


def test_what_the_cleaning_removed_is_told_like_a_deletion(tmp_path: Path) -> None:
    store(tmp_path, DIGEST, json.dumps({"schemaVersion": 2, "mediaType": MANIFEST}).encode())
    event = one(deleted("models/mnist", DIGEST, "17", "2026-11-22T17:20:38Z"), tmp_path)
    assert (event["id"], event["type"]) == ("17", "Microsoft.ContainerRegistry.ImageDeleted")
    assert event["data"]["request"] == {}


@pytest.mark.parametrize(
    ("webhook", "wanted"),
    [
        ({"actions": ["push", "delete"]}, True),
        ({"actions": ["delete"]}, False),
        ({"actions": ["push"], "scope": "models/mnist"}, True),
        ({"actions": ["push"], "scope": "models/*"}, True),
        ({"actions": ["push"], "scope": "models"}, False),
        ({"actions": ["push"], "scope": "models/mnist:7"}, True),
        ({"actions": ["push"], "scope": "models/mnist:*"}, True),
        ({"actions": ["push"], "scope": "*:7"}, True),
        ({"actions": ["push"], "scope": "models/mnist:8"}, False),
        ({"actions": ["push"], "scope": "Models/mnist"}, False),
        ({"actions": ["push"], "scope": None}, True),
    ],
)
def test_a_webhook_is_told_what_it_asked_for(webhook: dict[str, Any], wanted: bool) -> None:
    assert is_wanted(one(notification(digest=DIGEST, tag="7")), webhook) is wanted


@pytest.mark.parametrize(("scope", "wanted"), [("models/*", True), ("models/mnist:*", True), ("models/mnist:7", False)])
def test_an_event_without_a_tag_is_for_those_who_want_every_tag(scope: str, wanted: bool) -> None:
    assert is_wanted(one(notification(digest=DIGEST)), {"actions": ["push"], "scope": scope}) is wanted
