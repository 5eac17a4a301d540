"""docker.Network: a network of the engine."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from airgap.docker import sdk, waiting
from airgap.docker.bridged import Bridged
from airgap.docker.connection import Connection, explained
from airgap.docker.schema import LABELS, Schema, boolean, mapping, object_set, string
from provider.resource import Context
from provider.values import Properties

_IPAM = {"auxAddress": mapping(), "gateway": string(), "ipRange": string(), "subnet": string()}


class Network(Bridged):
    """Every change needs a new one."""

    token: ClassVar[str] = "docker:index/network:Network"
    schema: ClassVar[Schema] = Schema(
        inputs={
            "attachable": boolean(),
            "driver": string(computed=True),
            "ingress": boolean(),
            "internal": boolean(computed=True),
            "ipamConfigs": object_set(_IPAM, computed=True),
            "ipamDriver": string(default="default"),
            "ipamOptions": mapping(computed=True),
            "ipv6": boolean(),
            "labels": object_set(LABELS),
            "name": string(),
            "options": mapping(computed=True),
        },
        outputs=("scope",),
        version=1,
    )

    def create(self, connection: Connection, context: Context, news: Properties) -> tuple[str, Properties]:
        request = {
            "Name": news["name"],
            "CheckDuplicate": True,
            "Driver": news.get("driver") or None,
            "Internal": bool(news.get("internal")),
            "Attachable": bool(news.get("attachable")),
            "Ingress": bool(news.get("ingress")),
            "EnableIPv6": bool(news.get("ipv6")),
            "Options": news.get("options") or {},
            "Labels": labels_to_engine(news.get("labels")),
            "IPAM": {
                "Driver": news.get("ipamDriver") or "default",
                "Options": news.get("ipamOptions") or {},
                "Config": [_ipam_to_engine(config) for config in news.get("ipamConfigs") or []],
            },
        }
        try:
            answer = json.loads(connection.post("/networks/create", request))
        except sdk.APIError as error:
            raise explained(f"the network {news['name']} cannot be made", error) from error
        return self.made(connection, answer["Id"], news)

    def find(self, connection: Connection, resource_id: str, state: Properties) -> tuple[str, Properties] | None:
        try:
            found = connection.api.inspect_network(resource_id)
        except sdk.NotFound:
            return None
        except sdk.APIError as error:
            raise explained(f"the network {state.get('name', resource_id)} cannot be looked at", error) from error
        ipam = found.get("IPAM") or {}
        return found["Id"], {
            "attachable": found["Attachable"],
            "driver": found["Driver"],
            "ingress": found.get("Ingress", False),
            "internal": found["Internal"],
            "ipamConfigs": [_ipam_from_engine(config) for config in ipam.get("Config") or []],
            "ipamDriver": ipam.get("Driver") or "default",
            "ipv6": found["EnableIPv6"],
            "labels": labels_from_engine(found.get("Labels")),
            "name": found["Name"],
            "options": found.get("Options") or {},
            "scope": found["Scope"],
        }

    def delete(self, connection: Connection, resource_id: str, state: Properties) -> None:
        name = state.get("name", resource_id)
        waiting.remove(
            lambda: connection.api.remove_network(resource_id), f"the network {name}", "has active endpoints"
        )


def labels_to_engine(labels: list[Any] | None) -> dict[str, str]:
    """Labels as the engine has them: a map."""
    return {label["label"]: label["value"] for label in labels or []}


def labels_from_engine(labels: dict[str, str] | None) -> list[dict[str, str]]:
    """Labels as the program has them: a list, here in the order of the names."""
    return [{"label": name, "value": value} for name, value in sorted((labels or {}).items())]


def _ipam_to_engine(config: Properties) -> dict[str, Any]:
    names = {"subnet": "Subnet", "ipRange": "IPRange", "gateway": "Gateway", "auxAddress": "AuxiliaryAddresses"}
    return {theirs: config[ours] for ours, theirs in names.items() if config.get(ours)}


def _ipam_from_engine(config: dict[str, Any]) -> Properties:
    # The engine notes the gateway that it chose as `ADDRESS/BITS` in some versions.
    return {
        "auxAddress": config.get("AuxiliaryAddresses") or {},
        "gateway": (config.get("Gateway") or "").partition("/")[0],
        "ipRange": config.get("IPRange") or "",
        "subnet": config.get("Subnet") or "",
    }
