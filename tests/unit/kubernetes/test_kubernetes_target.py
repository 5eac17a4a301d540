"""What `Endpoint` asks a cluster, and what it makes of the answers. Against a stand-in for the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from provider.endpoint import Endpoint
from provider.kubernetes import looking, scaling
from provider.kubernetes import target as kubernetes
from provider.kubernetes.target import KubernetesTarget
from provider.local.probe import REVISION_HEADER, Answer, NoAnswerError
from provider.resource import Failure, ResourceError
from provider.target import Observation
from provider.values import UNKNOWN, Properties
from tests.operations import Lines, context
from tests.unit.kubernetes import objects
from tests.unit.kubernetes.api_server import ApiServer, items, refusal
from tests.unit.kubernetes.objects import deployment, event, node, pod, replica_set, status, unscheduled

CORE, APPS = "/api/v1/namespaces/models", "/apis/apps/v1/namespaces/models"
DEPLOYMENT = f"{APPS}/deployments/mnist"
LOOP = status(
    waiting={"reason": "CrashLoopBackOff"},
    restarts=1,
    last={"exitCode": 7, "finishedAt": objects.ago(3), "startedAt": objects.ago(5)},
)


def holds(api: ApiServer, of: Any, *pods: Any, refused: str = "") -> None:
    """Has the cluster hold a Deployment with these pods."""
    api.answers[DEPLOYMENT] = 200, of
    api.answers[f"{APPS}/replicasets"] = items(replica_set(1, "old"), replica_set(refusal=refused, since=20))
    api.answers[f"{CORE}/pods"] = items(*pods)
    api.answers.setdefault(f"{CORE}/events", items())


def observed(inputs: Properties) -> Observation | None:
    return asyncio.run(KubernetesTarget(inputs).observe())


def seen(inputs: Properties) -> Observation:
    found = observed(inputs)
    assert found is not None
    return found


def story(inputs: Properties) -> str:
    with pytest.raises(ResourceError) as raised:
        asyncio.run(Endpoint().create(context("slipway:index:Endpoint", "mnist"), inputs))
    return str(raised.value)


def test_a_rollout_that_is_done_takes_three_questions(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(available=1), pod(ready=True))
    found = seen(inputs)
    assert (found.condition.state, found.desired, found.serving) == ("Healthy", "r2", "1 pod of the revision serves.")
    assert api.asked == [
        f"GET {DEPLOYMENT}",
        f"GET {APPS}/replicasets?labelSelector=app%3Dmnist",
        f"GET {CORE}/pods?labelSelector=app%3Dmnist",
    ]


def test_the_log_of_the_process_that_ended_is_read(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(), pod(LOOP), pod(name="old", owner="old", revision="r1", ready=True))
    api.answers[f"{CORE}/pods/mnist-2-a/log"] = 200, "first words\nlast words\n"
    said = story(inputs)
    assert "service mnist, revision r2: Failed (CrashLoop)" in said
    assert "| last words" in said
    assert "1 pod of revision r1, the one before, goes on serving." in said
    assert f"GET {CORE}/pods/mnist-2-a/log?container=server&tailLines=40&previous=true" in api.asked


def test_old_pods_of_the_same_revision_do_not_hide_new_ones_that_cannot_pull(
    api: ApiServer, inputs: Properties
) -> None:
    refused = "failed to pull image: dial tcp 127.0.0.1:5000: connect: connection refused"
    new = pod(status(waiting={"reason": "ErrImagePull", "message": refused}))
    holds(api, deployment(updated=1, available=1, old=1), new, pod(name="old", owner="old", ready=True))
    said = story(inputs)
    assert "service mnist, revision r2: Failed (ImagePullFailed)" in said
    assert "connection refused" in said
    assert "1 pod of the same revision, the one before, goes on serving." in said


def test_another_place_of_the_image_is_waited_for(inputs: Properties) -> None:
    before = {**inputs, "target": {**inputs["target"], "image": "127.0.0.1:5000/mnist@sha256:i"}, "state": "Healthy"}
    after = {**inputs, "target": {**inputs["target"], "image": "127.0.0.1:31000/mnist@sha256:i"}}
    assert Endpoint().diff(before, {**before}) == []
    (change,) = Endpoint().diff(before, after)
    assert (change.path.partition(".")[0], change.kind) == ("target", "update")


def test_a_log_that_is_gone_gives_way_to_that_of_the_process_that_runs(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(), pod(LOOP))
    log = f"{CORE}/pods/mnist-2-a/log?container=server&tailLines=40"
    api.answers[f"{log}&previous=true"] = refusal(400, "previous terminated container not found")
    api.answers[log] = 200, "words of the next one"
    found = seen(inputs)
    assert found.condition.cause is not None
    assert found.condition.cause.log == ("words of the next one",)


def test_rights_that_are_missing_for_details_are_no_error(api: ApiServer, inputs: Properties) -> None:
    denied = 'User "ann" cannot get resource "pods/log"'
    holds(api, deployment(), pod(LOOP))
    api.answers[f"{CORE}/events"] = refusal(403, 'User "ann" cannot list resource "events"')
    api.answers[f"{CORE}/pods/mnist-2-a/log"] = refusal(403, denied)
    said = story(inputs)
    assert "ended twice, the last time with exit code 7" in said
    assert "its log could not be read: ann has no right to get pods/log in the namespace models" in said


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        (items(node("a", cpu="2")), "cpu 64 is asked for, and the nodes offer: a 2. The scheduler says"),
        (refusal(403, 'User "ann" cannot list resource "nodes"'), "cpu 64 is asked for. The scheduler says"),
    ],
)
def test_what_the_nodes_offer_is_told_where_it_may_be_known(
    api: ApiServer, inputs: Properties, nodes: Any, words: str
) -> None:
    wants = {"containers": [objects.container(requests={"cpu": "64"})]}
    holds(api, deployment(), unscheduled("0/1 nodes are available: 1 Insufficient cpu.", spec=wants))
    api.answers["/api/v1/nodes"] = nodes
    said = story(inputs)
    assert "Unschedulable (NotEnoughCpus)" in said
    assert words in said


def test_a_pod_that_has_not_changed_is_not_looked_into_at_each_turn(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(), pod(status(running={"startedAt": objects.ago(5)})))
    api.answers[f"{CORE}/pods/mnist-2-a:5001/proxy/ready"] = 503, {"message": "init() has been running for 3 s"}

    async def twice() -> list[Observation | None]:
        looking = KubernetesTarget(inputs)
        return [await looking.observe(), await looking.observe()]

    found = asyncio.run(twice())
    assert found[0] == found[1]
    assert found[0] is not None
    assert "init() has been running for 3 s" in found[0].condition.message
    assert len([path for path in api.asked if "proxy" in path]) == 1


def test_pods_are_listed_once_a_second_where_the_deployment_has_not_changed(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(metadata={"resourceVersion": "7"}), pod(status(running={"startedAt": objects.ago(5)})))

    async def three_times() -> Observation | None:
        looking = KubernetesTarget(inputs)
        assert await looking.observe() == await looking.observe()
        holds(api, deployment(available=1, metadata={"resourceVersion": "8"}), pod(ready=True))
        return await looking.observe()

    found = asyncio.run(three_times())
    assert found is not None
    assert found.condition.state == "Healthy"
    assert api.asked.count(f"GET {DEPLOYMENT}") == 3
    assert len([path for path in api.asked if path.startswith(f"GET {CORE}/pods?")]) == 2


def test_a_refusal_is_told_in_the_words_of_the_latest_event(api: ApiServer, inputs: Properties) -> None:
    said = 'Error creating: pods "a" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
    holds(api, deployment(updated=0), refused='pods "a" is forbidden: something else')
    api.answers[f"{CORE}/events"] = items(event("FailedCreate", said, field=""))
    assert "Failed (QuotaExceeded)\n  no pod can be made: exceeded quota: q" in story(inputs)
    assert f"GET {CORE}/events?fieldSelector=involvedObject.uid%3Drs" in api.asked


# -- what is gone ------------------------------------------------------------------------------------------------------


def test_a_deployment_that_is_gone(api: ApiServer, inputs: Properties) -> None:
    api.answers["/api/v1/namespaces/models"] = 200, {"metadata": {"name": "models"}}
    assert observed(inputs) is None
    api.answers["/api/v1/namespaces/models"] = refusal(403, 'User "ann" cannot get resource "namespaces"')
    assert observed(inputs) is None


def test_a_namespace_that_is_gone_or_about_to_be(api: ApiServer, inputs: Properties) -> None:
    assert "Failed (NamespaceMissing)\n  the namespace models does not exist" in story(inputs)
    api.answers["/api/v1/namespaces/models"] = 200, {"metadata": {"deletionTimestamp": objects.ago(3)}}
    assert "Failed (NamespaceTerminating)\n  the namespace models is being deleted" in story(inputs)


def test_another_revision_is_told(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(available=1, revision="r3"), pod(ready=True))
    assert "was asked for revision r3, not r2" in story(inputs)


def test_a_cluster_that_is_away_is_a_state_of_a_refresh(api: ApiServer, inputs: Properties) -> None:
    api.answers[DEPLOYMENT] = refusal(401, "Unauthorized")
    log = Lines()
    found = asyncio.run(Endpoint().read(context("slipway:index:Endpoint", "mnist", log=log), "mnist", inputs))
    assert found is not None
    assert (found["state"], found["reason"]) == ("Unhealthy", "TargetUnreachable")
    assert "does not accept the credentials" in log.warnings[0]


# -- trying again ------------------------------------------------------------------------------------------------------


@pytest.fixture
def later(at_now: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process had begun after all that happened."""
    monkeypatch.setattr(looking, "_STARTED", datetime.now(UTC))


