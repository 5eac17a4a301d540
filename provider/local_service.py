"""`LocalService`: a web service on this machine, as a supervised process.

Creating and updating make the revision's directory, see that a supervisor lives, and tell it what is wanted; they do
not wait until it is ready, which is the `Endpoint`'s work. How revisions replace each other is the matter of
`provider.local.supervisor`.
Which files make a revision, and the environment its process sees, is written in `provider.local.revision` and
`provider.local.surroundings`.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, TypeVar

from provider.content.errors import ContentError
from provider.content.names import DIGEST
from provider.content.source import code_digest, code_listing
from provider.entry_script import inspect_entry_script
from provider.image_layout import watch_of
from provider.local import client, ports, shared
from provider.local.layout import PARTIAL, ServicePaths, locked, remove_if_empty, remove_tree
from provider.local.revision import prepare, revision_of
from provider.location import place_problem, way_problems
from provider.resource import Change, Context, Failure, Input, Resource, ResourceError
from provider.values import UNKNOWN, Properties, is_known

DEFAULT_HOST = "127.0.0.1"
DEFAULT_STARTUP_SECONDS = 300
DEFAULT_DRAIN_SECONDS = 30

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_.]*")
_COMPUTED = ("codeDigest", "code", "serverDigest", "sampleDigest")
_MOST_LISTED_FILES = 100

T = TypeVar("T")


class LocalService(Resource):
    """A web service on this machine; its id is `<workspace>/<name>`."""

    token: ClassVar[str] = "slipway:index:LocalService"
    inputs: ClassVar[Mapping[str, Input]] = {
        "workspace": Input("string", replaces=True),
        "name": Input("string", replaces=True),
        "host": Input("string", required=False),
        "port": Input("integer"),
        "python": Input("string", silent=True),
        "environmentDigest": Input("string"),
        "sourceDirectory": Input("string", silent=True),
        "entryScript": Input("string"),
        "codeDigest": Input("string", required=False),
        # The files behind it, so that a preview can say which of them changed.
        "code": Input("map", required=False),
        "serverDirectory": Input("string", silent=True),
        "serverDigest": Input("string", required=False),
        "models": Input("list"),
        # Where they are: an absolute path (an OCI image layout) or a registry's address; by default the workspace's
        # store. What they are is told by their digests.
        "modelRegistry": Input("string", required=False, silent=True),
        "modelUsername": Input("string", required=False, silent=True),
        "modelPassword": Input("string", required=False, silent=True),
        "modelCaCertificate": Input("string", required=False, silent=True),
        "modelPortForward": Input("map", required=False, silent=True),
        "modelParallel": Input("integer", required=False, silent=True),
        "modelRepositories": Input("map", required=False, silent=True),
        "environmentVariables": Input("map", required=False),
        "sampleRequest": Input("string", required=False, silent=True),
        "sampleDigest": Input("string", required=False),
        "startupTimeoutSeconds": Input("integer", required=False, silent=True),
        "drainSeconds": Input("integer", required=False, silent=True),
    }

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        return await asyncio.to_thread(_checked, news)

    def diff(self, state: Properties, news: Properties) -> list[Change]:
        changes = super().diff(state, news)
        if not changes and is_known(news) and state.get("revision") != revision_of(news):
            # Nothing asked for has changed, but another revision runs: an `up` that was killed had asked for it.
            return [Change("revision", "update", of_input=False)]
        return changes

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        resource_id = _id(news)
        if context.preview:
            return resource_id, _outputs(news)
        await _deploy(context, news)
        return resource_id, _outputs(news)

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        paths = _paths(state)
        try:
            there = await client.status(paths)
        except client.UnreachableError as error:
            context.log.warning(f"{error}: it will be started again")
            return None
        if there is None:
            if paths.root.is_dir():
                context.log.warning(f"the supervisor of {paths.name} is not running: it will be started again")
            else:
                context.log.warning(f"the service {paths.name} is gone from {paths.home}: it will be deployed again")
            return None
        if there["desired"] is None:
            context.log.warning(f"the supervisor of {paths.name} was never told what to run: it will be told again")
            return None
        found = {**state, "port": there["port"], "revision": there["desired"]}
        if there["host"] != state.get("host", DEFAULT_HOST):
            found["host"] = there["host"]
        return {**found, "scoringUri": scoring_uri(there["host"], there["port"])}

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        if not context.preview:
            await _deploy(context, news)
        return _outputs(news)

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        paths = _paths(state)
        async with _operation(paths) as lock:
            context.log.status("draining")
            await client.stop(paths, float(state.get("drainSeconds", DEFAULT_DRAIN_SECONDS)))
            await _in_words(asyncio.to_thread(remove_tree, paths.root))
            lock.unlink(missing_ok=True)
        await _in_words(asyncio.to_thread(shared.collect, paths.home))
        remove_if_empty(paths.home / "services", paths.home, paths.home.parent)


def scoring_uri(host: str, port: int) -> str:
    """Where clients on this machine reach a service that listens on `host`:`port`."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{reached}]:{port}/score" if ":" in reached else f"http://{reached}:{port}/score"


