"""A service on a Kubernetes cluster, as `provider.endpoint` sees it: through the API server alone.

It works from anywhere a kubeconfig works: nothing is sent to the service's own address. Whether pods are ready is
known from the cluster; which revision answers is asked through the API server's proxy, and in the pod where that has no
way to it. The sample request is sent in the pod, where its key is too, so that no key leaves the cluster.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from provider.condition import Cause, Condition
from provider.kubernetes import looking, scaling
from provider.kubernetes import pods as of_pods
from provider.kubernetes.cluster import (
    ApiError,
    AwayError,
    Cluster,
    ClusterError,
    ForbiddenError,
    check_cluster,
    cluster_of,
    path_in,
)
from provider.kubernetes.command import execute
from provider.kubernetes.facts import Rollout, condition, newest, serving
from provider.kubernetes.objects import Event, Object, Verdict, name_of, owned_by, part
from provider.local.probe import MAX_BODY, Answer, NoAnswerError
from provider.resource import Failure, ResourceError
from provider.target import Observation
from provider.values import UNKNOWN, Properties

_PROBE = (Path(__file__).parents[1] / "container" / "probe.py").read_text()
_LOOKED_INTO = 3
"""Pods that are looked into more closely: where many fail, they fail alike."""
_LOOK_SECONDS = 2.0
"""How long what was found in a pod that has not changed is good."""
_ALL_SECONDS = 1.0
"""How long what was found of a rollout is good, where its Deployment has not changed: causes can wait that long."""
_READY_SECONDS = 5.0
_ENOUGH_SECONDS = 15.0
"""What the cluster has beyond a request's own time to start a command and to tell its end."""
_AT_ONCE = 8
"""Pods that are asked at the same time."""
_APPS = "apps/v1"
_AUTOSCALING = "autoscaling/v2"


