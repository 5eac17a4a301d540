"""`ServiceImage`: the image of a service, put together from layers and stored, without a Docker daemon.

`check` reads the folders of code and names them by digest, so that a preview says what would change. Every change of
content is a new image beside the old one, which is removed when nothing runs it any more: all that decides the image's
digest replaces the resource. How an image is made is `provider.images`'.

A repository belongs to one service of one stack: removing an image from it takes away nobody else's.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, ParamSpec, TypeVar

from provider.content.errors import CancelledError, ContentError, CorruptBlobError
from provider.content.modelpack import Blob
from provider.content.names import DIGEST, REPOSITORY
from provider.content.source import code_digest, code_listing
from provider.entry_script import inspect_entry_script
from provider.image_layout import watch_of
from provider.images.build import Sources, build, revision_of
from provider.images.compose import Image, Service
from provider.images.environment import PLATFORMS
from provider.images.layers import Model
from provider.images.publish import missing_from
from provider.images.store import BlobStore
from provider.location import Location, way_problems
from provider.registry.errors import RegistryDeniedError, RegistryUnavailableError
from provider.resource import Context, Failure, Input, Resource, ResourceError
from provider.values import UNKNOWN, Properties, is_known

P = ParamSpec("P")
T = TypeVar("T")

_COMPUTED = ("codeDigest", "code", "serverDigest")
_OUTPUTS = ("revision", "digest", "reference", "size", "layers")
_MOST_LISTED_FILES = 100
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_.]*")


class ServiceImage(Resource):
    """See the module. Its id is the image's reference, `<registry>/<repository>@<digest>`."""

    token: ClassVar[str] = "slipway:index:ServiceImage"
    inputs: ClassVar[Mapping[str, Input]] = {
        # An absolute path (an OCI image layout), or a registry's address.
        "registry": Input("string", replaces=True),
        "repository": Input("string", replaces=True),
        # No part of the image: a change is taken over, and nothing is sent.
        "username": Input("string", required=False),
        "password": Input("string", required=False),
        "caCertificate": Input("string", required=False),
        # How a registry in a cluster is reached: `cluster`, `namespace`, `statefulSet` and `port`.
        "portForward": Input("map", required=False),
        "parallel": Input("integer", required=False, silent=True),
        "name": Input("string", replaces=True),
        # `<repository>@<digest>`, in `baseRegistry` where that is another place than `registry`.
        "base": Input("string", replaces=True),
        "baseRegistry": Input("string", required=False, silent=True),
        "platform": Input("string", replaces=True),
        "pythonVersion": Input("string", replaces=True),
        "lockFile": Input("string", silent=True),
        "environmentDigest": Input("string", replaces=True),
        "serverDirectory": Input("string", silent=True),
        "serverDigest": Input("string", required=False, replaces=True),
        # `name`, `version`, layer `digest` and its `size` in bytes, of each.
        "models": Input("list", replaces=True),
        # By name: in which repository of `registry` a model's artifact is.
        "modelRepositories": Input("map", required=False, silent=True),
        # An image layout on this machine that has the models which `registry` has not.
        "modelLayout": Input("string", required=False, silent=True),
        "sourceDirectory": Input("string", required=False, silent=True),
        "codeDigest": Input("string", required=False, replaces=True),
        "code": Input("map", required=False, replaces=True),
        "entryScript": Input("string", required=False, replaces=True),
        # They are in the image for all to read.
        "environmentVariables": Input("map", required=False, replaces=True),
        "port": Input("integer", replaces=True),
    }

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        return await asyncio.to_thread(_checked, news)

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if context.preview:
            return "", {**news, **dict.fromkeys(_OUTPUTS, UNKNOWN), "revision": _foreseen_revision(news)}
        return await _told(news["name"], _create, context, news)

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        return await _told(state["name"], _read, context, state)

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        # Whatever would be another image replaces this one: how it is reached is all that can have changed.
        return {**{name: state[name] for name in _OUTPUTS}, **news}

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        await _told(state["name"], _delete, context, state)