@pytest.mark.usefixtures("later")
def test_what_failed_in_an_earlier_run_is_made_anew(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(), pod(LOOP), pod(name="old", owner="old", revision="r1"))
    assert seen(inputs).earlier

    def deleted() -> tuple[int, Any]:
        holds(api, deployment(available=1), pod(name="mnist-2-b", ready=True))
        return 200, {}

    api.answers[f"DELETE {CORE}/pods/mnist-2-a"] = deleted
    api.answers[f"{CORE}/pods/mnist-2-b:5001/proxy/ready"] = 200, {}
    # What answers here is no service, and says no revision: it went past the failure.
    assert "AnsweredByAnother" in _quickly(inputs)
    assert [path for path in api.asked if path.startswith("DELETE")] == [f"DELETE {CORE}/pods/mnist-2-a"]


def _quickly(inputs: Properties) -> str:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("provider.endpoint._SETTLE_SECONDS", 0.0)
        return story(inputs)


@pytest.mark.usefixtures("later")
def test_what_failed_before_is_not_told_again_after_trying(api: ApiServer, inputs: Properties) -> None:
    refused = 'pods "a" is forbidden: violates PodSecurity "restricted:latest": x'
    holds(api, deployment(updated=0), refused=refused)
    api.answers[f"PATCH {APPS}/replicasets/mnist-2"] = 200, {}

    async def tried() -> tuple[Observation | None, Observation | None]:
        trying = KubernetesTarget(inputs)
        await trying.retry()
        before = await trying.observe()
        again = event("FailedCreate", f"Error creating: {refused}", last=0, field="")
        api.answers[f"{CORE}/events"] = items(again)
        return before, await trying.observe()

    before, after = asyncio.run(tried())
    assert before is not None
    assert (before.condition.state, before.hopeless, before.earlier) == ("Transitioning", False, False)
    assert before.condition.message.startswith("trying again after: no pod can be made: violates PodSecurity")
    assert after is not None
    assert (after.condition.state, after.hopeless, after.earlier) == ("Failed", True, False)
    assert f"PATCH {APPS}/replicasets/mnist-2" in api.asked


