"""`RegistryService`: the registry of a workspace as a process on this machine, with generated credentials.

It makes, changes and removes the service; what is in the registry is of others. A tier changes in place: the quota at
once, CPUs and memory by a new process on the same data, which clients bridge by trying again. Beyond loopback it
listens with TLS alone: its one user's password goes with every request.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar

from provider.content.errors import ContentError
from provider.image_layout import watch_of
from provider.registry.address import is_loopback
from provider.registry_host import host, webhooks
from provider.registry_host.host import Pair
from provider.registry_host.spec import LOOPBACK, Spec
from provider.resource import Context, Failure, Input, Resource, ResourceError
from provider.values import UNKNOWN, Properties, is_known

P = ParamSpec("P")
T = TypeVar("T")
_SECONDS_A_DAY = 86400
_MOST_REPLICAS = 4


class RegistryService(Resource):
    """See the module. Its id is its folder."""

    token: ClassVar[str] = "slipway:index:RegistryService"
    inputs: ClassVar[Mapping[str, Input]] = {
        # Absolute; what is stored lies in it and goes with it.
        "path": Input("string", replaces=True),
        "port": Input("integer"),
        "tier": Input("string"),
        "quotaBytes": Input("integer"),
        "cpus": Input("number"),
        "memoryBytes": Input("integer"),
        # After how many days a manifest without a tag goes; without it they stay.
        "retentionDays": Input("integer", required=False),
        # The address to listen on; loopback where it is not given.
        "bind": Input("string", required=False),
        # The name or address by which clients reach it; `bind` where it is not given.
        "host": Input("string", required=False),
        # PEM; with both it speaks TLS.
        "certificate": Input("string", required=False),
        "privateKey": Input("string", required=False),
        # How many registries serve the same data behind the one port.
        "replicas": Input("integer", required=False),
        # `name`, `url` and perhaps `actions`, `scope`, `headers` of each.
        "webhooks": Input("list", required=False),
        # How many of them the tier has.
        "webhookLimit": Input("integer", required=False, silent=True),
    }
    secrets: ClassVar[Collection[str]] = ("password", "privateKey")
    sound: ClassVar[tuple[str, str | bool] | None] = ("state", "Serving")

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        return news, await asyncio.to_thread(_failures, news)

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if context.preview:
            path = news["path"]
            return ("" if path is UNKNOWN else path), _outputs(news, UNKNOWN, UNKNOWN)
        return news["path"], await _run(_apply, context, news)

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        return await _run(_read, context, Path(resource_id), state)

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        if context.preview:
            return _outputs(news, state.get("username"), state.get("password"))
        return await _run(_apply, context, news)

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        await _run(host.remove, Path(resource_id), watch_of(context))


async def _run(operation: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(operation, *arguments, **named)
    except ContentError as error:
        raise ResourceError(str(error)) from None


# -- what cannot be ----------------------------------------------------------------------------------------------------


def _failures(news: Properties) -> list[Failure]:
    failures = [
        Failure(name, f"must be more than 0, not {news[name]}")
        for name in ("quotaBytes", "cpus", "memoryBytes", "retentionDays")
        if news.get(name) not in (None, UNKNOWN) and news[name] <= 0
    ]
    replicas = news.get("replicas")
    if replicas not in (None, UNKNOWN) and not 1 <= replicas <= _MOST_REPLICAS:
        failures.append(Failure("replicas", f"must be from 1 to {_MOST_REPLICAS}, not {replicas}"))
    failures += _webhook_failures(news.get("webhooks"), news.get("webhookLimit"))
    listening = _listening_failures(news)
    failures += listening
    path, port, quota = news["path"], news["port"], news["quotaBytes"]
    if path is UNKNOWN:
        return failures
    if not path.startswith("/"):
        return [*failures, Failure("path", f"must be an absolute path, not {path!r}")]
    address = _given(news, "bind", LOOPBACK)
    if port is not UNKNOWN and address is not UNKNOWN and not listening:
        conflict = host.port_conflict(Path(path), address, port)
        failures += [] if conflict is None else [Failure(*conflict)]
    if quota is not UNKNOWN and quota > 0 and (reason := host.quota_conflict(Path(path), quota)) is not None:
        failures.append(Failure("quotaBytes", reason))
    try:
        host.program()
    except ContentError as error:
        failures.append(Failure("", str(error)))
    return failures


def _webhook_failures(asked: object, limit: object) -> list[Failure]:
    return webhooks.failures(asked, limit if isinstance(limit, int) else None) if isinstance(asked, list) else []


def _listening_failures(news: Properties) -> list[Failure]:
    """What is wrong with where it listens, and with what it speaks there."""
    address, certificate, key = _given(news, "bind", LOOPBACK), news.get("certificate"), news.get("privateKey")
    if (certificate is None) != (key is None):
        missing, given = ("certificate", "privateKey") if certificate is None else ("privateKey", "certificate")
        return [Failure(missing, f"is required with {given}: TLS needs both")]
    if address is UNKNOWN:
        return []
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return [Failure("bind", f"must be an IP address of this machine, or 0.0.0.0 for all of them, not {address!r}")]
    if not parsed.is_loopback and certificate is None:
        return [
            Failure(
                "bind",
                f"{address} is reached from other machines, and the registry's password would be readable on the "
                f"network; give certificate and privateKey (a Certificate makes them), or keep {LOOPBACK}",
            )
        ]
    if parsed.is_unspecified and news.get("host") is None:
        return [Failure("host", f"is required where bind is {address}: the name or address by which clients reach it")]
    name = _given(news, "host", address)
    if name is not UNKNOWN and (not name or set(name) & set("/@ ") or (":" in name and not _is_address(name))):
        return [Failure("host", f"must be a name or an address without a port, not {name!r}")]
    if certificate is None or key is None or not is_known([certificate, key, name]):
        return []
    from provider.certificates.pair import check_pair  # here: it loads slowly, and most have none

    return check_pair(certificate, key, [str(name)])


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _given(news: Properties, name: str, default: Any) -> Any:
    value = news.get(name)
    return default if value is None else value


# -- operations --------------------------------------------------------------------------------------------------------


def _spec(news: Properties) -> Spec:
    """All but its certificate."""
    address = _given(news, "bind", LOOPBACK)
    replicas = news.get("replicas")
    return Spec(
        program=host.program(),
        port=news["port"],
        quota_bytes=news["quotaBytes"],
        cpus=news["cpus"],
        memory_bytes=news["memoryBytes"],
        collect_seconds=_SECONDS_A_DAY,
        retention_days=news.get("retentionDays"),
        bind=address,
        host=_given(news, "host", address),
        replicas=1 if replicas is None else replicas,
        webhooks=webhooks.complete(news.get("webhooks") or []),
    )


def _apply(context: Context, news: Properties) -> Properties:
    pair = None if news.get("certificate") is None else Pair(news["certificate"], news["privateKey"])
    credentials = host.apply(Path(news["path"]), _spec(news), watch_of(context), pair)
    return _outputs(news, credentials.username, credentials.password)


def _outputs(news: Properties, username: object, password: object) -> Properties:
    return {**news, "address": _address(news), "username": username, "password": password, "state": "Serving"}


def _address(news: Properties) -> Any:
    """HOST:PORT; on loopback, where clients take it for granted that there is no TLS, with https:// before it."""
    name, port = _given(news, "host", _given(news, "bind", LOOPBACK)), news["port"]
    if not is_known([name, port]):
        return UNKNOWN
    authority = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    return f"https://{authority}" if news.get("certificate") is not None and is_loopback(name) else authority


