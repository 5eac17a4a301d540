"""The operations on one object: create with a POST, update with a server-side apply, delete and wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airgap.kubernetes import difference, managers, waiting
from airgap.kubernetes.connection import APPLY, JSON_PATCH, ApiError, Connection, NoSuchKindError
from airgap.kubernetes.objects import Kind, Object, annotation, metadata, name_of, namespace_of
from provider.resource import Context, ResourceError

_DRY = [("dryRun", "All")]
_ATTEMPTS = 5
_CRD = "CustomResourceDefinition"


@dataclass(frozen=True)
class Target:
    """The object of an operation: its kind, what the program says of it, and who owns its fields."""

    kind: Kind
    inputs: Object
    manager: str
    is_patch: bool = False

    @property
    def namespace(self) -> str:
        return namespace_of(self.inputs)

    @property
    def name(self) -> str:
        return name_of(self.inputs)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True)
class Made:
    """An object that is there, and why it does not count as ready where it does not."""

    live: Object
    unready: str | None = None


def create(connection: Connection, context: Context, target: Target, custom_seconds: float) -> Made:
    """Makes the object and waits until it is ready. Raises `ResourceError`."""
    if target.is_patch:
        live = _apply(connection, target, dry=False)
    else:
        live = _with_patience(lambda: _post_or_adopt(connection, context, target, custom_seconds), context)
    return _awaited(connection, context, target, live, custom_seconds)


def preview_create(connection: Connection, target: Target) -> Object | None:
    """The object as the server would make it; None where it cannot tell yet. Raises `ResourceError`: it refuses."""
    if target.is_patch:
        return None
    try:
        if not connection.exists(target.kind):
            return None
        return _post(connection, target, dry=True)
    except ApiError as error:
        # Not there yet (its namespace), there still (it is replaced), or not ours to ask.
        if error.not_found or error.already_exists or error.code == 403:
            return None
        raise _refused(target, error) from None


def _post_or_adopt(connection: Connection, context: Context, target: Target, custom_seconds: float) -> Object:
    for _ in range(_ATTEMPTS):
        try:
            return _post(connection, target, dry=False)
        except ApiError as error:
            if not error.already_exists:
                raise
        live = connection.get(target.kind, target.namespace, target.name)
        if live is None:
            continue  # it went just then
        if metadata(live).get("deletionTimestamp"):
            # A deletion that nobody waited for (`skipAwait`), or whose `destroy` was killed: it takes what is applied
            # to it, and is gone all the same.
            context.log.status("waits until the one of that name is gone")
            waiting.until_gone(connection, context, target.kind, live, target.inputs, custom_seconds)
            continue
        if not managers.created_by(live, target.manager):
            break
        # What an `up` made that was killed before it could tell.
        context.log.info("was made by an earlier, interrupted deployment: goes on from there")
        return _take_over(connection, target, live)
    raise ResourceError(
        f"{target} already exists, and this stack did not make it. Delete it, give the resource another name, or take "
        "it over: pulumi import, or the resource option import_"
    )


def _post(connection: Connection, target: Target, *, dry: bool) -> Object:
    query = [("fieldManager", target.manager), ("fieldValidation", "Warn"), *(_DRY if dry else ())]
    path = connection.path(target.kind, target.namespace)
    return connection.request("POST", path, query, target.inputs)


def _with_patience(operation: Any, context: Context) -> Object:
    """Tries again what needs something that is just being made: a namespace, the definition of a kind."""
    for attempt in range(_ATTEMPTS):
        try:
            made: Object = operation()
        except (ApiError, NoSuchKindError) as error:
            if isinstance(error, ApiError) and not error.not_found:
                raise
            context.log.status(f"attempt {attempt + 1} of {_ATTEMPTS}: {error}")
            if context.cancelled.wait(2**attempt / 2):
                raise
            last = error
        else:
            return made
    raise last


def update(
    connection: Connection,
    context: Context,
    target: Target,
    old_name: str,
    ignored: list[str],
    custom_seconds: float,
) -> Made:
    """Changes the object and waits until it is ready. Raises `ResourceError`."""
    live = _found(connection, target, old_name)
    target = _leaving(target, live, ignored)
    if target.kind.name == _CRD:
        changed = _replace(connection, target, live, dry=False)
    elif target.is_patch:
        changed = _apply(connection, target, dry=False)
    else:
        changed = _take_over(connection, target, live)
    return _awaited(connection, context, target, changed, custom_seconds)


def preview_update(connection: Connection, target: Target, old_name: str, ignored: list[str]) -> Object | None:
    """The object as the server would change it; None where it may not be asked. Raises `ResourceError`."""
    try:
        if not connection.exists(target.kind):
            return None
        live = _found(connection, target, old_name)
        target = _leaving(target, live, ignored)
        if target.kind.name == _CRD:
            return _replace(connection, target, live, dry=True)
        # What the update would hand over first still looks like a conflict.
        handed_over = managers.handed_over(live, target.manager) is not None
        return _apply(connection, target, dry=True, ours_yield=handed_over)
    except ApiError as error:
        if error.code == 403:
            return None
        raise


def _found(connection: Connection, target: Target, name: str) -> Object:
    live = connection.get(target.kind, target.namespace, name)
    if live is None:
        raise ResourceError(
            f"{target} is gone: it was deleted outside this stack. `pulumi refresh`, or `up --refresh`, takes that "
            "over, and makes it again."
        )
    return live


def _replace(connection: Connection, target: Target, live: Object, *, dry: bool) -> Object:
    """Replaces a definition as a whole: an apply would merge its versions."""
    version = metadata(live).get("resourceVersion")
    body = {**target.inputs, "metadata": {**metadata(target.inputs), "resourceVersion": version}}
    query = [("fieldManager", target.manager), *(_DRY if dry else ())]
    return connection.request("PUT", connection.path(target.kind, target.namespace, target.name), query, body)


def _take_over(connection: Connection, target: Target, live: Object) -> Object:
    """Applies the inputs, once the fields that we own under an earlier name are handed over."""
    entries = managers.handed_over(live, target.manager)
    if entries is not None:
        patch = [
            # Fails where the object changed since: then its managed fields are others.
            {"op": "test", "path": "/metadata/resourceVersion", "value": metadata(live).get("resourceVersion")},
            {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        ]
        path = connection.path(target.kind, target.namespace, target.name)
        try:
            connection.request("PATCH", path, (), patch, JSON_PATCH)
        except ApiError as error:
            if error.code not in (409, 422):
                raise
            newer = _found(connection, target, target.name)
            return _take_over(connection, target, newer)
    return _apply(connection, target, dry=False)


def _apply(connection: Connection, target: Target, *, dry: bool, ours_yield: bool = False) -> Object:
    path = connection.path(target.kind, target.namespace, target.name)
    force = managers.forced(target.inputs, connection.settings.takes_over)
    try:
        return connection.request("PATCH", path, _apply_query(target, force, dry), target.inputs, APPLY)
    except ApiError as error:
        if not error.conflict or not error.causes:
            raise
        theirs = [cause for cause in error.causes if not (ours_yield and _is_ours(cause[0], target.manager))]
        if not theirs:
            return connection.request("PATCH", path, _apply_query(target, True, dry), target.inputs, APPLY)
        raise ResourceError(f"{target}: {managers.explained(error.message, target.manager, theirs)}") from None


def _apply_query(target: Target, force: bool, dry: bool) -> list[tuple[str, str]]:
    query = [("fieldManager", target.manager), ("force", str(force).lower()), ("fieldValidation", "Warn")]
    return [*query, *(_DRY if dry else ())]


def _is_ours(cause: str, manager: str) -> bool:
    """Whether a cause of a conflict names a manager that the update would take the place of."""
    owner = cause.removeprefix('conflict with "').partition('"')[0]
    return owner == manager or owner.startswith(managers.EARLIER)


def _leaving(target: Target, live: Object, ignored: list[str]) -> Target:
    """The target without changes of what ignore_changes names: others' fields are left out, ours stay as they are."""
    inputs = target.inputs
    for path in ignored:
        steps = difference.parse(path)
        if all(isinstance(step, str) for step in steps):
            inputs = _left(inputs, live, [str(step) for step in steps], target.manager)
    return Target(target.kind, inputs, target.manager, target.is_patch)