# -- what an autoscaler goes by ----------------------------------------------------------------------------------------

CUSTOM = "custom.metrics.k8s.io"
SCALER = "/apis/autoscaling/v2/namespaces/models/horizontalpodautoscalers/mnist"


def scaled(inputs: Properties, api: str = CUSTOM, **more: Any) -> Properties:
    return {**inputs, "target": {**inputs["target"], "autoscaler": {"name": "mnist", "api": api, **more}}}


def serves(api: ApiServer, group: str = CUSTOM, version: str = "v1beta2") -> None:
    """Has the cluster serve a part of the API."""
    api.answers[f"/apis/{group}"] = 200, {"kind": "APIGroup", "preferredVersion": {"version": version}}
    api.answers[f"/apis/{group}/{version}"] = 200, {"kind": "APIResourceList", "resources": []}


def scaler(active: str, reason: str, since: float, message: str = "no metrics returned") -> Any:
    condition = {"type": "ScalingActive", "status": active, "reason": reason, "message": message}
    conditions = [{**condition, "lastTransitionTime": objects.ago(since)}]
    return 200, {"metadata": {"name": "mnist"}, "status": {"conditions": conditions}}


@pytest.mark.parametrize(
    ("group", "hint"),
    [
        (CUSTOM, "have the stack bring an adapter (metricsAdapter: true on the compute target)"),
        ("metrics.k8s.io", "install metr"),
    ],
)
def test_a_service_that_cannot_scale_serves_and_says_so(
    group: str, hint: str, api: ApiServer, inputs: Properties
) -> None:
    holds(api, deployment(available=1), pod(ready=True))
    condition = seen(scaled(inputs, group)).condition
    assert (condition.state, condition.reason) == ("Healthy", "NotScaling")
    assert condition.message == (
        "1 pod of revision r2 answer; no pods are added under load: this cluster does not serve "
        f"{group}, from which an autoscaler knows the load"
    )
    assert condition.cause is not None
    assert condition.cause.hint.startswith(hint)


