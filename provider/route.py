"""`Route`: the way of clients' requests to the deployments of a service, on a Docker host.

Its servers and weights, its keys and its certificate change while the router runs; other changes are a reload, which
loses no request either (docs/routing.md). A route is made by what the router has: what a killed `up` left is found by
the next one.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
import ssl
import uuid
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, ClassVar

from provider.access_key import UNFIT, fits_a_header
from provider.container.engine import check_engine, engine_of, host_of, is_local
from provider.local.probe import Answer, NoAnswerError, ask
from provider.resource import Change, Context, Failure, Input, Resource, ResourceError, declared_changes
from provider.router.configuration import Deployment, Service, key_digests, pem_of
from provider.router.container import LONGEST_SCORING_MS, SOCKETS
from provider.router.refusal import HEADER
from provider.router.router import Router, Wanted, drift
from provider.values import UNKNOWN, Properties, is_known

DEFAULT_BIND = "0.0.0.0"  # noqa: S104 - a service is for others; the address is the user's to narrow
DEFAULT_SCORING_MS = 60_000
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]+")
_SOCKET = re.compile(r"/[A-Za-z0-9_./-]+\.sock")
_LONGEST_SOCKET = 107
_SETTLE_SECONDS = 10.0
_ANSWER_SECONDS = 10.0
_READ_SECONDS = 5.0
_POLL_SECONDS = 0.1
_OF_DEPLOYMENT = ("name", "revision", "weight", "sockets")


class Route(Resource):
    """See the module. Its id is `<router>/<service>/<a word of its own>`: two routes are told apart by it even while
    one replaces the other."""

    token: ClassVar[str] = "slipway:index:Route"
    inputs: ClassVar[Mapping[str, Input]] = {
        # Another host replaces it; another folder of certificates for the same one does not. See `diff`.
        "engine": Input("map"),
        "router": Input("string", replaces=True),
        "service": Input("string", replaces=True),
        "port": Input("integer"),
        "bind": Input("string", required=False),
        "host": Input("string", required=False),
        "certificate": Input("string", required=False),
        "privateKey": Input("string", required=False),
        "primaryKey": Input("string", required=False),
        "secondaryKey": Input("string", required=False),
        "scoringTimeoutMs": Input("integer", required=False),
        # `name`, `revision`, `weight` in percent, and `sockets` (paths in the router) of each.
        "deployments": Input("list"),
        # The ids of their containers, of which nothing is made: where another container takes the place of one, the
        # router takes it back at its next check, which an update waits for.
        "containers": Input("list", required=False),
    }

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        failures = [*check_engine(news["engine"]), *_failures(news), *_certificate_failures(news), *_key_failures(news)]
        return news, [*failures, *_deployment_failures(news["deployments"])]

    def diff(self, state: Properties, news: Properties) -> list[Change]:
        changes = [
            Change(change.path, change.kind, replaces=True) if change.path == "engine.host" else change
            for change in declared_changes(self.inputs, state, news)
        ]
        if not changes and state.get("drift"):
            return [Change("drift", "update", of_input=False)]
        return changes

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if context.preview:
            return "", _outputs(news)
        owner = uuid.uuid4().hex[:8]
        await _apply(context, news, owner)
        return f"{news['router']}/{news['service']}/{owner}", _outputs(news)

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        wanted = _wanted(state, _owner(resource_id))
        # A service that does not answer is drift too: an instance that comes back is out of the router's service until
        # its next check, and an `up` that starts one must not end before.
        found = await asyncio.to_thread(_drift, state, wanted) or await _silence(state, wanted)
        if found:
            context.log.warning(f"the route of {state['service']} is not as it was made: {'; '.join(found)}")
        return {**state, "drift": "; ".join(found) or None}

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        if not context.preview:
            await _apply(context, news, _owner(resource_id))
        return _outputs(news)

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        await asyncio.to_thread(_remove, state, _owner(resource_id))


def _owner(resource_id: str) -> str:
    return resource_id.rpartition("/")[2]


# -- carrying it out -------------------------------------------------------------------------------------------------


async def _apply(context: Context, news: Properties, owner: str) -> None:
    wanted = _wanted(news, owner)
    busy = await asyncio.to_thread(_routed, news, wanted, context.log.status)
    if busy:
        context.log.warning(
            f"{', '.join(busy)} had not answered all requests within the scoring timeout: they may be cut off"
        )
    context.log.status("verifying")
    await _verified(context, news, wanted)


def _routed(news: Properties, wanted: Wanted, status: Any) -> list[str]:
    return Router(engine_of(news["engine"]), news["router"]).apply(wanted, status)


def _drift(state: Properties, wanted: Wanted) -> list[str]:
    router = Router(engine_of(state["engine"]), state["router"])
    if not router.is_running():
        return [f"the router {state['router']} does not run"]
    return drift(router.facts(state["service"]), wanted)


async def _silence(state: Properties, wanted: Wanted) -> list[str]:
    """What clients are answered, where it is not what they should be."""
    try:
        wrong = await _first_misfit(state, wanted, _READ_SECONDS)
    except NoAnswerError as error:
        wrong = str(error) if is_local(state["engine"]) else ""
    return [wrong] if wrong else []


def _remove(state: Properties, owner: str) -> None:
    Router(engine_of(state["engine"]), state["router"]).remove(state["service"], owner)


def _wanted(properties: Properties, owner: str) -> Wanted:
    certificate, private_key = properties.get("certificate"), properties.get("privateKey")
    pem = None if certificate is None or private_key is None else pem_of(certificate, private_key)
    keys = _keys(properties)
    service = Service(
        name=properties["service"],
        port=properties["port"],
        bind=properties.get("bind", DEFAULT_BIND),
        tls=pem is not None,
        guarded=bool(keys),
        scoring_timeout_ms=properties.get("scoringTimeoutMs", DEFAULT_SCORING_MS),
        deployments=tuple(
            Deployment(item["name"], item["weight"], tuple(item["sockets"])) for item in properties["deployments"]
        ),
    )
    fingerprint = "" if certificate is None else _fingerprint(_leaf(certificate))
    return Wanted(service, owner, tuple(key_digests(keys)), pem, fingerprint)


def _keys(properties: Properties) -> list[str]:
    found = (properties.get("primaryKey"), properties.get("secondaryKey"))
    return list(dict.fromkeys(key for key in found if key is not None))


def _leaf(certificate: str) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    from provider.certificates.pair import read_chain

    return read_chain(certificate)[0].public_bytes(Encoding.DER)


def _fingerprint(certificate: bytes) -> str:
    """As HAProxy names a certificate: not a matter of security."""
    return hashlib.sha1(certificate, usedforsecurity=False).hexdigest().upper()


def _outputs(news: Properties) -> Properties:
    uri: Any = UNKNOWN
    known = [news.get(name) for name in ("engine", "bind", "host", "port")]
    if is_known(known) and news.get("certificate") is not UNKNOWN:
        host = news.get("host") or _reached(news)
        scheme = "http" if news.get("certificate") is None else "https"
        uri = f"{scheme}://{f'[{host}]' if ':' in host else host}:{news['port']}"
    deployments = news["deployments"]
    if is_known(deployments):
        revisions: Any = {item["name"]: item["revision"] for item in deployments}
        revision = max(deployments, key=lambda item: item["weight"])["revision"]
    else:
        revisions = revision = UNKNOWN
    return {
        **news,
        "scoringUri": UNKNOWN if uri is UNKNOWN else f"{uri}/score",
        "swaggerUri": UNKNOWN if uri is UNKNOWN else f"{uri}/swagger.json",
        "revision": revision,
        "revisions": revisions,
        "drift": None,
    }


def _reached(properties: Properties) -> str:
    """Where this machine reaches the service."""
    bind = properties.get("bind", DEFAULT_BIND)
    everywhere = bind in (DEFAULT_BIND, "::")
    return host_of(properties["engine"]) if everywhere else bind


# -- verifying -------------------------------------------------------------------------------------------------------


async def _verified(context: Context, news: Properties, wanted: Wanted) -> None:
    """Asks until what is asked for answers. Raises `ResourceError`."""
    address = f"{_reached(news)}:{news['port']}"
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SETTLE_SECONDS
    while True:
        try:
            wrong = await _first_misfit(news, wanted, _ANSWER_SECONDS)
        except NoAnswerError as error:
            if not is_local(news["engine"]):
                context.log.warning(
                    f"{address} cannot be reached from here ({error}): the router has moved the traffic, and whether "
                    "clients reach it is not known"
                )
                return
            wrong = str(error)
        if not wrong:
            return
        if context.cancelled.is_set() or loop.time() > deadline:
            raise ResourceError(
                f"the service {news['service']} at {address}: {wrong}. The router has taken the route; "
                "`pulumi up` tries again"
            )
        await asyncio.sleep(_POLL_SECONDS)


async def _first_misfit(properties: Properties, wanted: Wanted, seconds: float) -> str:
    """What is wrong with the answers to clients, asked for through the published port; "" when nothing is. Raises
    `NoAnswerError`."""
    tls = None
    if wanted.pem is not None:
        # Which certificate is shown is compared below; whether the names fit, `check` has looked at.
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    call = functools.partial(ask, (_reached(properties), properties["port"]), "/ready", timeout=seconds, tls=tls)
    deployments = properties["deployments"]
    wrong = _misfit(await call(), {item["revision"] for item in deployments if item["weight"]}, wanted)
    for item in deployments:
        if wrong:
            return wrong
        wrong = _misfit(
            await call(headers={HEADER: item["name"]}), {item["revision"]}, wanted, f", deployment {item['name']},"
        )
    return wrong


def _misfit(answer: Answer, revisions: set[str], wanted: Wanted, where: str = "") -> str:
    if answer.certificate is not None and _fingerprint(answer.certificate) != wanted.fingerprint:
        return "another certificate is shown: another program may have the port"
    if not answer.ok:
        return f"GET /ready{where} was answered with {answer.status}: {answer.excerpt()}"
    if answer.revision not in revisions:
        expected = " or ".join(sorted(revisions))
        return f"revision {answer.revision or 'none'}{where} answers, not {expected}"
    return ""


# -- checking --------------------------------------------------------------------------------------------------------


def _failures(news: Properties) -> list[Failure]:
    failures = []
    port, bind, service, timeout = news["port"], news.get("bind"), news["service"], news.get("scoringTimeoutMs")
    if port is not UNKNOWN and not 1 <= port <= 65535:
        failures.append(Failure("port", f"must be from 1 to 65535, not {port}"))
    if isinstance(bind, str) and not _ADDRESS.fullmatch(bind):
        failures.append(Failure("bind", f"{bind!r} must be an IP address of the host"))
    if isinstance(service, str) and not _LABEL.fullmatch(service):
        failures.append(
            Failure(
                "service", f"{service!r} is no DNS label: lower-case letters, digits and `-`, at most 63 characters"
            )
        )
    if isinstance(timeout, int) and not 1 <= timeout <= LONGEST_SCORING_MS:
        failures.append(Failure("scoringTimeoutMs", f"must be from 1 to {LONGEST_SCORING_MS}, not {timeout}"))
    return failures


def _certificate_failures(news: Properties) -> list[Failure]:
    certificate, key, host = news.get("certificate"), news.get("privateKey"), news.get("host")
    if (certificate is None) != (key is None):
        missing = "privateKey" if key is None else "certificate"
        return [Failure(missing, "a certificate and its private key belong together: give both")]
    if not isinstance(certificate, str) or not isinstance(key, str) or host is UNKNOWN:
        return []
    from provider.certificates.pair import check_pair  # here: it loads slowly, and most services have none

    return check_pair(certificate, key, [] if host is None else [host])


def _key_failures(news: Properties) -> list[Failure]:
    return [
        Failure(name, UNFIT)
        for name in ("primaryKey", "secondaryKey")
        if isinstance(key := news.get(name), str) and not fits_a_header(key)
    ]


def _deployment_failures(deployments: Any) -> list[Failure]:
    if deployments is UNKNOWN:
        return []
    if not deployments:
        return [Failure("deployments", "must not be empty: name what answers the requests")]
    failures, names = [], []
    for index, item in enumerate(deployments):
        if item is UNKNOWN:
            continue
        path = f"deployments[{index}]"
        if not isinstance(item, dict) or set(item) != set(_OF_DEPLOYMENT):
            failures.append(Failure(path, f"needs {', '.join(_OF_DEPLOYMENT)}, and nothing else"))
            continue
        names.append(item["name"])
        failures += _item_failures(path, item)
    weights = [item["weight"] for item in deployments if isinstance(item, dict) and "weight" in item]
    if not failures and len(weights) == len(deployments) and is_known(weights) and sum(weights) != 100:
        shares = ", ".join(f"{item['name']} {item['weight']}" for item in deployments)
        failures.append(Failure("deployments", f"the weights add up to {sum(weights)}, not to 100: {shares}"))
    sockets = [PurePosixPath(path).stem for item in deployments for path in _sockets(item)]
    if not failures and len(set(sockets)) != len(sockets):
        failures.append(Failure("deployments", f"an instance is named twice: {', '.join(sorted(sockets))}"))
    if is_known(names) and len(set(names)) != len(names):
        failures.append(Failure("deployments", f"two have the same name: {', '.join(names)}"))
    return failures


def _sockets(item: Any) -> list[str]:
    sockets = item.get("sockets") if isinstance(item, dict) else None
    return [path for path in sockets if isinstance(path, str)] if isinstance(sockets, list) else []


def _item_failures(path: str, item: Properties) -> list[Failure]:
    failures = []
    name, weight, sockets = item["name"], item["weight"], item["sockets"]
    if name is not UNKNOWN and not (isinstance(name, str) and _LABEL.fullmatch(name)):
        failures.append(Failure(f"{path}.name", f"{name!r} is no DNS label"))
    if weight is not UNKNOWN and not (isinstance(weight, int) and 0 <= weight <= 100):
        failures.append(Failure(f"{path}.weight", f"must be a whole number from 0 to 100, not {weight!r}"))
    if sockets is UNKNOWN:
        return failures
    if not isinstance(sockets, list) or not sockets:
        return [*failures, Failure(f"{path}.sockets", "must name the socket of at least one instance")]
    for place, socket in enumerate(sockets):
        if socket is UNKNOWN:
            continue
        where = f"{path}.sockets[{place}]"
        if not isinstance(socket, str) or not _SOCKET.fullmatch(socket) or not socket.startswith(f"{SOCKETS}/"):
            failures.append(Failure(where, f"{socket!r} must be a path below {SOCKETS} that ends in .sock"))
        elif len(socket) > _LONGEST_SOCKET:
            failures.append(
                Failure(where, f"{socket!r} is longer than the {_LONGEST_SOCKET} characters of a socket's path")
            )
    return failures
