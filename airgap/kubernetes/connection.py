"""The API server: requests, kinds of objects and where they are, and errors that say what to do.

The connection is that of Slipway's own provider, in plain JSON: to import the `kubernetes` package takes seconds of a
processor (decision 19). It is imported with the first request, which a preview without changes does not make.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airgap.kubernetes import settings as configuration
from airgap.kubernetes.objects import Kind, Object
from airgap.kubernetes.settings import Settings
from provider.resource import ResourceError

if TYPE_CHECKING:
    from provider.kubernetes.cluster import Cluster
    from provider.kubernetes.kubeconfig import Access

_PATIENCE_SECONDS = 60.0
"""How long an API server that has answered before may be away: it may be starting again."""
_PAUSE_SECONDS = 0.5
_SETTLE_SECONDS = 10.0
"""How long after it came back an API server may refuse what it will allow: it reads rights and namespaces first."""

_NOT_READY = "not yet ready to handle request"
"""How a refusal ends whose reason is that the server has just started."""

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
JSON = "application/json"

Query = Sequence[tuple[str, str]]


class UnreachableError(ResourceError):
    """The cluster does not answer, or there is none."""


class NoSuchKindError(ResourceError):
    """The cluster has no such kind of object."""


class ApiError(ResourceError):
    """The API server refused."""

    def __init__(self, code: int, status: dict[str, Any]) -> None:
        self.code = code
        self.reason: str = status.get("reason") or ""
        self.message: str = status.get("message") or f"HTTP {code}"
        causes = (status.get("details") or {}).get("causes") or ()
        self.causes = [(c.get("message") or "", c.get("field") or "") for c in causes]
        super().__init__(self.message)

    @property
    def not_found(self) -> bool:
        return self.code == 404

    @property
    def conflict(self) -> bool:
        """Whether somebody else owns a field that was to be applied."""
        return self.code == 409 and self.reason == "Conflict"

    @property
    def already_exists(self) -> bool:
        return self.reason == "AlreadyExists"


class Connection:
    """The API server of one set of settings. May be used from several threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.namespace = configuration.default_namespace(settings)
        self._lock = threading.Lock()
        self._cluster: Cluster | None = None
        self._answered = False
        self._away_until = 0.0
        self._kinds: dict[Kind, tuple[str, bool]] = {}

    def request(
        self, method: str, path: str, query: Query = (), body: Any = None, content_type: str = JSON
    ) -> dict[str, Any]:
        """What the server answers. Raises `ApiError`, `UnreachableError`.

        One that has answered before is given time to come back: no request here does harm when it is sent twice."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                answer = self._attempt(method, path, query, body, content_type)
            except UnreachableError:
                if not self._answered or time.monotonic() > deadline:
                    raise
                self._away_until = time.monotonic() + _SETTLE_SECONDS
            except ApiError as error:
                if error.code != 403 or time.monotonic() > self._away_until:
                    raise
            else:
                self._answered = True
                return answer
            time.sleep(_PAUSE_SECONDS)

    def _attempt(self, method: str, path: str, query: Query, body: Any, content_type: str) -> dict[str, Any]:
        from provider.kubernetes.cluster import ClusterError
        from provider.kubernetes.kubeconfig import KubeconfigError

        cluster = self._connected()
        text = None if body is None else json.dumps(body).encode()
        try:
            response = cluster.attempt(method, path, query, text, content_type)
        except (ClusterError, KubeconfigError) as error:
            raise UnreachableError(str(error)) from None
        answer = response.document()
        if response.busy or response.message.endswith(_NOT_READY):
            raise UnreachableError(f"the API server is busy or starting: {response.message}")
        if response.status == 401:
            cluster.log_out()
            raise UnreachableError(cluster.not_logged_in())
        if response.status >= 300:
            raise ApiError(response.status, answer or {"message": response.message})
        if not answer:
            raise UnreachableError(
                f"what answers at {cluster.access.server} is no API server of Kubernetes. It is the server of "
                f"{cluster.access.origin}"
            )
        return answer

    def _connected(self) -> Cluster:
        from provider.kubernetes.cluster import Cluster

        with self._lock:
            if self._cluster is None:
                self._cluster = Cluster(_access(self.settings))
            return self._cluster

    def path(self, kind: Kind, namespace: str, name: str = "") -> str:
        """The path of an object, or of all of its kind. Raises `NoSuchKindError`."""
        plural, namespaced = self._known(kind)
        steps = ["", *_root(kind)]
        if namespaced:
            steps += ["namespaces", namespace or self.namespace]
        return "/".join([*steps, plural, name] if name else [*steps, plural])

    def namespaced(self, kind: Kind) -> bool:
        """Whether objects of this kind are in a namespace. Where only the cluster knows, and it does not: yes."""
        if kind.cluster_wide is not None:
            return not kind.cluster_wide
        try:
            return self._known(kind)[1]
        except (NoSuchKindError, UnreachableError):
            return True

    def exists(self, kind: Kind) -> bool:
        """Whether the cluster has this kind. Raises `UnreachableError`."""
        try:
            self._known(kind)
        except NoSuchKindError:
            return False
        return True

    def _known(self, kind: Kind) -> tuple[str, bool]:
        """The plural of a kind, and whether it is in a namespace."""
        if kind not in self._kinds:
            path = "/".join(["", *_root(kind)])
            try:
                found = self.request("GET", path).get("resources") or ()
            except ApiError as error:
                if not error.not_found:
                    raise
                found = ()
            for resource in found:
                if "/" not in resource["name"]:
                    known = Kind(kind.api_version, resource["kind"])
                    self._kinds[known] = resource["name"], bool(resource["namespaced"])
        if kind not in self._kinds:
            raise NoSuchKindError(
                f"the cluster has no {kind.name} in {kind.api_version}. Where it is a custom resource, its "
                "CustomResourceDefinition comes first (depends_on); else name a version that the cluster has: "
                "kubectl api-resources"
            )
        return self._kinds[kind]

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object as it is now; None where there is none."""
        try:
            return self.request("GET", self.path(kind, namespace, name))
        except ApiError as error:
            if error.not_found:
                return None
            raise

    def list(self, kind: Kind, namespace: str, query: Query = ()) -> list[Object]:
        """The objects of a kind."""
        items: list[Object] = self.request("GET", self.path(kind, namespace), query).get("items") or []
        return items