def test_an_api_that_does_not_answer_is_told_and_not_waited_for(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(available=1), pod(ready=True))
    serves(api)
    api.answers[f"/apis/{CUSTOM}/v1beta2"] = 503, "service unavailable"
    condition = seen(scaled(inputs)).condition
    assert condition.state == "Healthy"
    assert "what serves custom.metrics.k8s.io in this cluster" in condition.message
    assert condition.message.endswith("does not answer: service unavailable")
    assert condition.cause is not None
    assert condition.cause.hint == f"see why: kubectl describe apiservice v1beta2.{CUSTOM}"
    assert api.asked.count(f"GET /apis/{CUSTOM}/v1beta2") == 1


def test_what_the_autoscaler_cannot_read_is_told_in_its_words(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(available=1), pod(ready=True))
    serves(api)
    api.answers[SCALER] = scaler("False", "FailedGetPodsMetric", 120)
    condition = seen(scaled(inputs)).condition
    assert (condition.state, condition.reason) == ("Healthy", "NotScaling")
    assert condition.message.endswith(
        "no pods are added under load: the autoscaler cannot read the load (FailedGetPodsMetric): no metrics returned"
    )


def test_who_waits_lets_the_autoscaler_look_again(
    api: ApiServer, inputs: Properties, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds(api, deployment(available=1), pod(ready=True))
    serves(api)
    monkeypatch.setattr(kubernetes, "_ALL_SECONDS", 0.0)
    answers = [scaler("False", "FailedGetPodsMetric", 120), scaler("True", "ValidMetricFound", 0)]
    api.answers[SCALER] = lambda: answers.pop(0)
    target = KubernetesTarget(scaled(inputs))
    first, second = (asyncio.run(target.observe(waiting=True)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.condition.state, first.condition.reason) == ("Transitioning", "NotScaling")
    assert (second.condition.state, second.condition.reason) == ("Healthy", "Ready")
    monkeypatch.setattr(scaling, "LOOK_SECONDS", 0.0)
    answers = [scaler("False", "FailedGetPodsMetric", 120)]
    third = asyncio.run(target.observe(waiting=True))
    assert third is not None
    assert (third.condition.state, third.condition.reason) == ("Healthy", "NotScaling")


@pytest.mark.parametrize(
    "answer",
    [
        scaler("True", "ValidMetricFound", 120),
        scaler("False", "FailedGetPodsMetric", 30),  # the figures of new pods come later
        scaler("False", "ScalingDisabled", 120),
        (200, {"metadata": {"name": "mnist"}}),
        refusal(404, "not found"),
        refusal(403, 'User "ann" cannot get resource "horizontalpodautoscalers"'),
    ],
)
def test_an_autoscaler_that_can_read_or_has_not_looked_yet_is_not_told_of(
    answer: Any, api: ApiServer, inputs: Properties
) -> None:
    holds(api, deployment(available=1), pod(ready=True))
    serves(api)
    api.answers[SCALER] = answer
    condition = seen(scaled(inputs)).condition
    assert (condition.reason, condition.cause) == ("Ready", None)


def test_whoever_may_not_look_is_not_told(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(available=1), pod(ready=True))
    api.answers[f"/apis/{CUSTOM}"] = refusal(403, 'User "ann" cannot get path "/apis/custom.metrics.k8s.io"')
    assert seen(scaled(inputs)).condition.reason == "Ready"


def test_a_service_that_does_not_serve_has_other_worries(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(), pod())
    assert seen(scaled(inputs)).condition.state == "Transitioning"
    assert f"GET /apis/{CUSTOM}" not in api.asked


def _told(operation: str, news: Properties, *, preview: bool = False) -> list[str]:
    """The warnings of an operation of the endpoint."""
    lines = Lines()
    given = context("slipway:index:Endpoint", "mnist", log=lines, preview=preview)
    if operation == "create":
        asyncio.run(Endpoint().create(given, news))
    elif operation == "update":
        asyncio.run(Endpoint().update(given, "mnist", news, news))
    else:
        asyncio.run(Endpoint().read(given, "mnist", news))
    return lines.warnings


@pytest.mark.parametrize("operation", ["create", "update", "read"])
@pytest.mark.parametrize("preview", [False, True])
def test_what_is_missing_is_a_warning_with_what_to_do(
    operation: str, preview: bool, api: ApiServer, inputs: Properties, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answered(*args: Any, **named: Any) -> dict[str, Answer]:
        return {"the pod mnist-2-a": Answer(200, {REVISION_HEADER: "r2"}, b"")}

    monkeypatch.setattr(KubernetesTarget, "ask", answered)
    holds(api, deployment(available=1), pod(ready=True))
    (said,) = _told(operation, scaled(inputs), preview=preview)
    assert said.startswith("service mnist: no pods are added under load: this cluster does not serve custom.metrics")
    assert "What to do: have the stack bring an adapter" in said


def test_a_preview_says_nothing_of_what_the_stack_brings_or_cannot_know(api: ApiServer, inputs: Properties) -> None:
    assert _told("create", scaled(inputs, provided=True), preview=True) == []
    assert _told("create", inputs, preview=True) == []
    unknown = scaled(inputs)
    unknown["target"]["cluster"] = {"kubeconfig": UNKNOWN}
    assert _told("create", unknown, preview=True) == []
    nowhere = scaled(inputs)
    nowhere["target"]["cluster"] = {"kubeconfig": "/nowhere/kubeconfig"}
    assert _told("create", nowhere, preview=True) == []
    assert api.asked == []


# -- asking ------------------------------------------------------------------------------------------------------------


def test_each_pod_that_is_ready_is_asked(api: ApiServer, inputs: Properties) -> None:
    leaving = {"deletionTimestamp": objects.ago(1)}
    others = [pod(name="c"), pod(name="d", ready=True, metadata=leaving), pod(name="e", owner="old", ready=True)]
    holds(api, deployment(), pod(name="a", ready=True), pod(name="b", ready=True), *others)
    for name in "ab":
        api.answers[f"{CORE}/pods/{name}:5001/proxy/ready"] = 200, {"from": name}
    answers = asyncio.run(KubernetesTarget(inputs).ask("/ready", timeout=60))
    assert {where: answer.excerpt() for where, answer in answers.items()} == {
        "the pod a": '{"from": "a"}',
        "the pod b": '{"from": "b"}',
    }


def test_nobody_is_there_to_be_asked(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(), pod(name="a"))
    with pytest.raises(NoAnswerError, match="no answer to /ready: no pod is ready"):
        asyncio.run(KubernetesTarget(inputs).ask("/ready", timeout=60))


def test_both_rights_are_named_where_a_pod_can_be_asked_in_no_way(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(available=1), pod(name="a", ready=True))
    for what in ("proxy/ready", "exec"):
        place = f"{CORE}/pods/a:5001/{what}" if "proxy" in what else f"{CORE}/pods/a/{what}"
        resource = f"pods/{what.partition('/')[0]}"
        api.answers[place] = refusal(403, f'User "ann" cannot get resource "{resource}"')
    said = _quickly(inputs)
    assert "Failed (Unreachable)" in said
    assert "ann has no right to get pods/proxy in the namespace models" in said
    assert "Grant the verbs get and create on pods/exec" in said


@pytest.mark.parametrize(
    ("change", "failures"),
    [
        (lambda place: None, []),
        (lambda place: place.update(port=UNKNOWN, cluster=UNKNOWN), []),
        (
            lambda place: place.pop("deployment"),
            [Failure("target.deployment", "is required for a target of the kind kubernetes")],
        ),
        (
            lambda place: place.update(cluster={"host": "a"}),
            [Failure("target.cluster.host", "is not known; a cluster has kubeconfig and context")],
        ),
        (
            lambda place: place.update(autoscaler={"name": "mnist"}),
            [Failure("target.autoscaler", "has a name, and the group of the API that tells it the load")],
        ),
    ],
)
def test_the_inputs_are_checked(
    inputs: Properties, change: Callable[[Properties], object], failures: list[Failure]
) -> None:
    change(inputs["target"])
    checked = asyncio.run(Endpoint().check(context("slipway:index:Endpoint", "mnist"), inputs))
    assert checked[1] == failures


def warned(state: Properties) -> str:
    """What a refresh of the endpoint warns of."""
    log = Lines()
    found = asyncio.run(Endpoint().read(context("slipway:index:Endpoint", "mnist", log=log), "mnist", state))
    assert found is not None
    assert (found["state"], found["reason"]) == ("Unhealthy", "WrongRevision")
    return "\n".join(log.warnings)


def test_a_refresh_after_a_failed_update_says_what_goes_on_serving(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(), pod(LOOP), pod(name="old", owner="old", revision="r1", ready=True))
    said = warned({**inputs, "revision": "r1"})
    assert said.endswith(
        "(WrongRevision): the last update, revision r2, did not become ready: the pod mnist-2-a ended twice, the last "
        "time with exit code 7. 1 pod of revision r1 goes on serving."
    )


def test_a_refresh_tells_a_revision_that_somebody_else_deployed(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(available=1), pod(ready=True))
    assert warned({**inputs, "revision": "r1"}).endswith("(WrongRevision): revision r2 is deployed, not r1")