async def _told(name: object, operation: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(operation, *arguments, **named)
    except ContentError as error:
        raise ResourceError(f"the image of {name}: {error}") from None


# -- operations ------------------------------------------------------------------------------------------------------


def _create(context: Context, news: Properties) -> tuple[str, Properties]:
    service, sources, target = _service(news), _sources(news), _location(news)
    image = build(service, sources, target, news["repository"], watch_of(context))
    outputs = _outputs(news, service, target, image)
    return str(outputs["reference"]), outputs


def _outputs(news: Properties, service: Service, target: Location, image: Image) -> Properties:
    layers = [{"kind": layer.kind, "digest": layer.blob.digest, "size": layer.blob.size} for layer in image.layers]
    return {
        **news,
        "revision": service.revision,
        "digest": image.digest,
        "reference": target.reference(news["repository"], image.digest),
        "size": image.size,
        "layers": layers,
    }


def _read(context: Context, state: Properties) -> Properties | None:
    try:
        with _location(state).repository(state["repository"], watch_of(context)) as store:
            problem = _problem(store, state["digest"])
    except (RegistryUnavailableError, RegistryDeniedError) as error:
        # The registry, or what opens it, may be mended by the same deployment; this is no sign that the image is gone.
        context.log.warning(f"the image {state['reference']} was not looked at: {error}")
        return state
    if problem is None:
        return state
    context.log.warning(f"the image {state['reference']} {problem}")
    return None


def _problem(store: BlobStore, digest: str) -> str | None:
    """What is wrong with an image; None where it is whole."""
    try:
        found = store.get_manifest(digest)
    except CorruptBlobError as error:
        return f"is damaged and will be made again ({error})"
    if found is None:
        return "is gone: it will be made again"
    missing = missing_from(store, found[1])
    if missing:
        return f"has lost {len(missing)} of its layers, {missing[0]} first: it will be made again"
    return None


def _delete(context: Context, state: Properties) -> None:
    target, watch = _location(state), watch_of(context)
    if (why := target.gone(watch)) is not None:
        context.log.warning(f"the image {state['reference']} is taken as gone: {why}")
        return
    with target.repository(state["repository"], watch) as store:
        store.delete_manifest(state["digest"])


def _location(inputs: Properties) -> Location:
    return Location.of(inputs["registry"], inputs)


def _foreseen_revision(news: Properties) -> Any:
    return _service(news).revision if is_known([news.get(name) for name in _OF_REVISION]) else UNKNOWN


_OF_REVISION = (
    *("name", "base", "platform", "pythonVersion", "environmentDigest", "serverDigest", "models", "codeDigest"),
    *("entryScript", "environmentVariables", "port"),
)


def _service(inputs: Properties) -> Service:
    """What the image is to run. The order of the models is no matter."""
    models = tuple(
        Model(model["name"], int(model["version"]), Blob(model["digest"], int(model["size"])))
        for model in sorted(inputs["models"], key=lambda model: str(model["name"]))
    )
    platform, version, script = inputs["platform"], inputs["pythonVersion"], inputs.get("entryScript")
    variables = inputs.get("environmentVariables") or {}
    unnamed = Service(inputs["name"], platform, version, inputs["port"], "", script, models, variables)
    return replace(unnamed, revision=revision_of(unnamed, _sources(inputs)))


def _sources(inputs: Properties) -> Sources:
    own = _location(inputs)
    base = inputs.get("baseRegistry")
    code, layout = inputs.get("sourceDirectory"), inputs.get("modelLayout")
    return Sources(
        base=inputs["base"],
        # Credentials go to the place they are for, and nowhere else.
        base_location=own if base in (None, own.place) else Location(str(base), parallel=own.parallel),
        lock_file=Path(inputs["lockFile"]),
        environment_digest=inputs["environmentDigest"],
        server=Path(inputs["serverDirectory"]),
        server_digest=inputs["serverDigest"],
        code=None if code is None else Path(code),
        code_digest=inputs.get("codeDigest"),
        model_repositories=inputs.get("modelRepositories") or {},
        model_layout=None if layout is None else Path(layout),
    )


# -- checking --------------------------------------------------------------------------------------------------------


def _checked(news: Properties) -> tuple[Properties, list[Failure]]:
    failures = [*_value_failures(news), *_code_failures(news), *_model_failures(news), *_variable_failures(news)]
    completed = {name: value for name, value in news.items() if name not in _COMPUTED}
    sources: list[tuple[str, str, Callable[[Path], Any]]] = [
        ("codeDigest", "sourceDirectory", code_digest),
        ("code", "sourceDirectory", lambda path: code_listing(path, _MOST_LISTED_FILES)),
        ("serverDigest", "serverDirectory", code_digest),
    ]
    for target, source, digest_of in sources:
        path = news.get(source)
        if path is UNKNOWN:
            completed[target] = UNKNOWN
        elif path is not None and not any(failure.property == source for failure in failures):
            try:
                completed[target] = digest_of(Path(path))
            except CancelledError as error:
                raise ResourceError(str(error)) from None
            except ContentError as error:
                failures.append(Failure(source, str(error)))
    return completed, failures


def _value_failures(news: Properties) -> list[Failure]:
    forms: list[tuple[str, Callable[[Any], bool], str]] = [
        ("name", _matches(_NAME), "must be a DNS label: lower-case letters, digits and `-`, at most 63 characters"),
        ("repository", _matches(REPOSITORY), "must be parts of lower-case letters, digits and . _ - with / between"),
        ("base", _is_base, "must name an image by its digest: `<repository>@sha256:<64 hexadecimal digits>`"),
        ("platform", PLATFORMS.__contains__, f"must be one of {', '.join(PLATFORMS)}"),
        ("pythonVersion", _matches(re.compile(r"3\.\d+")), "must be like '3.12'"),
        ("environmentDigest", _matches(DIGEST), "must be the sha256 digest of a lock"),
        ("lockFile", _is_absolute, "must be an absolute path"),
        ("serverDirectory", _is_absolute, "must be an absolute path"),
        ("sourceDirectory", _is_absolute, "must be an absolute path"),
        ("modelLayout", _is_absolute, "must be an absolute path"),
        ("parallel", lambda value: value >= 1, "must be at least 1"),
        # The service is not root, and not everywhere may others listen below that.
        ("port", lambda value: 1024 <= value <= 65535, "must be from 1024 to 65535"),
    ]
    failures = [
        Failure(name, f"{rule}, not {news[name]!r}")
        for name, holds, rule in forms
        if news.get(name) is not None and news[name] is not UNKNOWN and not holds(news[name])
    ]
    failures += way_problems(news)
    if (news.get("username") is None) != (news.get("password") is None):
        failures.append(Failure("username", "and password go together: give both, or none"))
    return failures


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda value: pattern.fullmatch(value) is not None


def _is_base(value: str) -> bool:
    repository, _, digest = value.partition("@")
    return REPOSITORY.fullmatch(repository) is not None and DIGEST.fullmatch(digest) is not None


def _is_absolute(value: str) -> bool:
    return value.startswith("/")


def _code_failures(news: Properties) -> list[Failure]:
    source, script = news.get("sourceDirectory"), news.get("entryScript")
    if UNKNOWN in (source, script) or script is None:
        return []
    if source is None:
        return [Failure("sourceDirectory", f"is needed for the entry script {script}")]
    if PurePosixPath(script).is_absolute() or ".." in PurePosixPath(script).parts:
        return [Failure("entryScript", f"{script!r} must lie in the source directory, and be given relative to it")]
    return [Failure("entryScript", problem) for problem in inspect_entry_script(Path(source) / script)]


def _model_failures(news: Properties) -> list[Failure]:
    failures = []
    seen: set[str] = set()
    for index, model in enumerate(news["models"] if news["models"] is not UNKNOWN else []):
        path = f"models[{index}]"
        if model is UNKNOWN:
            continue
        if not isinstance(model, dict) or not {"name", "version", "digest", "size"} <= model.keys():
            failures.append(Failure(path, "needs name, version, digest and size"))
            continue
        name = model["name"]
        if name is not UNKNOWN and name in seen:
            failures.append(Failure(f"{path}.name", f"the model {name} is named twice"))
        seen.add(str(name))
        rules: list[tuple[str, Callable[[Any], bool], str]] = [
            ("name", lambda value: isinstance(value, str) and bool(_MODEL_NAME.fullmatch(value)), "no model's name"),
            ("version", lambda value: _is_count(value, 1), "no version, 1 or more"),
            ("digest", lambda value: bool(DIGEST.fullmatch(str(value))), "no sha256 digest of a model's layer"),
            ("size", lambda value: _is_count(value, 0), "no size in bytes"),
        ]
        failures += [
            Failure(f"{path}.{key}", f"{json.dumps(model[key])} is {what}")
            for key, holds, what in rules
            if model[key] is not UNKNOWN and not holds(model[key])
        ]
    if not failures and news["models"] == [] and news.get("entryScript") is None:
        failures.append(Failure("models", "is empty, and there is no entry script: nothing would be served"))
    return failures


def _variable_failures(news: Properties) -> Iterator[Failure]:
    variables = news.get("environmentVariables")
    for name, value in variables.items() if isinstance(variables, dict) else ():
        if not name or "=" in name or "\0" in name:
            yield Failure("environmentVariables", f"{name!r} is no name of an environment variable")
        elif value is not UNKNOWN and (not isinstance(value, str) or "\0" in value):
            yield Failure(f"environmentVariables.{name}", "must be a string without NUL")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
