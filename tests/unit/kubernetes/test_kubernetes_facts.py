"""The condition of a rollout on Kubernetes, by what the cluster says of it."""

from __future__ import annotations

from typing import Any

import pytest

from provider.condition import Condition
from provider.kubernetes.facts import condition, newest, serving
from provider.kubernetes.objects import Event, Verdict, amount, moment, quantity
from provider.kubernetes.pods import Details
from tests.unit.kubernetes.objects import (
    Object,
    ago,
    container,
    deployment,
    event,
    node,
    pod,
    replica_set,
    rollout,
    status,
    unscheduled,
)

LOG = (
    "2026-11-22T10:00:00Z INFO loading",
    "Traceback (most recent call last):",
    '  File "score.py", line 3, in init',
    "    open('gone')",
    "FileNotFoundError: [Errno 2] No such file or directory: 'gone'",
    "2026-11-22T10:00:01Z ERROR init() failed",
)
RUNNING = {"startedAt": ago(5)}
CREATING = status(waiting={"reason": "ContainerCreating"})
NOT_FOUND = (
    'failed to pull and unpack image "registry.local/mnist:1": failed to resolve reference "registry.local/mnist:1": '
    "registry.local/mnist:1: not found"
)
BACK_OFF = 'Back-off pulling image "registry.local/mnist:1": ErrImagePull: rpc error: code = NotFound desc ='


def ended(code: int = 1, reason: str = "Error", at: float = 3) -> Object:
    return {"exitCode": code, "reason": reason, "startedAt": ago(at + 2), "finishedAt": ago(at)}


def told(*pods: Object, events: list[Object] | None = None, log: tuple[str, ...] = (), **more: Any) -> Verdict:
    """The verdict on a rollout of one replica with these pods, and these events and log lines of each of them."""
    details = Details(
        [Event.of(one) for one in events or ()], {"server": log} if log else {}, answer=more.pop("answer", "")
    )
    of = more.pop("of", None) or deployment()
    return condition(rollout(of, *pods, details={one["metadata"]["name"]: details for one in pods}, **more))


def cause(found: Verdict) -> str:
    assert found.condition.cause is not None
    assert found.condition.cause.hint
    return found.condition.message


# -- well ------------------------------------------------------------------------------------------------------------


def test_a_rollout_is_healthy_when_all_is_new_and_available() -> None:
    of = deployment(wanted=2, updated=2, available=2)
    assert condition(rollout(of, pod(ready=True))).condition == Condition(
        "Healthy", "Ready", "2 pods of revision r2 answer"
    )


def test_replicas_left_out_are_one() -> None:
    assert condition(rollout(deployment(wanted=None, available=1))).condition.message == "1 pod of revision r2 answer"


@pytest.mark.parametrize(
    ("of", "reason", "words"),
    [
        (deployment(available=1, observed=1), "RollingOut", "has not begun"),
        (deployment(available=2, old=1), "RollingOut", "1 of 1 pod ready; 1 pod of the revision before left"),
        (deployment(metadata={"deletionTimestamp": ago(1)}), "Removing", "is being deleted"),
    ],
)
def test_what_is_not_done_is_waited_for(of: Object, reason: str, words: str) -> None:
    found = condition(rollout(of, pod(ready=True)))
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Transitioning", reason, False)
    assert words in found.condition.message


@pytest.mark.parametrize(
    ("spec", "reason", "hint"),
    [
        ({"paused": True}, "Paused", "kubectl rollout resume deployment/mnist"),
        ({"replicas": 0}, "ScaledToZero", "kubectl scale --replicas=1 deployment/mnist"),
    ],
)
def test_what_somebody_stopped_is_not_waited_for(spec: Object, reason: str, hint: str) -> None:
    found = condition(rollout(deployment(wanted=None, spec=spec)))
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Unhealthy", reason, True)
    assert found.condition.cause is not None
    assert found.condition.cause.hint == hint


# -- pods that may get better ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (pod(node=None, phase="Pending"), "waits for a node"),
        (pod(CREATING), "is being made"),
        (pod(status(running=RUNNING)), "does not answer yet"),
        (pod(status(ready=True, running=RUNNING)), "about to be ready"),
    ],
)
def test_a_pod_that_starts(item: Object, words: str) -> None:
    found = told(item)
    assert (found.condition.state, found.hopeless) == ("Transitioning", False)
    assert words in found.condition.message