def _read(context: Context, folder: Path, state: Properties) -> Properties | None:
    spec, credentials = host.asked_for(folder), host.credentials_of(folder)
    if spec is None or credentials is None:
        context.log.warning(f"the registry in {folder} is gone: it will be made again")
        return None
    found = host.state(folder)
    if found in ("Stopped", "Failing", "Ending"):
        context.log.warning(f"the registry in {folder} does not run ({found}): it will be started")
    else:
        found = "Serving"  # what else it may be doing passes by itself
    pair = host.certificate_of(folder)
    seen: Properties = {
        **state,
        "path": str(folder),
        "port": spec.port,
        "quotaBytes": spec.quota_bytes,
        "cpus": spec.cpus,
        "memoryBytes": spec.memory_bytes,
        "retentionDays": spec.retention_days,
        "certificate": None if pair is None else pair.certificate,
        "privateKey": None if pair is None else pair.private_key,
        "username": credentials.username,
        "password": credentials.password,
        "state": found,
    }
    # What is not given stays so, as long as the service is what that means.
    for name, value, default in (("bind", spec.bind, LOOPBACK), ("replicas", spec.replicas, 1)):
        seen[name] = None if state.get(name) is None and value == default else value
    seen["host"] = None if state.get("host") is None and spec.host == spec.bind else spec.host
    if webhooks.complete(state.get("webhooks") or []) != spec.webhooks:
        seen["webhooks"] = spec.webhooks
    return {**seen, "address": _address(seen)}