def _id(inputs: Properties) -> str:
    return (
        f"{Path(inputs['workspace']).name}/{inputs['name']}" if is_known([inputs["workspace"], inputs["name"]]) else ""
    )


def _paths(inputs: Properties) -> ServicePaths:
    return ServicePaths(Path(inputs["workspace"]), inputs["name"])


def _outputs(news: Properties) -> Properties:
    known = is_known({name: value for name, value in news.items() if name in _OF_REVISION})
    host, port = news.get("host", DEFAULT_HOST), news["port"]
    return {
        **news,
        "revision": revision_of(news) if known else UNKNOWN,
        "scoringUri": scoring_uri(host, port) if is_known([host, port]) else UNKNOWN,
    }


_OF_REVISION = ("models", "codeDigest", "entryScript", "environmentDigest", "serverDigest", "environmentVariables")


# -- deploying -------------------------------------------------------------------------------------------------------


async def _deploy(context: Context, news: Properties) -> None:
    paths = _paths(news)
    async with _operation(paths):
        context.log.status("starting the supervisor")
        await _in_words(client.ensure(paths))
        await client.command(paths, {"command": "prepare", "revision": revision_of(news)})
        context.log.status("copying code and models")
        revision = await _in_words(asyncio.to_thread(prepare, paths, news, context.cancelled.is_set, watch_of(context)))
        host = news.get("host", DEFAULT_HOST)
        # Once more after the check: who took it meanwhile is named, and who is just ending is waited for.
        taken = await asyncio.to_thread(ports.conflict, paths, host, news["port"])
        if taken is not None:
            raise ResourceError(f"service {paths.name}: {taken[1]}\nWhat was running goes on running.")
        status = await client.command(
            paths,
            {
                "command": "apply",
                "revision": revision,
                "host": host,
                "port": news["port"],
                "startupTimeoutSeconds": news.get("startupTimeoutSeconds", DEFAULT_STARTUP_SECONDS),
                "drainSeconds": news.get("drainSeconds", DEFAULT_DRAIN_SECONDS),
                "run": client.RUN,
            },
        )
        await asyncio.to_thread(_clear_leftovers, paths, {revision, *status["revisions"]})
    await _in_words(asyncio.to_thread(shared.collect, paths.home))


@asynccontextmanager
async def _operation(paths: ServicePaths) -> AsyncIterator[Path]:
    """Holds the service for one operation, by a lock file: the provider of a killed run may live on for a moment."""
    lock = paths.home / "services" / f".{paths.name}.lock"
    held = locked(lock)
    await asyncio.to_thread(held.__enter__)
    try:
        yield lock
    finally:
        held.__exit__(None, None, None)


def _clear_leftovers(paths: ServicePaths, needed: set[str]) -> None:
    """Removes directories of revisions that nobody runs: those of runs that were killed."""
    for folder in paths.revisions.iterdir():
        if folder.name not in needed or folder.name.startswith(PARTIAL):
            remove_tree(folder)


async def _in_words(work: Awaitable[T]) -> T:
    try:
        return await work
    except (ContentError, client.UnreachableError) as error:
        raise ResourceError(str(error)) from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise ResourceError(
            f"the service could not be deployed: {error.strerror or error}{where}. What was running goes on running; "
            "mend that and run `pulumi up` again."
        ) from error


# -- checking --------------------------------------------------------------------------------------------------------


def _checked(news: Properties) -> tuple[Properties, list[Failure]]:
    failures = [*_name_failures(news), *_code_failures(news), *_model_failures(news), *_registry_failures(news)]
    failures += _setting_failures(news)
    if not failures:
        failures = list(_port_failures(news))
    completed = {name: value for name, value in news.items() if name not in _COMPUTED}
    sources: list[tuple[str, str, Callable[[Path], Any]]] = [
        ("codeDigest", "sourceDirectory", code_digest),
        ("code", "sourceDirectory", _listing),
        ("serverDigest", "serverDirectory", _server_digest),
        ("sampleDigest", "sampleRequest", _file_digest),
    ]
    for target, source, digest_of in sources:
        path = news.get(source)
        if path is UNKNOWN:
            completed[target] = UNKNOWN
        elif path is not None:
            try:
                completed[target] = digest_of(Path(path))
            except (OSError, ContentError) as error:
                failure = Failure(source, _reason(error, path))
                failures += [] if failure in failures else [failure]
    return completed, failures