def test_what_the_server_says_of_itself_comes_before_what_the_probe_says() -> None:
    events = [event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")]
    item = pod(status(running=RUNNING))
    assert "statuscode: 503" in told(item, events=events).condition.message
    assert "init() has run for 3 s" in told(item, events=events, answer="init() has run for 3 s").condition.message


def test_a_first_crash_may_be_the_last() -> None:
    found = told(pod(status(restarts=1, running=RUNNING, last=ended(7))), log=("boom",))
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Transitioning", "Restarting", False)
    assert cause(found) == "the pod mnist-2-a ended with exit code 7, and is started again"


def test_a_crash_of_long_ago_is_forgotten() -> None:
    item = pod(status(restarts=4, running={"startedAt": ago(3600)}, last=ended(7, at=3700)), made=9000)
    assert told(item).condition.reason == "Starting"


def test_a_registry_that_does_not_answer_is_given_a_short_while() -> None:
    words = 'Failed to pull image "registry.local/mnist:1": rpc error: code = Unknown desc = dial tcp: i/o timeout'
    item = pod(status(waiting={"reason": "ErrImagePull", "message": "rpc error: desc = dial tcp: i/o timeout"}))
    early = told(item, events=[event("Failed", words, first=2)])
    assert (early.condition.state, early.condition.reason, early.hopeless) == (
        "Transitioning",
        "ImagePullFailed",
        False,
    )
    late = told(item, events=[event("Failed", words, first=11)])
    assert (late.condition.state, late.hopeless) == ("Failed", True)
    assert cause(late) == "the image registry.local/mnist:1 cannot be pulled: dial tcp: i/o timeout"


@pytest.mark.parametrize("words", [NOT_FOUND, "pull access denied"])
def test_a_registry_that_has_no_such_image_or_denies_it_is_believed_at_once(words: str) -> None:
    item = pod(status(waiting={"reason": "ErrImagePull", "message": f"rpc error: code = X desc = {words}"}), made=2)
    assert told(item, events=[event("Failed", "Failed to pull image", first=1)]).hopeless


UNREAD = "Unable to retrieve some image pull secrets (slipway-registry); attempting to pull the image may not succeed."


@pytest.mark.parametrize(
    ("unread", "pulled", "first", "hopeless"), [(2, 1, 2, False), (2, 1, 31, True), (14, 2, 14, True)]
)
def test_a_pull_secret_that_the_node_cannot_read_yet_is_waited_for(
    unread: int, pulled: int, first: int, hopeless: bool
) -> None:
    item = pod(status(waiting={"reason": "ErrImagePull", "message": "rpc error: desc = 401 Unauthorized"}))
    events = [
        event("FailedToRetrieveImagePullSecret", UNREAD, first=unread, last=unread),
        event("Failed", "Failed to pull image", first=first, last=pulled),
    ]
    found = told(item, events=events)
    assert (found.condition.reason, found.hopeless) == ("ImagePullFailed", hopeless)
    known = "Unable to retrieve some image pull secrets (slipway-registry)" in found.condition.message + cause(found)
    assert known == (unread - pulled < 5), "a try with the secret is told as what it was"


# -- pods that will not ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "reason", "words"),
    [
        (
            status(waiting={"reason": "ErrImagePull", "message": f"rpc error: code = NotFound desc = {NOT_FOUND}"}),
            "ImagePullFailed",
            "the image registry.local/mnist:1 cannot be pulled: registry.local/mnist:1: not found",
        ),
        (
            status(waiting={"reason": "ImagePullBackOff", "message": f"{BACK_OFF} {NOT_FOUND}"}),
            "ImagePullFailed",
            "the image registry.local/mnist:1 cannot be pulled: registry.local/mnist:1: not found",
        ),
        (
            status(waiting={"reason": "ErrImagePull", "message": "rpc error: desc = pull access denied"}),
            "ImagePullFailed",
            "pull access denied",
        ),
        (
            status(waiting={"reason": "InvalidImageName", "message": 'Failed to apply default image tag "A:": x'}),
            "InvalidImageName",
            "the image name registry.local/mnist:1 is not valid",
        ),
        (
            status(waiting={"reason": "CrashLoopBackOff"}, restarts=1, last=ended(7)),
            "CrashLoop",
            "the pod mnist-2-a ended twice, the last time with exit code 7",
        ),
        (status(running=RUNNING, restarts=3, last=ended(7)), "CrashLoop", "ended 3 times"),
        (status(terminated=ended(7), restarts=1), "CrashLoop", "ended twice"),
        (
            status(terminated=ended(128, "StartError") | {"message": 'exec: "serve": executable file not found'}),
            "NotStarted",
            'exec: "serve": executable file not found',
        ),
        (status(terminated=ended(137, "OOMKilled")), "OutOfMemory", "taking more than its memory"),
    ],
)  # fmt: skip
def test_a_container_of_which_is_known_that_it_will_not_come_up(one: Object, reason: str, words: str) -> None:
    found = told(pod(one))
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Failed", reason, True)
    assert words in cause(found)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("not found", "the image is pushed again"),
        ("unauthorized: authentication required", "image pull secret"),
        ("no match for platform in manifest: not found", "another processor"),
        ("http: server gave HTTP response to HTTPS client", "TLS"),
        ("dial tcp 10.0.0.1:443: connect: no route to host", "reach the registry"),
    ],
)
def test_what_to_do_about_an_image_depends_on_the_registrys_answer(words: str, hint: str) -> None:
    item = pod(status(waiting={"reason": "ErrImagePull", "message": f"rpc error: code = X desc = {words}"}))
    found = told(item, events=[event("Failed", "Failed to pull image", first=60)])
    assert found.condition.cause is not None
    assert hint in found.condition.cause.hint