def _root(kind: Kind) -> list[str]:
    return ["apis", *kind.api_version.split("/")] if kind.group else ["api", kind.api_version]


def _access(settings: Settings) -> Access:
    """The cluster that is meant. Raises `UnreachableError` where none is named."""
    from provider.kubernetes.kubeconfig import Document, KubeconfigError, chosen, in_a_pod, read

    kubeconfig = configuration.load(settings)
    _, cluster = configuration.active(kubeconfig, settings)
    try:
        if cluster:
            documents = [read(file) for file in settings.files if file.is_file()]
            if configuration.is_content(settings.kubeconfig):
                documents = [Document("the provider's setting kubeconfig", kubeconfig)]
            return chosen(documents, settings.context or None, settings.cluster or None)
        if not settings.context and "KUBERNETES_SERVICE_HOST" in os.environ:
            return in_a_pod(os.environ)
    except KubeconfigError as error:
        raise UnreachableError(str(error)) from None
    raise UnreachableError(_no_cluster(kubeconfig, settings))


def _no_cluster(kubeconfig: dict[str, Any], settings: Settings) -> str:
    names = sorted(str(entry.get("name")) for entry in kubeconfig.get("contexts") or ())
    files = ", ".join(str(file) for file in settings.files)
    if settings.context and names:
        return f"there is no context {settings.context!r} in {files}; it has {', '.join(names)}"
    if names:
        return f"{files} has no current context; choose one of {', '.join(names)}: kubectl config use-context NAME"
    return f"no cluster is named: {files} has no context. Name a kubeconfig in KUBECONFIG."
