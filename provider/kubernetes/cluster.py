"""A cluster's API server: the few things that the provider asks of it, with errors for people.

The connection is the map `cluster` of a resource: `kubeconfig` (a path) and `context`. Plain requests and plain JSON.
All of it blocks; call it in a thread. An API server that has answered before is given a minute to come back: it may be
starting again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import ssl
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

from provider.kubernetes.kubeconfig import Access, Login, find
from provider.resource import Failure, ResourceError
from provider.values import UNKNOWN, Properties

if TYPE_CHECKING:
    import urllib3

Object = Mapping[str, Any]
"""An object of the API, as it is in JSON."""
Query = Sequence[tuple[str, str]]
T = TypeVar("T")

RIGHTS = 'see "Rights that are needed" in docs/kubernetes.md'
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.5
_SETTLE_SECONDS = 10.0
"""How long after it came back an API server may refuse what it will allow: it reads the rights first."""
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_CONNECTIONS = 16
_HAS_MEMORY_FILES = hasattr(os, "memfd_create")
_JSON = "application/json"
_BUSY = frozenset({429, 502, 503, 504})
_STORAGE_AWAY = re.compile(r"etcdserver: |rpc error: code = (?:Unavailable|DeadlineExceeded)|context deadline exceeded")
"""What an API server says first, with a plain 500, whose own store does not answer in time."""
_REFUSED = re.compile(r'(?:User "(?P<user>[^"]*)" )?cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"')


class ClusterError(ResourceError):
    """The cluster cannot be asked, or refused. The message says what to do."""


class AwayError(ClusterError):
    """The API server does not answer, which may pass."""


class SlowError(AwayError):
    """The API server was reached, and gave no answer in time."""


class LoginError(ClusterError):
    """The API server does not accept the kubeconfig's credentials."""


class ForbiddenError(ClusterError):
    """Whoever asks has no right to."""


class ApiError(ClusterError):
    """Any other refusal of the API server."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Response:
    """An answer as it came."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes

    def document(self) -> dict[str, Any]:
        """The body as a JSON object; empty where it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def by_the_server(self) -> bool:
        """Whether the API server speaks for itself, rather than for what it was to pass the request on to."""
        return self.document().get("kind") == "Status"

    @property
    def busy(self) -> bool:
        """Whether the server cannot answer now, which may pass."""
        return is_busy(self.status, self.message)

    @property
    def message(self) -> str:
        """What it says went wrong."""
        text = self.document().get("message") or " ".join(self.body.decode("utf-8", "replace").split())[:300]
        return str(text or f"HTTP {self.status}")


def is_busy(status: int, message: str) -> bool:
    """Whether an answer of the API server means that it, or its store, cannot answer now."""
    return status in _BUSY or (status == 500 and _STORAGE_AWAY.match(message) is not None)


def check_cluster(cluster: Any) -> list[Failure]:
    """What is wrong with a resource's input `cluster`."""
    if cluster is UNKNOWN:
        return []
    failures = [
        Failure(f"cluster.{name}", "is not known; a cluster has kubeconfig and context")
        for name in cluster
        if name not in ("kubeconfig", "context")
    ]
    return failures + [
        Failure(f"cluster.{name}", f"must be a {what}, not {value!r}")
        for name, what in (("kubeconfig", "path"), ("context", "name"))
        if (value := cluster.get(name)) is not None and value is not UNKNOWN and not (isinstance(value, str) and value)
    ]


_lock = threading.Lock()
_clusters: dict[tuple[str | None, str | None, str], Cluster] = {}


def cluster_of(spec: Properties) -> Cluster:
    """The cluster of a resource's input `cluster`; one connection a process. Raises `KubeconfigError`."""
    key = (spec.get("kubeconfig"), spec.get("context"), os.environ.get("KUBECONFIG", ""))
    with _lock:
        if key not in _clusters:
            _clusters[key] = Cluster(find(key[0], key[1]))
        return _clusters[key]


