"""What is wrong with one container of a pod, by what the kubelet says of it. Pure.

What is known to be wrong is told at once: an image that the registry does not have, a process that took more memory
than it may, a server that says that it cannot start. What often mends itself (a registry that does not answer, a secret
that is about to be made) is given a short while. One crash may be the last; the second one is a loop.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from provider.condition import Cause, Condition
from provider.container.facts import COULD_NOT_START, init_error, traceback_of
from provider.kubernetes.objects import GRACE_SECONDS, Event, Object, Verdict, latest, moment, part, seconds_since

_LOOP = 2
"""Crashes from which on a container is in a loop."""
_FORGIVEN_SECONDS = 600.0
"""A container that ran that long begins anew, in the kubelet's eyes too."""
_PULL = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_SECRET_SECONDS = 30.0
"""How long a pull secret that the node cannot read is waited for: until the kubelet's second try, 10 s after its first,
has been made."""
_LOG_HINT = "the last log lines say what the process did"


@dataclass(frozen=True)
class Seen:
    """One container at one moment."""

    pod: str
    spec: Object
    """Its part of the pod's specification."""
    status: Object
    """Its part of the pod's status; empty before the kubelet has taken it on."""
    log: Sequence[str]
    """Its last lines; of the process that ended, where one did."""
    events: Sequence[Event]
    """The pod's."""
    began: datetime | None
    """When the pod was made."""
    now: datetime
    alone: bool = True
    """Whether it is the pod's only one."""
    unread: str = ""
    """Why its log could not be read."""

    @property
    def name(self) -> str:
        """The container, for people."""
        return f"the pod {self.pod}" if self.alone else f"the container {self.spec['name']} of the pod {self.pod}"

    @property
    def image(self) -> str:
        return str(self.spec.get("image") or "")

    @property
    def waiting(self) -> Object:
        """What it waits for; empty where it does not."""
        return part(self.status, "state", "waiting") or {}

    @property
    def ended(self) -> Object:
        """How its process ended last; empty where none did."""
        return part(self.status, "state", "terminated") or part(self.status, "lastState", "terminated") or {}

    @property
    def crashes(self) -> int:
        """How often its process ended."""
        restarts = int(self.status.get("restartCount") or 0)
        return restarts + (1 if self.ended and part(self.status, "state", "running") is None else 0)

    def about(self, *reasons: str, containing: str = "", until: datetime | None = None) -> Event | None:
        """The latest event of this container, or of its pod as a whole; where there is one, the latest `until` then."""
        mine = [event for event in self.events if not event.field or f"{{{self.spec['name']}}}" in event.field]
        before = [event for event in mine if until is None or event.last is None or event.last <= until]
        return latest(before, *reasons, containing=containing) or latest(mine, *reasons, containing=containing)


def trouble(seen: Seen) -> Verdict | None:
    """What is wrong with a container; None where nothing is known to be."""
    reason = str(seen.waiting.get("reason") or "")
    if reason in _PULL:
        return _not_pulled(seen, reason)
    if reason == "CreateContainerConfigError":
        return _misconfigured(seen)
    if reason in ("CreateContainerError", "RunContainerError", "PreStartHookError", "PostStartHookError"):
        return _not_started(seen, str(seen.waiting.get("message") or reason))
    if seen.status.get("ready"):
        return None
    return _being_ended(seen) or (_crashed(seen) if seen.ended and not _forgiven(seen) else None)


def _given(seen: Seen, since: datetime | None, cause: Cause, seconds: float = GRACE_SECONDS) -> Verdict:
    """A cause that is given a short while from `since` on."""
    since = since or seen.began
    if seconds_since(since, seen.now) > seconds:
        return Verdict(Condition("Failed", cause.reason, cause.message, cause), True, since)
    return Verdict(Condition("Transitioning", cause.reason, cause.message, cause), False, since)


def _failed(cause: Cause, at: datetime | None) -> Verdict:
    return Verdict(Condition("Failed", cause.reason, cause.message, cause), True, at)


# -- images ----------------------------------------------------------------------------------------------------------

_NO_SUCH_IMAGE = re.compile(r"not found|manifest unknown|name unknown|does not exist|no match for platform", re.I)
_NO_RIGHT = re.compile(r"unauthorized|authorization failed|access denied|\bdenied\b|forbidden|no basic auth", re.I)
_NO_TLS = re.compile(r"server gave HTTP response to HTTPS client|x509|certificate", re.I)


