"""Sends requests to a registry: authentication, redirects, and a new attempt where one may help.

What a request means, and which answers are right, is decided in `repository`, `upload` and `download`.
"""

from __future__ import annotations

import socket
import ssl
import urllib.request
from collections.abc import Callable, Collection, Mapping
from typing import Any, BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as SlowError

from provider.content.watch import Watch
from provider.registry.address import Address, is_loopback
from provider.registry.answers import Answer, failure
from provider.registry.auth import Authorizer, Credentials
from provider.registry.errors import RegistryDeniedError, RegistryError
from provider.registry.patience import Attempts, Interrupted, Patience

_BUFFER_BYTES = 1024 * 1024
_LARGEST_DOCUMENT = 4 * 1024 * 1024  # what the specification has registries take for a manifest
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_AGENT = "slipway"

Response = urllib3.BaseHTTPResponse
Body = bytes | Callable[[], BinaryIO] | None
"""What is sent; a function opens it anew for each attempt."""
Dial = Callable[[], socket.socket]
"""Makes a connection to the registry. Raises `Interrupted` and `RegistryError`."""


class Transport:
    """The connections to one registry. Safe for several threads."""

    def __init__(
        self,
        address: Address,
        credentials: Credentials | None,
        *,
        ca_certificate: str | None,
        patience: Patience,
        watch: Watch,
        connections: int,
        dial: Dial | None = None,
    ) -> None:
        """`dial`: makes the connections, where the address is not reached from here."""
        if credentials is not None and not address.is_encrypted and not address.is_loopback:
            raise RegistryDeniedError(
                f"the password for {address.host} would be readable on the network; give the registry TLS, and its "
                f"address with https://"
            )
        self.address = address
        self.patience = patience
        self.watch = watch
        self._origin = _origin(address.url)
        self._credentials = credentials
        self._pool = _pool(address, ca_certificate, connections, patience)
        if dial is not None:
            self._pool.pool_classes_by_scheme = {**self._pool.pool_classes_by_scheme, "http": _over(dial)}
        self._authorizer = Authorizer(address.host, credentials, encrypted=address.is_encrypted, fetch=self._fetch)

    @property
    def host(self) -> str:
        """For an error."""
        return self.address.host

    def attempts(self, doing: str) -> Attempts:
        """A count of attempts. `doing` reads on from "could not"."""
        return Attempts(self.patience, self.watch, self.host, doing)

    def call(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        doing: str,
        expect: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: Body = None,
    ) -> Answer:
        """One of the answers in `expect`, tried several times where that may help. `url`: relative to the registry.

        Raises `RegistryError` with what `doing` says."""
        attempts = self.attempts(doing)
        while True:
            try:
                answer = self.send(method, url, scope=scope, headers=headers, body=body)
                if answer.status in expect:
                    return answer
                self.refuse(answer, doing)
            except Interrupted as interrupted:
                attempts.pause(interrupted)

    def refuse(self, answer: Answer, doing: str) -> None:
        """Raises what an answer that was not expected means: `Interrupted` where another attempt may help."""
        if answer.is_retried:
            raise Interrupted(f"answered {answer.said()}", answer.seconds_to_wait())
        raise failure(answer, doing=doing, host=self.host, who=self._authorizer.who)

    def send(
        self, method: str, url: str, *, scope: str, headers: Mapping[str, str] | None = None, body: Body = None
    ) -> Answer:
        """The answer to a single attempt, whatever it is. Raises `Interrupted` where there is none."""
        return self.read(self.open(method, url, scope=scope, headers=headers, body=body))

    def read(self, response: Response) -> Answer:
        """A response with its body, which is a document rather than a blob."""
        try:
            body = response.read(_LARGEST_DOCUMENT + 1)
        except HTTPError as error:
            response.close()
            raise self._interrupted(error) from error
        if len(body) > _LARGEST_DOCUMENT:
            response.close()
            raise RegistryError(
                f"the registry {self.host} answered {response.status} with more than {_LARGEST_DOCUMENT} bytes; check "
                f"that its address is right"
            )
        return Answer(response.status, response.headers, body)

    def open(
        self, method: str, url: str, *, scope: str, headers: Mapping[str, str] | None = None, body: Body = None
    ) -> Response:
        """A response whose body is still to be read. Raises `Interrupted`."""
        url = urljoin(self.address.url, url)
        response = self._open_once(method, url, scope, headers, body)
        for _ in range(_MOST_REDIRECTS):
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.drain_conn()
            target = urljoin(url, location)
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
                raise RegistryError(
                    f"the registry {self.host} sends on to {urlsplit(target).netloc} without TLS; have it "
                    f"answer over https"
                )
            url = target
            response = self._open_once(method, url, scope, headers, body)
        response.close()
        raise RegistryError(f"the registry {self.host} sends in circles; check that its address is right")

    def _open_once(self, method: str, url: str, scope: str, headers: Mapping[str, str] | None, body: Body) -> Response:
        """Credentials go to the registry alone: where a redirect or an upload leads elsewhere, its URL has to do."""
        ours = _origin(url) == self._origin
        authorization = self._authorizer.header(scope) if ours else None
        response = self._exchange(method, url, _with(headers, authorization), body)
        if response.status != 401 or not ours:
            return response
        challenge = ", ".join(response.headers.getlist("WWW-Authenticate"))
        response.drain_conn()
        self._authorizer.answer(challenge, scope, authorization)
        return self._exchange(method, url, _with(headers, self._authorizer.header(scope)), body)

    def _exchange(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> Response:
        opened = body() if callable(body) else body
        try:
            return self._pool.urlopen(
                method,
                url,
                redirect=False,
                retries=False,
                headers={"User-Agent": _AGENT, **headers},
                body=opened,
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, OSError) as error:
            raise self._interrupted(error) from error
        finally:
            if opened is not None and not isinstance(opened, bytes):
                opened.close()

    def _fetch(self, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        """For the authorizer: a token server's answer."""
        answer = self.read(self._exchange("GET" if body is None else "POST", url, headers, body))
        if answer.is_retried:
            raise Interrupted(f"has a token server that answered {answer.said()}", answer.seconds_to_wait())
        return answer.status, answer.body

    def _interrupted(self, error: Exception) -> Interrupted:
        """What happened to a connection, without the URL: that of an upload may hold a signature."""
        if isinstance(error, SSLError) and _is_final(error):
            said = _last_words(error)
            raise RegistryError(
                f"the registry {self.host} and this machine do not agree on TLS: {said}; {_remedy(said)}"
            ) from error
        if isinstance(error, NewConnectionError):
            return Interrupted(f"cannot be reached ({_last_words(error)})")
        if isinstance(error, (SlowError, TimeoutError)):
            return Interrupted(f"did not answer within {self.patience.answer:g} s")
        return Interrupted("closed the connection")


def _over(dial: Dial) -> type[urllib3.HTTPConnectionPool]:
    """A pool of connections that `dial` makes."""

    class Connection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return dial()

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    return Pool


def _pool(address: Address, ca_certificate: str | None, connections: int, patience: Patience) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "maxsize": connections,
        "blocksize": _BUFFER_BYTES,
        "timeout": urllib3.Timeout(connect=patience.connect, read=patience.answer),
    }
    if address.is_encrypted:
        options["ssl_context"] = _tls(address, ca_certificate)
    # The system's proxy settings, as other programs follow them; never for this machine itself.
    host = urlsplit(address.url).hostname or ""
    proxy = urllib.request.getproxies().get(address.scheme)
    if proxy is None or is_loopback(host) or urllib.request.proxy_bypass(host):
        return urllib3.PoolManager(**options)
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=user)
    return urllib3.ProxyManager(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", **options)


def _tls(address: Address, ca_certificate: str | None) -> ssl.SSLContext:
    try:
        if ca_certificate is None:
            return ssl.create_default_context()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=ca_certificate)
    except (OSError, ValueError, TypeError):  # an SSLError is an OSError; a TypeError tells of other than ASCII
        raise RegistryError(
            f"the certificate of the authority of {address.host} is none that can be read; give it in PEM, from "
            f"-----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"
        ) from None
    return context


def _with(headers: Mapping[str, str] | None, authorization: str | None) -> dict[str, str]:
    more = {} if authorization is None else {"Authorization": authorization}
    return {**(headers or {}), **more}


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _is_final(error: SSLError) -> bool:
    """Whether the two sides disagree, rather than the connection having broken."""
    text = str(error).upper()
    return "CERTIFICATE" in text or "WRONG_VERSION" in text or "MISMATCH" in text or "ALERT" in text


def _remedy(said: str) -> str:
    """What to do where two sides do not agree on TLS."""
    if "expired" in said or "not yet valid" in said:
        return "renew its certificate, or set this machine's clock right"
    return "give the certificate of its authority, or the address with http:// where it has no TLS"


def _last_words(error: BaseException) -> str:
    """The innermost cause's own words."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rpartition(": ")[2]