def _reason(error: Exception, path: str) -> str:
    if isinstance(error, OSError):
        return f"{path} cannot be read: {error.strerror or error}"
    return str(error)


def _listing(path: Path) -> dict[str, str] | None:
    return code_listing(path, _MOST_LISTED_FILES)


@functools.cache
def _server_digest(path: Path) -> str:
    # Once a run: all services of a stack have the same server, and a copy of it is held to this digest.
    return code_digest(path)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _name_failures(news: Properties) -> list[Failure]:
    name, workspace = news["name"], news["workspace"]
    failures = []
    if name is not UNKNOWN and not _NAME.fullmatch(name):
        failures.append(
            Failure("name", f"{name!r} is no DNS label: lower-case letters, digits and `-`, at most 63 characters")
        )
    if workspace is not UNKNOWN and not Path(workspace).is_absolute():
        failures.append(Failure("workspace", f"{workspace!r} must be an absolute path"))
    return failures


def _code_failures(news: Properties) -> list[Failure]:
    source, script = news["sourceDirectory"], news["entryScript"]
    if source is UNKNOWN or script is UNKNOWN:
        return []
    if PurePosixPath(script).is_absolute() or ".." in PurePosixPath(script).parts:
        return [Failure("entryScript", f"{script!r} must lie in the source directory, and be given relative to it")]
    return [Failure("entryScript", problem) for problem in inspect_entry_script(Path(source) / script)]


def _model_failures(news: Properties) -> list[Failure]:
    failures = []
    seen: set[str] = set()
    models: list[Any] = news["models"] if news["models"] is not UNKNOWN else []
    for index, model in enumerate(models):
        path = f"models[{index}]"
        if model is UNKNOWN:
            continue
        if not isinstance(model, dict) or not {"name", "version", "digest"} <= model.keys():
            failures.append(Failure(path, "needs name, version and digest"))
            continue
        name, digest = model["name"], model["digest"]
        if name is not UNKNOWN:
            if not isinstance(name, str) or not _MODEL_NAME.fullmatch(name):
                failures.append(Failure(f"{path}.name", f"{name!r} is no name of a model"))
            elif name in seen:
                failures.append(Failure(f"{path}.name", f"the model {name} is named twice"))
            seen.add(str(name))
        if digest is not UNKNOWN and not DIGEST.fullmatch(str(digest)):
            failures.append(Failure(f"{path}.digest", f"{digest!r} is no sha256 digest of a model's layer"))
    return failures


def _setting_failures(news: Properties) -> list[Failure]:
    failures = []
    variables = news.get("environmentVariables")
    if isinstance(variables, dict):
        for name, value in variables.items():
            if not name or "=" in name or "\0" in name:
                failures.append(Failure("environmentVariables", f"{name!r} is no name of an environment variable"))
            elif value is not UNKNOWN and (not isinstance(value, str) or "\0" in value):
                # The value may be a secret: it is not shown.
                failures.append(Failure(f"environmentVariables.{name}", "must be a string without NUL"))
    if (seconds := news.get("startupTimeoutSeconds")) is not None and seconds is not UNKNOWN and seconds < 1:
        failures.append(Failure("startupTimeoutSeconds", f"must be at least 1, not {seconds}"))
    if (seconds := news.get("drainSeconds")) is not None and seconds is not UNKNOWN and seconds < 0:
        failures.append(Failure("drainSeconds", f"must not be negative, not {seconds}"))
    return failures


def _registry_failures(news: Properties) -> list[Failure]:
    failures = way_problems(news, "modelPortForward")
    place, parallel = news.get("modelRegistry"), news.get("modelParallel")
    if isinstance(place, str) and (problem := place_problem(place)) is not None:
        failures.append(Failure("modelRegistry", problem))
    if (news.get("modelUsername") is None) != (news.get("modelPassword") is None):
        failures.append(Failure("modelUsername", "and modelPassword go together: give both, or none"))
    if isinstance(parallel, int) and parallel < 1:
        failures.append(Failure("modelParallel", f"must be at least 1, not {parallel}"))
    return failures


def _port_failures(news: Properties) -> list[Failure]:
    host, port = news.get("host", DEFAULT_HOST), news["port"]
    if not is_known([host, port, news["workspace"], news["name"]]):
        return []
    conflict = ports.conflict(_paths(news), host, port)
    return [] if conflict is None else [Failure(*conflict)]