def _not_pulled(seen: Seen, reason: str) -> Verdict:
    event = seen.about("Failed", containing="pull image")
    said = str(seen.waiting.get("message") or reason)
    if "rpc error" not in said and event is not None:
        said = event.message
    if reason == "InvalidImageName":
        message = f"the image name {seen.image} is not valid"
        return _failed(Cause("InvalidImageName", message, hint="mend the image's name"), seen.began)
    if reason == "ErrImageNeverPull":
        message = f"the image {seen.image} is not on the node, and may not be pulled (imagePullPolicy: Never)"
        return _failed(
            Cause("ImagePullFailed", message, hint="load the image into the nodes, or let it be pulled"), None
        )
    words = in_the_registrys_words(said)
    lacking = _NO_SUCH_IMAGE.search(words) is not None
    denied = _NO_RIGHT.search(words) is not None
    cause = Cause("ImagePullFailed", f"the image {seen.image} cannot be pulled: {words}", hint=_pull_hint(words))
    since = event.first if event is not None else None
    if denied and (unread := _unread_pull_secret(seen, event)):
        # The kubelet then asks without credentials; so it does where its copy of a new secret is late, too.
        message = f"the image {seen.image} cannot be pulled: {unread}"
        hint = "run `pulumi up --refresh`: a pull secret that is missing is made again"
        return _given(seen, since, Cause("ImagePullFailed", message, hint=hint), _SECRET_SECONDS)
    if lacking or denied:
        return _failed(cause, event.last if event is not None else seen.began)
    return _given(seen, since, cause)


def _unread_pull_secret(seen: Seen, pull: Event | None) -> str:
    """What the kubelet said of pull secrets that it could not read for the last `pull`; empty where it could."""
    found = latest(seen.events, "FailedToRetrieveImagePullSecret")
    if found is None:
        return ""
    later = None if pull is None or pull.last is None or found.last is None else pull.last - found.last
    return found.message if later is None or later.total_seconds() < GRACE_SECONDS / 2 else ""


def _pull_hint(words: str) -> str:
    if _NO_RIGHT.search(words):
        return "give the target an image pull secret whose user may read that repository"
    if "no match for platform" in words:
        return "the image is made for another processor than the node's: build it for the node's platform"
    if _NO_SUCH_IMAGE.search(words):
        return "run `pulumi up --refresh`: the image is pushed again; or mend its name"
    if _NO_TLS.search(words):
        return "the nodes do not trust the registry's TLS, or it has none: tell the nodes' container runtime about it"
    return "see that the nodes can reach the registry under that very name"


def in_the_registrys_words(said: str) -> str:
    """A message about a pull without what the kubelet and the container runtime put before the registry's own."""
    text = said.rpartition(" desc = ")[2] if " desc = " in said else said
    text = re.sub(
        r'failed to (?:pull and unpack image|resolve reference|pull image|copy|do request) "[^"]*": ', "", text
    )
    text = re.sub(r'^(?:Back-off pulling image "[^"]*": )?(?:ErrImagePull: )?', "", text)
    return text.strip() or said


# -- what keeps it from starting ---------------------------------------------------------------------------------------


def _misconfigured(seen: Seen) -> Verdict:
    said = str(seen.waiting.get("message") or "its configuration cannot be used")
    hint = "run `pulumi up --refresh`: what is missing is made again"
    if "non-root" in said or "runAsNonRoot" in said:
        hint = "the image must name a user other than root, by its number"
    cause = Cause("ConfigurationMissing", f"{seen.name} cannot be started: {said}", hint=hint)
    event = seen.about("Failed", containing=said[:60])
    return _given(seen, event.first if event is not None else None, cause)


def _not_started(seen: Seen, said: str) -> Verdict:
    cause = Cause(
        "NotStarted",
        f"{seen.name} cannot be started: {_shortened(said)}",
        exit_code=seen.ended.get("exitCode"),
        log=tuple(seen.log),
        hint="mend the image or the command: what it should run cannot be run",
    )
    if seen.crashes:
        return _failed(cause, moment(seen.ended.get("finishedAt")))
    event = seen.about("Failed")
    return _given(seen, event.first if event is not None else None, cause)


def _shortened(said: str) -> str:
    text = said.rpartition(" desc = ")[2] if " desc = " in said else said
    text = re.sub(r"failed to create (?:containerd task|shim task|shim): ", "", text)
    return re.sub(r"OCI runtime create failed: ", "", text).strip() or said