def test_the_memory_that_was_too_little_is_named() -> None:
    item = pod(status(terminated=ended(137, "OOMKilled")), spec={"containers": [container(limits={"memory": "64Mi"})]})
    found = told(item, log=("loading",))
    assert cause(found) == "the pod mnist-2-a was ended for taking more than its memory of 64Mi"
    assert found.condition.cause is not None
    assert (found.condition.cause.out_of_memory, found.condition.cause.log) == (True, ("loading",))


def test_a_server_that_says_it_cannot_start_is_not_waited_for() -> None:
    found = told(pod(status(restarts=1, running=RUNNING, last=ended(3))), log=LOG)
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Failed", "InitError", True)
    assert cause(found).endswith("FileNotFoundError: [Errno 2] No such file or directory: 'gone'")
    assert found.condition.cause is not None
    assert found.condition.cause.traceback == LOG[1:5]


def test_a_log_that_may_not_be_read_is_no_reason_to_say_nothing() -> None:
    item = pod(status(waiting={"reason": "CrashLoopBackOff"}, restarts=1, last=ended(7)))
    details = Details(unread="ann has no right to get pods/log")
    found = condition(rollout(deployment(), item, details={"mnist-2-a": details}))
    assert found.condition.cause is not None
    assert found.condition.cause.hint == "its log could not be read: ann has no right to get pods/log"


def test_a_start_that_took_too_long() -> None:
    events = [
        event("Unhealthy", 'Startup probe failed: Get "http://10.0.0.1/ready": connection refused'),
        event("Killing", "Container server failed startup probe, will be restarted"),
    ]
    found = told(pod(status(terminated=ended(0, "Completed"))), events=events, log=("still loading",))
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Failed", "StartupTimeout", True)
    assert "since its startup probe failed: Get" in cause(found)


def test_a_start_that_took_too_long_is_told_before_the_process_has_ended() -> None:
    events = [event("Killing", "Container server failed startup probe, will be restarted", last=2)]
    item = pod(status(running={"startedAt": ago(30)}))
    assert told(item, events=events).condition.reason == "StartupTimeout"
    # One before it was ended so.
    assert told(pod(status(running={"startedAt": ago(1)})), events=events).condition.reason == "Starting"


