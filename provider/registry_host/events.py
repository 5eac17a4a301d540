"""A registry's notifications as CloudEvents 1.0 (github.com/cloudevents/spec), and which webhooks want them.

Types and data are those of Azure Container Registry's events, so that what handles those handles these. Pulls, which
Azure does not tell, have a type of our own. Of a registry's notifications those about manifests become events: an image
or a model is told once, and not each of its layers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
ACTIONS = ("push", "delete", "pull")
DEFAULT_ACTIONS = ("push", "delete")
_TYPES = {
    "push": "Microsoft.ContainerRegistry.ImagePushed",
    "delete": "Microsoft.ContainerRegistry.ImageDeleted",
    "pull": "slipway.registry.ImagePulled",
}
_TARGET = ("mediaType", "size", "digest", "length", "repository", "tag")
_REQUEST = ("id", "host", "method", "useragent")
_LARGEST_MANIFEST = 4 * 1024 * 1024


def from_notification(document: Any, source: str, data: Path) -> Iterator[dict[str, Any]]:
    """The CloudEvents of a notification (an envelope with `events`). `source`: the registry's URL; `data`: what it
    stores, where it is looked up what was deleted."""
    for event in document["events"]:
        if event["action"] not in _TYPES:
            continue
        target = dict(event["target"])
        if event["action"] == "delete" and "digest" in target:
            found = _media_type(data, target["digest"])
            if found is None:
                continue  # a blob
            target["mediaType"] = found
        yield _cloud_event(event, target, source)


def deleted(repository: str, digest: str, number: str, moment: str) -> dict[str, Any]:
    """A notification like the registry's own, for a manifest that it did not delete itself."""
    target = {"repository": repository, "digest": digest}
    event = {"id": number, "timestamp": moment, "action": "delete", "target": target, "request": {}}
    return {"events": [event]}


def is_wanted(event: Mapping[str, Any], webhook: Mapping[str, Any]) -> bool:
    """Whether a webhook asked for an event: its actions, and its scope `REPOSITORY[:TAG]`, where `*` is anything."""
    data = event["data"]
    if data["action"] not in webhook["actions"]:
        return False
    repository, colon, tag = (webhook.get("scope") or "*").partition(":")
    target = data["target"]
    if not fnmatchcase(target["repository"], repository):
        return False
    return not colon or tag == "*" or fnmatchcase(target.get("tag") or "", tag)


def _cloud_event(event: Mapping[str, Any], target: Mapping[str, Any], source: str) -> dict[str, Any]:
    name, tag, digest = target["repository"], target.get("tag"), target.get("digest")
    if tag:
        name = f"{name}:{tag}"
    elif digest and event["action"] != "delete":
        name = f"{name}@{digest}"
    return {
        "specversion": "1.0",
        "id": event["id"],
        "source": source,
        "type": _TYPES[event["action"]],
        "subject": name,
        "time": event["timestamp"],
        "datacontenttype": "application/json",
        "data": {
            "id": event["id"],
            "timestamp": event["timestamp"],
            "action": event["action"],
            "target": {key: target[key] for key in _TARGET if target.get(key)},
            "request": {key: event["request"][key] for key in _REQUEST if event.get("request", {}).get(key)},
        },
    }


def _media_type(data: Path, digest: str) -> str | None:
    """What a manifest that was deleted was; None where it was none. What it consisted of stays until the next cleaning,
    and the registry does not say whether a manifest or a blob was deleted."""
    name = digest.rpartition(":")[2]
    path = data / "docker" / "registry" / "v2" / "blobs" / "sha256" / name[:2] / name / "data"
    try:
        if path.stat().st_size > _LARGEST_MANIFEST:
            return None
        document = json.loads(path.read_bytes())
        if document["schemaVersion"] != 2:
            return None
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if "mediaType" in document:
        return str(document["mediaType"])
    kind = "index" if "manifests" in document else "manifest"  # it may be left out of OCI's
    return f"application/vnd.oci.image.{kind}.v1+json"
