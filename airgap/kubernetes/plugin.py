"""The plugin: from Pulumi's calls to the operations, and from objects to the state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.property_value import PropertyValue

from airgap.kubernetes import checkpoint, difference, managers, names, objects, operations, readiness, settings, waiting
from airgap.kubernetes.connection import ApiError, Connection, UnreachableError
from airgap.kubernetes.objects import Kind, Object
from airgap.kubernetes.operations import Made, Target
from airgap.kubernetes.replacement import Rules
from airgap.kubernetes.settings import Settings
from provider import process
from provider.process import ServedProvider, UnreadyError, diff_response
from provider.resource import Context, ResourceError
from provider.values import is_known, to_plain_map

VERSION = "4.34.2"
"""The version of the official plugin that this one stands in for: that of the package in requirements.in."""

T = TypeVar("T")
Values = Mapping[str, PropertyValue]


class KubernetesProvider(ServedProvider):
    """Dispatches to the operations; the API server is reached at the first one that needs it."""

    def __init__(self) -> None:
        super().__init__()
        self._settings = Settings()
        self._connection = Connection(self._settings)

    async def get_schema(self, request: api.GetSchemaRequest) -> api.GetSchemaResponse:
        return api.GetSchemaResponse(schema=json.dumps({"name": "kubernetes", "version": VERSION}))

    async def check_config(self, request: api.CheckRequest) -> api.CheckResponse:
        found = settings.problems(to_plain_map(request.new_inputs))
        return api.CheckResponse(request.new_inputs, [api.CheckFailure(name, why) for name, why in found])

    async def diff_config(self, request: api.DiffRequest) -> api.DiffResponse:
        old, new = to_plain_map(request.old_state), to_plain_map(request.new_inputs)
        ignored = {"version", "pluginDownloadURL", "pluginChecksums"}
        changed = sorted(k for k in (old.keys() | new.keys()) - ignored if old.get(k) != new.get(k))
        replaces = _moved(old, new, changed)
        return api.DiffResponse(changes=bool(changed), diffs=changed, replaces=replaces)

    async def configure(self, request: api.ConfigureRequest) -> api.ConfigureResponse:
        given = {name.rpartition(":")[2]: value for name, value in request.variables.items()}
        self._settings = Settings.of({**given, **to_plain_map(request.args)})
        self._connection = Connection(self._settings)
        return api.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def check(self, request: api.CheckRequest) -> api.CheckResponse:
        news = objects.to_api(to_plain_map(request.new_inputs))
        olds = objects.to_api(to_plain_map(request.old_inputs))
        _refuse_lists(request.type)
        if objects.is_patch(news, request.type) and not objects.name_of(news):
            raise ResourceError("a patch is of an object that is there: metadata.name has to name it")
        news = objects.normal(news)
        if not objects.is_patch(news, request.type):
            news = names.named(news, olds, request.urn.rpartition("::")[2], request.random_seed)
        kind = objects.kind_of(news, request.type)
        # Said before anything is made: an annotation that cannot be followed.
        readiness.check_for(kind, news)
        waiting.seconds(news, 0, 0)
        news = await _run(_in_a_namespace, self._connection, kind, news)
        return api.CheckResponse(inputs=checkpoint.values_of(news, request.new_inputs))

    async def diff(self, request: api.DiffRequest) -> api.DiffResponse:
        live, olds = checkpoint.split(request.old_state)
        news = objects.to_api(to_plain_map(request.new_inputs))
        kind = objects.kind_of(news, request.type)
        old, new = await _run(_comparable, self._connection, kind, live, olds, news)
        mutable = {"ConfigMap": self._settings.config_maps_change, "Secret": self._settings.secrets_change}
        stays = mutable.get(kind.name, False) and live.get("immutable") is not True
        rules = Rules.of(kind, data_stays=stays, is_patch=objects.is_patch(news, request.type))
        changes = difference.changes(old, new, rules, request.ignore_changes)
        replaces = (change.path for change in changes if change.replaces)
        return diff_response(changes, replaces, delete_before_replace=_same_name(live, new))

    async def create(self, request: api.CreateRequest) -> api.CreateResponse:
        inputs = objects.to_api(to_plain_map(request.properties))
        target = self._target(request.urn, request.type, inputs, {})
        context = self._context(request.urn, preview=request.preview)
        if request.preview:
            live = await _run(_previewed, context, inputs, operations.preview_create, self._connection, target)
            if live is None:
                return api.CreateResponse("", dict(request.properties))
            return api.CreateResponse("", self._state(_without_status(live), target, request.properties, {}))
        made = await _run(_told, operations.create, self._connection, context, target, request.timeout)
        state = self._state(made.live, target, request.properties, {})
        _raise_unready(target, "created", made, state, request.properties)
        return api.CreateResponse(objects.id_of(made.live), state)

    async def read(self, request: api.ReadRequest) -> api.ReadResponse:
        live_before, olds = checkpoint.split(request.properties)
        inputs = objects.to_api(to_plain_map(request.inputs)) or olds
        kind = objects.kind_of(inputs or live_before, request.type)
        namespace, name = objects.split_id(request.resource_id)
        context = self._context(request.urn)
        try:
            live = await _run(operations.read, self._connection, kind, namespace, name)
        except UnreachableError as error:
            return self._unreachable(request, context, error)
        if live is None:
            return api.ReadResponse(resource_id="")
        inputs = objects.normal(inputs)
        found = objects.prune(live, inputs) if inputs else _as_inputs(live)
        target = self._target(request.urn, request.type, found, request.properties)
        state = self._state(live, target, request.inputs, request.properties)
        values = checkpoint.values_of(found, request.inputs)
        unready = await _run(_unready, self._connection, kind, inputs, live) if inputs else None
        if unready is not None:
            raise UnreadyError(unready, request.resource_id, state, values)
        return api.ReadResponse(request.resource_id, state, values)

    async def update(self, request: api.UpdateRequest) -> api.UpdateResponse:
        live_before, _ = checkpoint.split(request.olds)
        inputs = objects.normal(objects.to_api(to_plain_map(request.news)))
        target = self._target(request.urn, request.type, inputs, request.olds)
        context = self._context(request.urn, preview=request.preview)
        name, ignored = objects.name_of(live_before), list(request.ignore_changes)
        if request.preview:
            preview = operations.preview_update
            live = await _run(_previewed, context, inputs, preview, self._connection, target, name, ignored)
            if live is None:
                return api.UpdateResponse(dict(request.news))
            return api.UpdateResponse(self._state(live, target, request.news, request.olds))
        connection, seconds = self._connection, request.timeout
        made = await _run(_told, operations.update, connection, context, target, name, ignored, seconds)
        before = checkpoint.field_manager(request.olds)
        if before and before != target.manager:
            await _run(operations.relinquish, self._connection, target, before)
        state = self._state(made.live, target, request.news, request.olds)
        _raise_unready(target, "updated", made, state, request.news)
        return api.UpdateResponse(state)

    async def delete(self, request: api.DeleteRequest) -> None:
        live, inputs = checkpoint.split(request.properties)
        namespace, name = objects.split_id(request.resource_id)
        live["metadata"] = {**objects.metadata(live), "name": name, **({"namespace": namespace} if namespace else {})}
        target = self._target(request.urn, request.type, {**live, **inputs}, request.properties)
        context = self._context(request.urn)
        try:
            await _run(_told, operations.delete, self._connection, context, target, live, request.timeout)
        except UnreachableError as error:
            if not self._settings.delete_unreachable:
                raise ResourceError(_left_in_state(error)) from None
            context.log.warning(f"{error} It is taken out of the state, as deleteUnreachable asks.")

    def _target(self, urn: str, urn_type: str, inputs: Object, state: Values) -> Target:
        """The object of an operation. Its fields' manager: an annotation's, else the state's, else the URN's."""
        manager = objects.annotation(inputs, "patchFieldManager") or checkpoint.field_manager(state)
        kind = objects.kind_of(inputs, urn_type)
        return Target(kind, inputs, manager or managers.manager_of(urn), objects.is_patch(inputs, urn_type))

    def _state(self, live: Object, target: Target, given: Values, before: Values) -> dict[str, PropertyValue]:
        version = checkpoint.initial_api_version(before) or target.kind.api_version
        return checkpoint.state(live, target.inputs, given, version, target.manager)

    def _unreachable(self, request: api.ReadRequest, context: Context, error: ResourceError) -> api.ReadResponse:
        """What a refresh finds where the cluster cannot be asked."""
        if self._settings.delete_unreachable:
            context.log.warning(f"{error} It is taken out of the state, as deleteUnreachable asks.")
            return api.ReadResponse(resource_id="")
        if self._settings.skip_update_unreachable:
            context.log.warning(f"{error} The state is left as it is, as skipUpdateUnreachable asks.")
            return api.ReadResponse(request.resource_id, dict(request.properties), dict(request.inputs))
        raise ResourceError(_left_in_state(error))


def _left_in_state(error: ResourceError) -> str:
    return (
        f"{error}\nWhere the cluster is gone for good, PULUMI_K8S_DELETE_UNREACHABLE=true takes what was on it out of "
        "the state."
    )


def _moved(old: Mapping[str, Any], new: Mapping[str, Any], changed: list[str]) -> list[str]:
    """The settings whose change means another cluster: everything is made anew there."""
    if "clusterIdentifier" in old and "clusterIdentifier" in new:
        return ["clusterIdentifier"] if "clusterIdentifier" in changed else []
    where: list[str] = [name for name in ("kubeconfig", "context", "cluster") if name in changed]
    if not where:
        return []
    clusters = []
    for given in (old, new):
        if not is_known(given):
            return where
        named = Settings.of(given)
        clusters.append(settings.active(settings.load(named), named)[1])
    return where if all(clusters) and clusters[0] != clusters[1] else []


def _refuse_lists(urn_type: str) -> None:
    _, kind = objects.type_of(urn_type)
    if kind.built_in and kind.name.endswith("List"):
        raise ResourceError(
            f"{kind} is what the API answers with; make its members as resources of their own type, "
            f"{kind.name.removesuffix('List')}"
        )


def _in_a_namespace(connection: Connection, kind: Kind, news: Object) -> Object:
    """`news` with the default namespace, where its kind is in one and it names none."""
    known = news.get("metadata", {})
    if not isinstance(known, dict) or known.get("namespace") or not connection.namespaced(kind):
        return news
    return {**news, "metadata": {**known, "namespace": connection.namespace}}


def _comparable(connection: Connection, kind: Kind, live: Object, olds: Object, news: Object) -> tuple[Object, Object]:
    """The pruned live object and the new inputs, in the form in which they are compared."""
    old, new = objects.prune(live, objects.normal(olds)), objects.normal(news)
    for obj in (old, new):
        if isinstance(obj.get("metadata", {}), dict):
            known = {**obj.get("metadata", {})}
            namespace = known.pop("namespace", None)
            if connection.namespaced(kind):
                known["namespace"] = namespace or "default"
            obj["metadata"] = known
    if objects.name_of(new) and isinstance(old["metadata"], dict):
        old["metadata"]["name"] = objects.name_of(live)
    # The server answers in the version that it is asked in; a stored object may name none.
    old.setdefault("apiVersion", new.get("apiVersion"))
    old.setdefault("kind", new.get("kind"))
    return old, new


def _same_name(live: Object, new: Object) -> bool:
    """Whether a new object would have the name of the old one: then the old one has to go first."""
    given = objects.name_of(new) and objects.annotation(new, names.AUTONAMED) != "true"
    place = objects.namespace_of(live) or "default"
    return bool(
        given and objects.name_of(new) == objects.name_of(live) and (objects.namespace_of(new) or "default") == place
    )


def _previewed(context: Context, inputs: Object, preview: Callable[..., Object | None], *args: Any) -> Object | None:
    """What a preview can tell; None where something is not known yet, or the cluster cannot be asked."""
    if not is_known(inputs):
        return None
    try:
        return preview(*args)
    except UnreachableError as error:
        context.log.warning(f"not previewed on the cluster: {error}")
        return None


def _told(operation: Callable[..., T], *args: Any) -> T:
    """Runs an operation; a refusal of the API server names the object that it is about."""
    target = next(a for a in args if isinstance(a, Target))
    try:
        return operation(*args)
    except ApiError as error:
        raise ResourceError(f"the Kubernetes API server refuses {target}: {error.message}") from None


def _raise_unready(target: Target, what: str, made: Made, state: Values, inputs: Values) -> None:
    if made.unready is not None:
        raise UnreadyError(
            f"{target} was {what}, but did not become ready: {made.unready}", objects.id_of(made.live), state, inputs
        )


def _unready(connection: Connection, kind: Kind, inputs: Object, live: Object) -> str | None:
    """Why an object that was read does not count as ready, where it does not."""
    check = waiting.checker(connection, kind, inputs)
    verdict = check(live) if check is not None else None
    return f"{kind} {objects.id_of(live)} is not ready: {verdict.message}" if verdict is not None else None


def _as_inputs(live: Object) -> Object:
    """What a program would have said to get this object: for one that is imported."""
    said = objects.normal({key: value for key, value in live.items() if key != "status"})
    annotations = objects.metadata(said).get("annotations")
    if annotations is not None:
        others = ("deployment.kubernetes.io/revision", "kubectl.kubernetes.io/last-applied-configuration")
        said["metadata"]["annotations"] = {k: v for k, v in annotations.items() if k not in others}
    return said


def _without_status(live: Object) -> Object:
    """A previewed object says nothing of its status: a program may read that only when it is real."""
    return {key: value for key, value in live.items() if key != "status"}


async def _run(operation: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.to_thread(operation, *arguments)


def main(argv: Sequence[str]) -> None:
    """Runs the plugin's process until its engine is gone."""
    process.serve(KubernetesProvider(), "kubernetes", VERSION, argv)