class KubernetesTarget:
    """The service of `target: {kind: kubernetes, cluster, namespace, service, deployment, port, image?,
    keysFile?, autoscaler?: {name, api}}`. Nothing here depends on `image`: it is there so that another one is
    waited for, also where that is the same image from another place."""

    poll_seconds = 0.25

    def __init__(self, news: Properties) -> None:
        self._target = news["target"]
        self._revision: str = news["revision"]
        self._namespace: str = self._target["namespace"]
        self._deployment: str = self._target["deployment"]
        self._retried: datetime | None = None
        self._blind_since: float | None = None
        self._looks: dict[str, tuple[str, datetime, of_pods.Details]] = {}
        self._last: tuple[str, float, Observation] | None = None

    @staticmethod
    def check(news: Properties) -> list[Failure]:
        """What is wrong with the inputs of an `Endpoint` of this kind."""
        target = news["target"]
        failures = [
            Failure(f"target.{name}", "is required for a target of the kind kubernetes")
            for name in ("cluster", "namespace", "service", "deployment", "port")
            if target.get(name) is None
        ]
        scaler = target.get("autoscaler")
        if isinstance(scaler, dict) and not {"name", "api"} <= scaler.keys():
            failures.append(Failure("target.autoscaler", "has a name, and the group of the API that tells it the load"))
        if isinstance(target.get("cluster"), dict):
            failures += [Failure(f"target.{one.property}", one.reason) for one in check_cluster(target["cluster"])]
        return failures

    @property
    def name(self) -> str:
        """The service's name."""
        return str(self._target["service"])

    def _cluster(self) -> Cluster:
        return cluster_of(self._target["cluster"])

    def _path(self, *steps: str, group: str = "") -> str:
        return path_in(self._namespace, *steps, group=group)

    # -- observing ---------------------------------------------------------------------------------------------------

    async def observe(self, *, waiting: bool = False) -> Observation | None:
        """How the rollout is; None where there is no Deployment."""
        return await asyncio.to_thread(self._observe, waiting)

    def _observe(self, waiting: bool) -> Observation | None:
        cluster = self._cluster()
        deployment = cluster.find(self._path("deployments", self._deployment, group=_APPS))
        if deployment is None:
            return self._gone(cluster)
        version = part(deployment, "metadata", "resourceVersion")
        last = self._last
        if last is not None and last[0] == version and time.monotonic() - last[1] < _ALL_SECONDS:
            return last[2]
        found = self._observed(cluster, deployment, waiting)
        self._last = None if version is None else (version, time.monotonic(), found)
        return found

    def _observed(self, cluster: Cluster, deployment: Object, waiting: bool) -> Observation:
        rollout = self._looked_into(cluster, self._rollout(cluster, deployment))
        found = self._judged(condition(rollout))
        return Observation(
            condition=self._scaled(cluster, found.condition, waiting),
            desired=rollout.desired,
            serving=serving(rollout, self._revision),
            earlier=found.hopeless and self._retried is None and looking.is_of_an_earlier_run(cluster, found),
            hopeless=found.hopeless,
        )

    def _scaled(self, cluster: Cluster, found: Condition, waiting: bool) -> Condition:
        """The condition of a service that serves, with what its autoscaler lacks.

        Who waits gives the autoscaler the time to look again: what it lacked may have come just now."""
        scaler = self._target.get("autoscaler")
        if scaler is None or found.state != "Healthy":
            return found
        api = scaling.look(cluster, scaler["api"])
        cause = None if api is None else scaling.missing(api)
        if cause is None and (cause := self._blind(cluster, scaler["name"])) is not None:
            self._blind_since = self._blind_since or time.monotonic()
            if waiting and time.monotonic() - self._blind_since < scaling.LOOK_SECONDS:
                return Condition("Transitioning", cause.reason, f"{found.message}; {cause.message}", cause)
        if cause is None:
            return found
        return Condition(found.state, cause.reason, f"{found.message}; {cause.message}", cause)

    def _blind(self, cluster: Cluster, name: str) -> Cause | None:
        try:
            scaler = cluster.find(self._path("horizontalpodautoscalers", name, group=_AUTOSCALING))
        except ForbiddenError:
            return None  # what the API lacks was told without it
        return None if scaler is None else scaling.blind(scaler, cluster.now())

    def _gone(self, cluster: Cluster) -> Observation | None:
        """Why there is no Deployment, where that is known."""
        try:
            namespace = cluster.find(f"/api/v1/namespaces/{self._namespace}")
        except ForbiddenError:
            return None
        if namespace is None:
            reason, message = "NamespaceMissing", f"the namespace {self._namespace} does not exist"
        elif part(namespace, "metadata", "deletionTimestamp") is not None:
            reason, message = "NamespaceTerminating", f"the namespace {self._namespace} is being deleted"
        else:
            return None
        hint = "wait until it is gone (kubectl get namespaces), then run `pulumi up --refresh`: it is made again"
        found = Condition("Failed", reason, message, Cause(reason, message, hint=hint))
        return Observation(found, self._revision, "No revision answers requests now.", hopeless=True)

    def _judged(self, found: Verdict) -> Verdict:
        """What failed before it was tried again says nothing of the new attempt."""
        if self._retried is None or not found.hopeless or found.at is None or found.at >= self._retried:
            return found
        message = f"trying again after: {found.condition.message}"
        return Verdict(replace(found.condition, state="Transitioning", message=message))

    def _rollout(self, cluster: Cluster, deployment: Object) -> Rollout:
        selector = [("labelSelector", _selector(deployment))]
        replica_sets = cluster.items(self._path("replicasets", group=_APPS), selector)
        found = cluster.items(self._path("pods"), selector)
        mine = [one for one in replica_sets if owned_by(one, deployment)]
        now = newest(deployment, mine)
        return Rollout(
            deployment=deployment,
            replica_set=now,
            pods=[pod for pod in found if now is not None and owned_by(pod, now)],
            others=[pod for pod in found if any(one is not now and owned_by(pod, one) for one in mine)],
            now=cluster.now(),
        )

    # -- looking closer ----------------------------------------------------------------------------------------------

    def _looked_into(self, cluster: Cluster, rollout: Rollout) -> Rollout:
        """The rollout with what is to be known of pods that are not ready, and of those that are missing."""
        suspects = rollout.unready[:_LOOKED_INTO]
        details = {name_of(pod): self._details(cluster, pod, rollout.now) for pod in suspects}
        events: Sequence[Event] = ()
        if rollout.replica_set is not None and len(rollout.living) < rollout.wanted:
            events = looking.events(cluster, self._namespace, rollout.replica_set)
        homeless = any(not part(pod, "spec", "nodeName") for pod in suspects)
        nodes = looking.nodes(cluster) if homeless else None
        return replace(rollout, details=details, events=events, nodes=nodes)

    def _details(self, cluster: Cluster, pod: Object, now: datetime) -> of_pods.Details:
        uid, version = str(part(pod, "metadata", "uid")), str(part(pod, "metadata", "resourceVersion"))
        known = self._looks.get(uid)
        if known is not None and known[0] == version and (now - known[1]).total_seconds() < _LOOK_SECONDS:
            return known[2]
        found = looking.look(cluster, self._namespace, pod, lambda name: self._answer(cluster, name))
        self._looks[uid] = (version, now, found)
        return found

    def _answer(self, cluster: Cluster, pod: str) -> str:
        try:
            return self._ready(cluster, pod).excerpt(200)
        except (ClusterError, NoAnswerError):
            return ""  # its probes tell

    # -- trying again ------------------------------------------------------------------------------------------------

    async def retry(self) -> None:
        """Has the controllers begin anew at once: they try by themselves too, after pauses of up to some minutes."""
        await asyncio.to_thread(self._retry)

    def _retry(self) -> None:
        cluster = self._cluster()
        deployment = cluster.find(self._path("deployments", self._deployment, group=_APPS))
        if deployment is None:
            return
        rollout = self._rollout(cluster, deployment)
        self._retried = cluster.now().replace(microsecond=0)  # as exact as the times of events
        self._last = None
        for pod in [*rollout.unready, *(pod for pod in rollout.pods if of_pods.over(pod))]:
            cluster.delete(self._path("pods", name_of(pod)))
        if rollout.replica_set is not None and len(rollout.living) < rollout.wanted:
            # A change of it makes its controller look again.
            touched = {"metadata": {"annotations": {"slipway/retried": self._retried.isoformat()}}}
            cluster.merge(self._path("replicasets", name_of(rollout.replica_set), group=_APPS), touched)

    # -- asking ------------------------------------------------------------------------------------------------------

    async def ask(
        self,
        path: str,
        *,
        timeout: float,  # noqa: ASYNC109 - as in `provider.local.probe.ask`
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> Mapping[str, Answer]:
        """The answer of each pod that is ready to GET `path`, or to POST of `body`. Raises `NoAnswerError`."""
        try:
            pods = await asyncio.to_thread(self._serving_pods)
        except ResourceError as error:
            raise NoAnswerError(f"no answer to {path}: {error}") from error
        if not pods:
            raise NoAnswerError(f"no answer to {path}: no pod is ready")
        turns = asyncio.Semaphore(_AT_ONCE)
        one = functools.partial(self._asked, path=path, seconds=timeout, body=body, content_type=content_type)

        async def in_turn(pod: Object) -> Answer:
            async with turns:
                return await asyncio.to_thread(one, pod)

        answers = await asyncio.gather(*(in_turn(pod) for pod in pods))
        return {f"the pod {name_of(pod)}": answer for pod, answer in zip(pods, answers, strict=True)}

    def _serving_pods(self) -> list[Object]:
        cluster = self._cluster()
        deployment = cluster.find(self._path("deployments", self._deployment, group=_APPS))
        return (
            []
            if deployment is None
            else [pod for pod in self._rollout(cluster, deployment).living if of_pods.ready(pod)]
        )

    def _asked(self, pod: Object, path: str, seconds: float, body: bytes | None, content_type: str) -> Answer:
        cluster = self._cluster()
        try:
            if body is None:
                try:
                    return self._passed_on(cluster, name_of(pod), path, seconds)
                except (ForbiddenError, AwayError, ApiError) as error:
                    # A network policy may keep the API server from the pods; the kubelet reaches them.
                    why = str(error)
                try:
                    return self._asked_within(cluster, pod, path, seconds, None, content_type)
                except ForbiddenError as error:
                    raise NoAnswerError(f"no answer to {path}: {why}; and {error}") from error
            return self._asked_within(cluster, pod, path, seconds, body, content_type)
        except ResourceError as error:
            raise NoAnswerError(f"no answer to {path} from the pod {name_of(pod)}: {error}") from error

    def _ready(self, cluster: Cluster, pod: str) -> Answer:
        return self._passed_on(cluster, pod, "/ready", _READY_SECONDS)

    def _passed_on(self, cluster: Cluster, pod: str, path: str, seconds: float) -> Answer:
        place = self._path("pods", f"{pod}:{self._target['port']}", "proxy")
        response = cluster.passed_on(f"{place}{path}", seconds)
        return Answer(response.status, dict(response.headers), response.body[:MAX_BODY])

    def _asked_within(
        self, cluster: Cluster, pod: Object, path: str, seconds: float, body: bytes | None, content_type: str
    ) -> Answer:
        """What the server in a pod answers to a program beside it. Raises `NoAnswerError`, `ClusterError`."""
        length = -1 if body is None else len(body)
        question = [path, content_type, str(length), f"{seconds:g}", "0", str(self._target["port"])]
        keys = [str(self._target["keysFile"])] if self._target.get("keysFile") else []
        command = ["python3", "-I", "-S", "-c", _PROBE, *question, *keys]
        container = _server_of(pod)
        done = execute(
            cluster, self._namespace, name_of(pod), container, command, body, seconds=seconds + _ENOUGH_SECONDS
        )
        if done.exit_code != 0:
            said = done.complaint.splitlines()[-1] if done.complaint else "it ended"
            raise NoAnswerError(f"no answer to {path}: {said}")
        head, _, rest = done.output.partition(b"\n")
        try:
            told: dict[str, Any] = json.loads(head)
        except ValueError:
            raise NoAnswerError(f"no answer to {path}: what was printed in {name_of(pod)} is no answer") from None
        return Answer(told["status"], told["headers"], rest)


async def foreseen(target: Properties) -> Cause | None:
    """What a preview can know that a service will lack on this cluster: what its autoscaler goes by. It may not be
    there yet, and the cluster neither."""
    scaler, place = target.get("autoscaler"), target.get("cluster")
    if not isinstance(scaler, dict) or not isinstance(place, dict) or scaler.get("provided"):
        return None
    if UNKNOWN in (scaler.get("api"), *place.values()):
        return None
    try:
        api = await asyncio.to_thread(lambda: scaling.look(cluster_of(place), scaler["api"]))
    except ResourceError:
        return None  # whoever is to make something there says it
    return None if api is None else scaling.missing(api)


def _server_of(pod: Object) -> str:
    """The container with the server: the one that is told a revision, else the first."""
    containers: list[Object] = part(pod, "spec", "containers") or []
    for container in containers:
        if any(variable.get("name") == "SLIPWAY_REVISION" for variable in container.get("env") or ()):
            return str(container["name"])
    return str(containers[0]["name"])


def _selector(deployment: Object) -> str:
    labels: dict[str, str] = part(deployment, "spec", "selector", "matchLabels") or {}
    return ",".join(f"{label}={value}" for label, value in sorted(labels.items()))