def test_what_the_next_process_says_to_a_probe_is_not_what_the_last_one_was_ended_for() -> None:
    events = [
        event("Unhealthy", "Startup probe failed: HTTP probe failed with statuscode: 503", last=3),
        event("Killing", "Container server failed startup probe, will be restarted", last=3),
        event("Unhealthy", "Startup probe failed: connection refused", last=1),
    ]
    found = told(pod(status(running={"startedAt": ago(2)}, restarts=1, last=ended(137, at=2))), events=events)
    assert cause(found).endswith("since its startup probe failed: HTTP probe failed with statuscode: 503")


def test_a_sample_request_that_its_startup_probe_is_refused() -> None:
    said = "Startup probe failed: the sample request was answered with 500: {}"
    starting = pod(status(running=RUNNING))
    once = told(starting, events=[event("Unhealthy", said.format("no pixel"))], log=LOG)
    assert (once.condition.state, once.hopeless) == ("Transitioning", False), "a server may be overloaded for a moment"

    events = [event("Unhealthy", said.format("no pixel")), event("Unhealthy", said.format("no pixel at 3"))]
    found = told(starting, events=events, log=LOG)

    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Failed", "SampleRequestFailed", True)
    assert cause(found) == "in the pod mnist-2-a the sample request was answered with 500: no pixel"
    assert found.condition.cause is not None
    assert found.condition.cause.traceback[-1] == "FileNotFoundError: [Errno 2] No such file or directory: 'gone'"


def test_a_process_that_hangs_is_ended_twice_before_it_counts_as_failed() -> None:
    events = [event("Killing", "Container server failed liveness probe, will be restarted", last=2)]
    again = {"startedAt": ago(1)}
    once = told(pod(status(running=again, restarts=1, last=ended(137, at=2))), events=events)
    assert (once.condition.state, once.condition.reason, once.hopeless) == ("Unhealthy", "ProbeFailed", False)
    twice = told(pod(status(running=again, restarts=2, last=ended(137, at=2))), events=events)
    assert (twice.condition.state, twice.condition.reason, twice.hopeless) == ("Failed", "ProbeFailed", True)
    assert "liveness probe failed" in cause(twice)


@pytest.mark.parametrize(
    ("one", "events", "reason"),
    [
        (
            status(waiting={"reason": "CreateContainerConfigError", "message": 'secret "keys" not found'}),
            [event("Failed", 'Error: secret "keys" not found', first=11)],
            "ConfigurationMissing",
        ),
        (
            CREATING,
            [event("FailedMount", 'MountVolume.SetUp failed for volume "keys" : secret "keys" not found', first=11)],
            "MountFailed",
        ),
    ],
)
def test_a_secret_that_is_missing_is_given_a_short_while(one: Object, events: list[Object], reason: str) -> None:
    found = told(pod(one), events=events)
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Failed", reason, True)
    assert 'secret "keys" not found' in cause(found)
    early = told(pod(one, made=3), events=[{**events[0], "firstTimestamp": ago(3)}])
    assert (early.condition.state, early.condition.reason, early.hopeless) == ("Transitioning", reason, False)


def test_the_container_is_named_where_there_are_several() -> None:
    found = told(pod(status("proxy", terminated=ended(7), restarts=1), status(ready=True, running=RUNNING)))
    assert "the container proxy of the pod mnist-2-a ended twice" in cause(found)


# -- pods that no node takes -------------------------------------------------------------------------------------------


CPU = (
    "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: 0/2 nodes are available: "
    "2 No preemption victims found for incoming pod."
)


def wants(**requests: str) -> Object:
    return {"containers": [container(requests=requests)]}


def test_no_node_has_so_many_cpus() -> None:
    nodes = [node("a", cpu="2"), node("b", cpu="3500m")]
    found = told(unscheduled(CPU, spec=wants(cpu="64")), nodes=nodes)
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Unschedulable", "NotEnoughCpus", True)
    assert cause(found) == (
        "no node takes the pod mnist-2-a: cpu 64 is asked for, and the nodes offer: b 3.5, a 2. The scheduler says: "
        "0/2 nodes are available: 2 Insufficient cpu"
    )