def _left(inputs: Object, live: Object, steps: list[str], manager: str) -> Object:
    value: Any = live
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    if value is None:
        return inputs
    theirs = managers.owns(live, steps, manager, others=True) and not managers.owns(live, steps, manager)
    changed: Object = _with(inputs, steps, None if theirs else value)
    return changed


def _with(obj: Any, steps: list[str], value: Any) -> Any:
    """`obj` with `value` at `steps`; without anything there where `value` is None."""
    rest = {**obj} if isinstance(obj, dict) else {}
    if len(steps) > 1:
        rest[steps[0]] = _with(rest.get(steps[0]), steps[1:], value)
    elif value is None:
        rest.pop(steps[0], None)
    else:
        rest[steps[0]] = value
    return rest


def _awaited(connection: Connection, context: Context, target: Target, live: Object, custom_seconds: float) -> Made:
    try:
        live, unready = waiting.until_ready(connection, context, target.kind, target.inputs, live, custom_seconds)
    except ResourceError as error:
        # Whatever keeps us from waiting, a wish to stop included: the object is there, and belongs into the state.
        unready = str(error)
    return Made(live, unready)


def read(connection: Connection, kind: Kind, namespace: str, name: str) -> Object | None:
    """The object as it is now; None where it, or its kind, is gone."""
    try:
        return connection.get(kind, namespace, name)
    except NoSuchKindError:
        return None


def relinquish(connection: Connection, target: Target, manager: str) -> None:
    """Gives up every field that `manager` owns: an apply of nothing but the identity."""
    identity = {"name": target.name, **({"namespace": target.namespace} if target.namespace else {})}
    body = {"apiVersion": target.kind.api_version, "kind": target.kind.name, "metadata": identity}
    path = connection.path(target.kind, target.namespace, target.name)
    connection.request("PATCH", path, [("fieldManager", manager), ("force", "true")], body, APPLY)


def delete(connection: Connection, context: Context, target: Target, live: Object, custom_seconds: float) -> None:
    """Deletes the object and waits until it is gone; succeeds where it, or its kind, is."""
    try:
        found = connection.get(target.kind, namespace_of(live), name_of(live))
        if found is None:
            return
        if target.is_patch:
            relinquish(connection, target, target.manager)
            return
        policy = annotation(target.inputs, "deletionPropagationPolicy") or "foreground"
        path = connection.path(target.kind, namespace_of(found), name_of(found))
        connection.request("DELETE", path, [("propagationPolicy", policy.capitalize())])
    except NoSuchKindError:
        return
    except ApiError as error:
        if error.not_found:
            return
        raise
    if annotation(target.inputs, "skipAwait") != "true":
        waiting.until_gone(connection, context, target.kind, found, target.inputs, custom_seconds)


def _refused(target: Target, error: ApiError) -> ResourceError:
    return ResourceError(f"the Kubernetes API server refuses {target}: {error.message}")