def not_set_up(pod: str, events: Sequence[Event], began: datetime | None, now: datetime) -> Verdict | None:
    """What keeps a pod whose containers are not made yet: a volume that cannot be mounted, or the network."""
    event = latest(events, "FailedMount", "FailedAttachVolume")
    if event is not None:
        cause = Cause(
            "MountFailed",
            f"a volume of the pod {pod} cannot be mounted: {event.message}",
            hint="run `pulumi up --refresh`: a secret or config map that is missing is made again",
        )
    else:
        event = latest(events, "FailedCreatePodSandBox")
        if event is None:
            return None
        cause = Cause(
            "SandboxFailed",
            f"the node cannot set the pod {pod} up: {_shortened(event.message)}",
            hint="see the node's network plugin and container runtime: kubectl describe node",
        )
        return Verdict(Condition("Transitioning", cause.reason, cause.message, cause), False, event.last)
    if "not found" in event.message and seconds_since(event.first or began, now) > GRACE_SECONDS:
        return _failed(cause, event.last)
    return Verdict(Condition("Transitioning", cause.reason, cause.message, cause), False, event.last)


# -- what ends it ------------------------------------------------------------------------------------------------------


def _forgiven(seen: Seen) -> bool:
    """Whether a process that runs again has run for so long that how its forerunner ended no longer matters."""
    running = part(seen.status, "state", "running")
    return running is not None and seconds_since(moment(running.get("startedAt")), seen.now) > _FORGIVEN_SECONDS


def _being_ended(seen: Seen) -> Verdict | None:
    """A process that a probe has given up: it may take its time to end."""
    began = moment(part(seen.status, "state", "running", "startedAt"))
    if began is None:
        return None
    # The last one may have been ended in the second in which this one began.
    return _by_a_probe(seen, began + timedelta(seconds=1), seen.crashes + 1)


def _crashed(seen: Seen) -> Verdict | None:
    ended = seen.ended
    code, at = int(ended.get("exitCode") or 0), moment(ended.get("finishedAt"))
    if ended.get("reason") == "OOMKilled":
        return _failed(_out_of_memory(seen, code), at)
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        return _not_started(seen, str(ended.get("message") or ended["reason"]))
    if (killed := _by_a_probe(seen, moment(ended.get("startedAt")), seen.crashes)) is not None:
        return killed
    if code == COULD_NOT_START:
        return _failed(_hinted(seen, init_error(seen.log)), at)
    if seen.crashes >= _LOOP:
        message = f"{seen.name} ended {_times(seen.crashes)}, the last time with exit code {code}"
        return _failed(_of_a_process(seen, "CrashLoop", message, code), at)
    cause = _of_a_process(seen, "Crashed", f"{seen.name} ended with exit code {code}", code)
    return Verdict(Condition("Transitioning", "Restarting", f"{cause.message}, and is started again", cause), False, at)


def _times(number: int) -> str:
    return "twice" if number == 2 else f"{number} times"


def _of_a_process(seen: Seen, reason: str, message: str, code: int) -> Cause:
    cause = Cause(
        reason, message, exit_code=code, traceback=traceback_of(seen.log), log=tuple(seen.log), hint=_LOG_HINT
    )
    return _hinted(seen, cause)


def _hinted(seen: Seen, cause: Cause) -> Cause:
    """The cause; with why there is no log, where it could not be read."""
    if not seen.unread:
        return cause
    return Cause(
        cause.reason, cause.message, exit_code=cause.exit_code, hint=f"its log could not be read: {seen.unread}"
    )


def _out_of_memory(seen: Seen, code: int) -> Cause:
    limit = part(seen.spec, "resources", "limits", "memory")
    return Cause(
        "OutOfMemory",
        f"{seen.name} was ended for taking more than its memory{'' if limit is None else f' of {limit}'}",
        exit_code=code,
        out_of_memory=True,
        log=tuple(seen.log),
        hint="raise memoryInGBLimit of the deployment, or load a smaller model",
    )


def _by_a_probe(seen: Seen, began: datetime | None, crashes: int) -> Verdict | None:
    """What a process that began then is ended for, where a probe is why; for the time that `crashes` says."""
    for kind, reason, hint in (
        ("startup", "StartupTimeout", "make init() faster, or raise the service's startup timeout"),
        ("liveness", "ProbeFailed", "the process hangs: look for a deadlock or an endless loop in run()"),
    ):
        event = seen.about("Killing", containing=f"failed {kind} probe")
        if event is None or (began is not None and event.last is not None and event.last < began):
            continue
        # Not what the next process said to it.
        said = seen.about("Unhealthy", containing=f"{kind.capitalize()} probe failed", until=event.last)
        words = said.message if said is not None else f"{kind} probe failed"
        cause = Cause(
            reason, f"{seen.name} was ended, since its {words[:1].lower()}{words[1:]}", log=tuple(seen.log), hint=hint
        )
        if kind == "startup" or crashes >= _LOOP:
            return _failed(cause, event.last)
        return Verdict(Condition("Unhealthy", reason, cause.message, cause), False, event.last)
    return None