def test_a_device_comes_before_processors() -> None:
    said = "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient nvidia.com/gpu."
    found = told(unscheduled(said, spec=wants(**{"nvidia.com/gpu": "1"})), nodes=[node("a", cpu="2")])
    assert found.condition.reason == "DeviceMissing"
    assert "nvidia.com/gpu 1 is asked for, and no node offers any" in cause(found)
    assert found.condition.cause is not None
    assert "add a node that has nvidia.com/gpu" in found.condition.cause.hint


def test_what_other_pods_have_taken_is_told_apart() -> None:
    found = told(
        unscheduled("0/1 nodes are available: 1 Insufficient memory.", spec=wants(memory="3Gi")),
        nodes=[node("a", memory="4Gi")],
    )
    assert "memory 3 GiB is asked for, and the nodes offer: a 4 GiB, part of it taken by other pods" in cause(found)


def test_nodes_that_may_not_be_listed_are_left_out() -> None:
    found = told(unscheduled(CPU, spec=wants(cpu="64")), nodes=None)
    assert "cpu 64 is asked for. The scheduler says: 0/2 nodes" in cause(found)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("1 node(s) didn't match Pod's node affinity/selector.", "NoMatchingNode"),
        ("1 node(s) had untolerated taint {gpu: true}.", "TaintsNotTolerated"),
        ("1 node(s) were unschedulable.", "NodesCordoned"),
        ("1 Too many pods.", "TooManyPods"),
        ("1 node(s) didn't match pod topology spread constraints.", "TopologySpread"),
        ("pod has unbound immediate PersistentVolumeClaims.", "Unschedulable"),
    ],
)
def test_what_else_keeps_a_pod_from_nodes(said: str, reason: str) -> None:
    item = unscheduled(f"0/1 nodes are available: {said}", spec={"nodeSelector": {"disk": "ssd"}})
    found = told(item)
    assert (found.condition.state, found.condition.reason) == ("Unschedulable", reason)
    assert said.rstrip(".") in cause(found)
    assert ("its node selector is disk=ssd" in cause(found)) is (reason == "NoMatchingNode")


@pytest.mark.parametrize(
    ("unlabelled", "reason"), [(1, "NoMatchingNode"), (2, "NoMatchingNode"), (0, "TaintsNotTolerated")]
)
def test_what_keeps_a_pod_from_the_most_nodes_is_told(unlabelled: int, reason: str) -> None:
    parts = ["1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }"]
    parts += [f"{unlabelled} node(s) didn't match Pod's node affinity/selector"] if unlabelled else []
    for ordered in (parts, parts[::-1]):
        assert told(unscheduled(f"0/3 nodes are available: {', '.join(ordered)}.")).condition.reason == reason
    many = "2 node(s) didn't match Pod's node affinity/selector, 7 node(s) had untolerated taint(s)."
    assert told(unscheduled(many)).condition.reason == "TaintsNotTolerated"


def test_a_node_may_come() -> None:
    assert not told(unscheduled(CPU, since=9)).hopeless
    assert told(unscheduled(CPU, since=11)).hopeless
    scaling = [event("TriggeredScaleUp", "pod triggered scale-up: [{pool 1->2}]", field="")]
    found = told(unscheduled(CPU, since=60), events=scaling)
    assert not found.hopeless
    assert "a node was asked for: pod triggered scale-up" in cause(found)
    in_vain = [event("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached", field="")]
    found = told(unscheduled(CPU, since=1), events=in_vain)
    assert found.hopeless
    assert "max node group size reached" in cause(found)


# -- pods that are not made --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason", "words"),
    [
        (
            'pods "mnist-x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0',
            "QuotaExceeded",
            "no pod can be made: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0",
        ),
        (
            'pods "mnist-x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
            "PodSecurity",
            'no pod can be made: violates PodSecurity "restricted:latest": runAsNonRoot != true',
        ),
        (
            'admission webhook "policy.example" denied the request: no team label',
            "AdmissionDenied",
            'no pod can be made: admission webhook "policy.example" denied the request: no team label',
        ),
        (
            'pods "mnist-x" is forbidden: error looking up service account a/b: serviceaccount "b" not found',
            "ServiceAccountMissing",
            'serviceaccount "b" not found',
        ),
        (
            'pods "mnist-x" is forbidden: maximum cpu usage per Container is 1, but limit is 2',
            "LimitRange",
            "maximum cpu usage per Container is 1",
        ),
        (
            'pods "mnist-x" is forbidden: unable to create new content in namespace a because it is being terminated',
            "NamespaceTerminating",
            "because it is being terminated",
        ),
    ],
)
def test_pods_that_are_refused(said: str, reason: str, words: str) -> None:
    found = told(of=deployment(updated=0), replica_set=replica_set(refusal=said, since=20))
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Failed", reason, True)
    assert words in cause(found)