class Cluster:
    """A connection to an API server; may be used from several threads. Raises `ClusterError` and, where a login fails,
    `KubeconfigError` from every method."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._lock = threading.Lock()
        self._login: Login | None = None
        self._pool: urllib3.PoolManager | None = None
        self._answered = False
        self._away_until = 0.0
        self._ahead = 0.0

    def now(self) -> datetime:
        """The time by the API server's clock, as far as it has answered yet."""
        return datetime.fromtimestamp(time.time() + self._ahead, UTC)

    # -- requests ----------------------------------------------------------------------------------------------------

    def get(self, path: str, query: Query = ()) -> dict[str, Any]:
        """The object at `path`."""
        return self._patient("GET", path, query).document()

    def find(self, path: str) -> dict[str, Any] | None:
        """The object at `path`; None where there is none."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def items(self, path: str, query: Query = ()) -> list[dict[str, Any]]:
        """The objects of a list."""
        found = self.get(path, query).get("items") or []
        return [item for item in found if isinstance(item, dict)]

    def text(self, path: str, query: Query = ()) -> str:
        """A text, such as a log."""
        return self._patient("GET", path, query).body.decode("utf-8", "replace")

    def delete(self, path: str) -> None:
        """Deletes the object at `path`; one that is gone is no error."""
        try:
            self._patient("DELETE", path)
        except ApiError as error:
            if error.code != 404:
                raise

    def merge(self, path: str, patch: Object) -> None:
        """Changes members of the object at `path`."""
        body = json.dumps(patch).encode()
        self._patient("PATCH", path, body=body, content_type="application/merge-patch+json")

    def apply(self, path: str, wanted: Object) -> None:
        """Makes the object at `path`, or makes it what is wanted: by server-side apply, as `slipway`."""
        query = [("fieldManager", "slipway"), ("force", "true")]
        body = json.dumps(wanted).encode()
        self._patient("PATCH", path, query, body=body, content_type="application/apply-patch+yaml")

    def passed_on(self, path: str, seconds: float) -> Response:
        """The answer of what the API server passes the request on to (`.../proxy/...`), whatever it is."""
        response = self._patient("GET", path, seconds=seconds, through=True)
        if response.by_the_server:
            self._refuse(response, "GET", path)
        return response

    def _patient(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: bytes | None = None,
        content_type: str = _JSON,
        seconds: float = _ANSWER_SECONDS,
        through: bool = False,
    ) -> Response:
        def attempt() -> Response:
            response = self.attempt(method, path, query, body, content_type, seconds)
            if not through:
                self._refuse(response, method, path)
            return response

        return self.patiently(attempt, slow_is_away=not through)  # what it was passed on to may be slow

    def patiently(self, attempt: Callable[[], T], *, slow_is_away: bool = True) -> T:
        """What `attempt` gives, tried again for a while where the API server is away: nothing here does harm twice."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                given = attempt()
            except AwayError as error:
                if isinstance(error, SlowError) and not slow_is_away:
                    raise
                self._away_until = time.monotonic() + _SETTLE_SECONDS
                if not self._answered or time.monotonic() > deadline:
                    raise
            except (ForbiddenError, LoginError):
                if time.monotonic() > self._away_until:
                    raise
            else:
                self._answered = True
                return given
            time.sleep(_PAUSE_SECONDS)

    def attempt(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: bytes | None = None,
        content_type: str = _JSON,
        seconds: float = _ANSWER_SECONDS,
    ) -> Response:
        """The answer to one request, whatever it is. Raises `AwayError`."""
        import urllib3
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        pool, login = self.session()
        headers = urllib3.HTTPHeaderDict(login.headers)
        headers["accept"] = f"{_JSON}, */*"
        if body is not None:
            headers["content-type"] = content_type
        url = f"{self.access.server}{path}" + (f"?{urlencode(query)}" if query else "")
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=seconds)
        try:
            answer = pool.request(method, url, body=body, headers=headers, timeout=timeout)
            fields = {name.lower(): value for name, value in answer.headers.items()}
            response = Response(answer.status, fields, answer.data)
        except ReadTimeoutError:
            raise SlowError(f"{self._named()} did not answer {method} {path} in time") from None
        except (HTTPError, OSError, ValueError) as error:
            raise AwayError(self.unreachable(error)) from None
        self._set_clock(response)
        return response

    def _set_clock(self, response: Response) -> None:
        with contextlib.suppress(ValueError, TypeError):
            told = parsedate_to_datetime(response.headers.get("date", ""))
            self._ahead = told.timestamp() - time.time()

    def _refuse(self, response: Response, method: str, path: str) -> None:
        if response.status < 300:
            return
        if response.status == 401:
            self.log_out()
            raise LoginError(self.not_logged_in())
        if response.status == 403 and (found := _REFUSED.search(response.message)) is not None:
            raise ForbiddenError(self._forbidden(found, path))
        if response.status == 403:
            raise ForbiddenError(f"{method} {path} is refused by {self._named()}: {response.message}")
        if response.busy:
            raise AwayError(f"{self._named()} is busy or starting: {response.message}")
        if not response.by_the_server:
            raise ApiError(
                f"what answers at {self.access.server} is no API server of Kubernetes: {response.message}. "
                f"It is the server of {self.access.origin}",
                response.status,
            )
        raise ApiError(f"{self._named()} refused {method} {path}: {response.message}", response.status)

    # -- errors ------------------------------------------------------------------------------------------------------

    def _named(self) -> str:
        return f"the cluster at {self.access.server}"

    def _forbidden(self, found: re.Match[str], path: str) -> str:
        space = re.search(r"/namespaces/([^/]+)/", path)
        where = f" in the namespace {space[1]}" if space else ""
        user = found["user"] or "nobody in particular"
        return (
            f"{user} has no right to {found['verb']} {found['resource']}{where} of {self._named()}. Grant it the verb "
            f"{found['verb']} on {found['resource']}: {RIGHTS}"
        )

    def not_logged_in(self) -> str:
        """What a refusal of the credentials means."""
        return (
            f"{self._named()} does not accept the credentials of {self.access.origin}: they have expired, or are those "
            "of another cluster. Log in again, and see that `kubectl get pods` works"
        )

    def unreachable(self, error: BaseException) -> str:
        """What a connection that failed means."""
        inner: BaseException = error
        while isinstance(reason := getattr(inner, "reason", None), BaseException):
            inner = reason
        said = re.sub(r"^\[Errno -?\d+\] ", "", str(inner).rpartition(": ")[2]) or type(inner).__name__
        if isinstance(inner, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return (
                f"{self._named()} shows a certificate that is not trusted: {inner}. The certificate authority of "
                f"{self.access.origin} is another one: is it this cluster's kubeconfig?"
            )
        return (
            f"{self._named()} does not answer: {said}. Is it running, can this machine reach it, and is it the right "
            f"one ({self.access.origin})?"
        )

    # -- connections -------------------------------------------------------------------------------------------------

    def session(self) -> tuple[urllib3.PoolManager, Login]:
        """The connections, with a login that is good. Raises `KubeconfigError`."""
        with self._lock:
            if self._login is None or self._login.stale or self._pool is None:
                login = self.access.login()
                known = self._login
                if self._pool is None or known is None or known.certificate != login.certificate:
                    self._pool = self._connections(login)
                self._login = login
            return self._pool, self._login

    def log_out(self) -> None:
        """Has the next request log in anew: the login was refused."""
        with self._lock:
            self._login = None

    def _connections(self, login: Login) -> urllib3.PoolManager:
        import urllib3  # for those who need it

        options: dict[str, Any] = {"retries": False, "maxsize": _CONNECTIONS}
        if self.access.server.startswith("https://"):
            options["ssl_context"] = self.tls(login)
            if self.access.server_name:
                options["server_hostname"] = options["assert_hostname"] = self.access.server_name
        proxy = self.proxy()
        if proxy is None:
            return urllib3.PoolManager(**options)
        parts = urlsplit(proxy)
        if parts.scheme not in ("http", "https"):
            raise ClusterError(f"the proxy of {self.access.origin} is reached by http or https, not {parts.scheme}")
        if parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=pair)
        return urllib3.ProxyManager(proxy, **options)

    def proxy(self) -> str | None:
        """The proxy on the way to the API server: the kubeconfig's, else the environment's."""
        parts = urlsplit(self.access.server)
        if self.access.proxy is not None:
            return self.access.proxy
        if urllib.request.proxy_bypass(parts.hostname or ""):
            return None
        return urllib.request.getproxies().get(parts.scheme)

    def tls(self, login: Login) -> ssl.SSLContext:
        """How the API server is checked, and shown who asks. Raises `ClusterError`."""
        try:
            authority = self.access.authority
            context = ssl.create_default_context(cadata=authority.decode() if authority else None)
            if not self.access.verify:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if login.certificate is not None:
                _present(context, login)
        except (ssl.SSLError, ValueError) as error:
            raise ClusterError(f"the certificates of {self.access.origin} cannot be used: {error}") from None
        return context


def _present(context: ssl.SSLContext, login: Login) -> None:
    """Has the client's certificate shown. Python takes it from a file alone."""
    with _file((login.certificate or b"") + b"\n" + (login.key or b"")) as name:
        context.load_cert_chain(name)


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[str]:
    """The name of a file with `content`, a secret: in memory where the system has that. It goes with the process then,
    however that ends, and needs no room on a disk."""
    if _HAS_MEMORY_FILES:
        with os.fdopen(os.memfd_create("slipway"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    descriptor, name = tempfile.mkstemp(prefix="slipway-")  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        yield name
    finally:
        Path(name).unlink()


def path_in(namespace: str, *steps: str, group: str = "") -> str:
    """The path of what is in a namespace: `path_in("models", "pods", "a")`; `group` as in `apps/v1`."""
    root = f"/apis/{group}" if group else "/api/v1"
    return "/".join([root, "namespaces", quote(namespace, safe=""), *(quote(step, safe=":") for step in steps)])


__all__ = [
    "ApiError",
    "AwayError",
    "Cluster",
    "ClusterError",
    "ForbiddenError",
    "LoginError",
    "check_cluster",
    "cluster_of",
    "is_busy",
]