def test_a_quota_may_become_free() -> None:
    said = 'pods "a" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
    found = told(of=deployment(updated=0), replica_set=replica_set(refusal=said, since=9))
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Transitioning", "QuotaExceeded", False)


def test_the_latest_refusal_counts() -> None:
    old = 'pods "a" is forbidden: exceeded quota: q'
    events = [
        Event.of(event("FailedCreate", 'Error creating: pods "b" is forbidden: violates PodSecurity "restricted"'))
    ]
    found = told(of=deployment(updated=0), replica_set=replica_set(refusal=old), events=None)
    assert found.condition.reason == "QuotaExceeded"
    found = condition(rollout(deployment(updated=0), replica_set=replica_set(refusal=old), events=events))
    assert found.condition.reason == "PodSecurity"
    assert cause(found) == 'no pod can be made: violates PodSecurity "restricted"'


# -- later -------------------------------------------------------------------------------------------------------------


LATE = deployment(Progressing=("False", "ProgressDeadlineExceeded", "has timed out"))
DONE = {"Progressing": ("True", "NewReplicaSetAvailable", "")}


def test_the_progress_deadline_ends_the_waiting_and_tells_why() -> None:
    found = told(pod(status(running=RUNNING)), of=LATE, answer="init() has run for 600 s", log=("loading",))
    assert (found.condition.state, found.condition.reason, found.hopeless) == (
        "Failed",
        "ProgressDeadlineExceeded",
        True,
    )
    assert cause(found) == (
        "the rollout made no progress for 600 s: the pod mnist-2-a starts: init() has run for 600 s"
    )
    assert found.condition.cause is not None
    assert found.condition.cause.log == ("loading",)


def test_a_pod_that_was_ready_and_no_longer_is() -> None:
    events = [event("Unhealthy", "Readiness probe failed: context deadline exceeded")]
    one = status(running={"startedAt": ago(500)})
    found = told(pod(one, ready=30.0, made=600), of=deployment(**DONE), events=events)
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Unhealthy", "ProbeFailed", False)
    assert "was ready and no longer is: Readiness probe failed" in cause(found)


def test_a_node_that_is_gone() -> None:
    events = [event("NodeNotReady", "Node is not ready", field="")]
    one = status(ready=True, running={"startedAt": ago(500)})
    found = told(pod(one, ready=2.0, made=600), of=deployment(**DONE), events=events)
    assert (found.condition.state, found.condition.reason) == ("Unhealthy", "NodeNotReady")
    assert "the node node-1 of the pod mnist-2-a does not answer any more" in cause(found)


def test_a_pod_that_is_made_anew_is_a_transition() -> None:
    found = told(pod(CREATING), of=deployment(**DONE))
    assert (found.condition.state, found.condition.reason) == ("Transitioning", "RollingOut")
    assert found.condition.message == "0 of 1 pod ready; the pod mnist-2-a is being made"


def test_a_revision_of_which_some_pods_serve_is_not_failed_as_a_whole() -> None:
    bad = pod(status(running=RUNNING, restarts=3, last=ended(7)))
    found = told(bad, pod(name="mnist-2-b", ready=True), of=deployment(wanted=2, updated=2, available=1, **DONE))
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Unhealthy", "CrashLoop", True)
    assert cause(found).endswith("(1 of 2 pods answer)")


def test_a_rollout_that_fails_half_way_is_failed() -> None:
    bad = pod(status(running=RUNNING, restarts=3, last=ended(7)))
    found = told(bad, pod(name="mnist-2-b", ready=True), of=deployment(wanted=2, updated=2, available=1, old=1))
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Failed", "CrashLoop", True)


def test_what_an_autoscaler_adds_does_not_count_against_a_service() -> None:
    scaled = {"managedFields": [{"manager": "kube-controller-manager", "subresource": "scale", "time": ago(21)}]}
    of = deployment(wanted=2, updated=2, available=1, metadata=scaled, **DONE)
    well = pod(name="mnist-2-b", ready=True)
    for new in (pod(CREATING, made=20), pod(status(running=RUNNING), made=20)):
        assert told(new, well, of=of).condition == Condition(
            "Healthy", "Scaling", "1 of 2 pods answer; the autoscaler adds pods"
        )
    assert told(pod(CREATING, made=5), well, of=of).condition.state == "Transitioning"
    crashed = pod(status(running=RUNNING, restarts=3, last=ended(7)), made=20)
    assert told(crashed, well, of=of).condition.state == "Unhealthy"


def test_a_pod_that_was_evicted_is_told_until_another_is_there() -> None:
    gone = pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    found = told(gone)
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Transitioning", "Evicted", False)
    assert "was ended on its node: The node was low on resource: memory." in cause(found)
    assert told(gone, pod(CREATING, name="b")).condition.reason == "RollingOut"
    many = [pod(name=name, phase="Failed", reason="Evicted", message="memory") for name in "abc"]
    found = told(*many, pod(CREATING, name="d"))
    assert (found.condition.state, found.condition.reason, found.hopeless) == ("Failed", "Evicted", True)


# -- who serves --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pods", "sentence"),
    [
        ([pod(CREATING)], "No pod is ready: no revision answers requests now."),
        ([pod(ready=True)], "1 pod of the revision serves."),
        (
            [pod(CREATING), *(pod(name=name, owner="old", revision="r1", ready=True) for name in "ab")],
            "2 pods of revision r1, the one before, go on serving.",
        ),
        (
            [pod(ready=True), pod(name="a", owner="old", revision="r1", ready=True)],
            "1 pod of the revision serves beside 1 pod of revision r1, the one before.",
        ),
        (
            [pod(CREATING), *(pod(name=name, owner="old", revision="r2", ready=True) for name in "ab")],
            "2 pods of the same revision, the one before, go on serving.",
        ),
        (
            [pod(ready=True), pod(name="a", owner="old", revision="r2", ready=True)],
            "1 pod of the revision serves beside 1 pod of the same revision, the one before.",
        ),
    ],
)
def test_who_serves_is_told(pods: list[Object], sentence: str) -> None:
    assert serving(rollout(deployment(), *pods), "r2") == sentence


def test_a_revision_that_serves_after_a_failed_update_is_named() -> None:
    before = [pod(name=name, owner="old", revision="r1", ready=True) for name in "ab"]
    assert serving(rollout(deployment(), pod(CREATING), *before), "r1") == "2 pods of revision r1 go on serving."
    assert serving(rollout(deployment(), pod(CREATING)), "r1") == "No pod is ready: no revision answers requests now."


def test_the_newest_replica_set_is_the_one_with_the_deployments_number() -> None:
    old, new = replica_set(1, "old"), replica_set(2, "new")
    assert newest(deployment(), [old, new]) is new
    assert newest(deployment(metadata={"annotations": {"deployment.kubernetes.io/revision": "3"}}), [old, new]) is None
    assert newest(deployment(metadata={"uid": "other"}), [old, new]) is None


def test_amounts_are_read_and_written_for_people() -> None:
    assert [quantity(text) for text in ("2", "250m", "1.5Gi", "1e3", "2k", "what")] == [
        2,
        0.25,
        1.5 * 1024**3,
        1e3,
        2e3,
        0,
    ]
    assert amount("memory", 256 * 1024**2) == "256 MiB"
    assert amount("cpu", 0.5) == "0.5"


def test_times_of_all_writers_are_read() -> None:
    modern = {"reason": "FailedScheduling", "eventTime": "2026-11-28T00:59:00.123456Z", "firstTimestamp": None}
    assert Event.of(modern).last == moment("2026-11-28T00:59:00Z")
    series = {**modern, "series": {"count": 4, "lastObservedTime": "2026-11-28T00:59:30.5Z"}}
    assert (Event.of(series).count, Event.of(series).last) == (4, moment("2026-11-28T00:59:30Z"))
