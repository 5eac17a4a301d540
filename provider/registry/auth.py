"""Answers a registry's challenge: basic authentication, or a bearer token from the server that the challenge names.

The rules are those of RFC 9110 (section 11) and of the token authentication of CNCF Distribution
(distribution.github.io/distribution/spec/auth/token), with OAuth2's grant for identity tokens (.../spec/auth/oauth).
Credentials stay in this module and in the requests that it makes; sending those is left to `transport`.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from provider.registry.address import is_loopback
from provider.registry.errors import RegistryDeniedError, RegistryUnavailableError

IDENTITY_USERS = frozenset({"<token>", "00000000-0000-0000-0000-000000000000"})
"""User names that say that an identity token goes with them in the password's place: Docker's, and that of Azure
Container Registry."""
_CLIENT = "slipway"  # OAuth2's name for the program that asks
_LEAST_SECONDS = 60.0  # the specification's default for a token without `expires_in`
_MARGIN = 0.1  # of a token's life, in which a new one is fetched already
_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z][A-Za-z0-9-]*)(?=\s+[A-Za-z_]+\s*=|\s*$|\s*,)")
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True)
class Credentials:
    """A user of a registry. What is secret in it is not shown."""

    username: str
    password: str = field(repr=False)

    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class Challenge:
    """What a 401 asks for."""

    scheme: str
    """In lower case."""
    parameters: Mapping[str, str]


def challenges(header: str) -> list[Challenge]:
    """The challenges in a WWW-Authenticate header, which may hold several."""
    # Quoted values are blanked first, so that commas and words within them are not taken for a scheme.
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', lambda match: '"' + "." * (len(match[0]) - 2) + '"', header)
    starts = [match for match in _SCHEME.finditer(bare) if not bare[match.end() :].startswith("=")]
    ends = [*(match.start() for match in starts[1:]), len(header)]
    found = []
    for match, end in zip(starts, ends, strict=False):
        part = header[match.end() : end]
        values = {
            name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
            for name, quoted, plain in _PARAMETER.findall(part)
        }
        found.append(Challenge(match[1].lower(), values))
    return found


@dataclass(frozen=True)
class _Token:
    header: str = field(repr=False)
    renew_at: float
    """On the monotonic clock: the clocks of the two sides need not agree."""


Fetch = Callable[[str, Mapping[str, str], bytes | None], tuple[int, bytes]]
"""GET of a URL with headers, or POST where there is a body: status and body of the answer."""


class Authorizer:
    """The authentication of one registry. Safe for several threads."""

    def __init__(self, host: str, credentials: Credentials | None, *, encrypted: bool, fetch: Fetch) -> None:
        self._host = host
        self._credentials = credentials
        self._encrypted = encrypted
        self._fetch = fetch
        self._lock = threading.Lock()
        self._basic = False
        self._bearer: Challenge | None = None
        self._tokens: dict[str, _Token] = {}
        known = credentials is not None and credentials.username in IDENTITY_USERS
        self._identity = credentials.password if credentials is not None and known else None

    @property
    def who(self) -> str:
        """For an error: in whose name the client speaks."""
        return "without credentials" if self._credentials is None else f"as {self._credentials.username}"

    def header(self, scope: str) -> str | None:
        """The Authorization header for `scope` as far as it is known what the registry wants; None: nothing."""
        with self._lock:
            if self._basic and self._credentials is not None:
                return self._credentials.basic()
            if self._bearer is None:
                return None
            token = self._tokens.get(scope)
            if token is None or token.renew_at <= time.monotonic():
                token = self._tokens[scope] = self._new_token(self._bearer, scope)
            return token.header

    def answer(self, header: str, scope: str, refused: str | None) -> None:
        """Takes over the challenge of a 401; `header()` follows it from now on.

        `refused`: the Authorization header that was sent. Raises `RegistryDeniedError` where no answer would help."""
        offered = {challenge.scheme: challenge for challenge in challenges(header)}
        with self._lock:
            if "bearer" in offered:
                self._answer_bearer(offered["bearer"], scope, refused)
            elif "basic" in offered:
                self._answer_basic(refused)
            else:
                names = ", ".join(sorted(offered)) or "nothing"
                raise RegistryDeniedError(
                    f"the registry {self._host} asks for an authentication that is not known here ({names}; known are "
                    f"Basic and Bearer); check that its address is right"
                )

    def _answer_basic(self, refused: str | None) -> None:
        if self._credentials is None:
            raise RegistryDeniedError(
                f"the registry {self._host} wants a user name and a password, and none are given; set them for "
                f"the registry"
            )
        if refused is not None and refused == self._credentials.basic():
            raise self._wrong_credentials(self._host)
        self._basic = True

    def _answer_bearer(self, challenge: Challenge, scope: str, refused: str | None) -> None:
        known = self._tokens.get(scope)
        if known is not None and refused is not None and refused != known.header:
            return  # another thread has got a newer one meanwhile
        self._bearer = challenge
        self._tokens[scope] = self._new_token(challenge, scope)

    def _new_token(self, challenge: Challenge, scope: str) -> _Token:
        realm = challenge.parameters.get("realm", "")
        self._check_realm(realm)
        wanted = dict.fromkeys([*scope.split(), *challenge.parameters.get("scope", "").split()])
        scopes = [item for item in wanted if _same_repositories(item, scope)]
        service = [("service", challenge.parameters[name]) for name in ("service",) if name in challenge.parameters]
        asked_at = time.monotonic()
        body = self._granted(realm, service, scopes)
        if body is None:
            body = self._asked_for(realm, [*service, *(("scope", item) for item in scopes)])
        return _token_of(body, asked_at, urlsplit(realm).netloc, self._host)

    def _asked_for(self, realm: str, query: list[tuple[str, str]]) -> bytes:
        """The answer of a token server to a user name and a password, or to neither."""
        headers = {} if self._credentials is None else {"Authorization": self._credentials.basic()}
        status, body = self._fetch(f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}", headers, None)
        if status in (400, 401, 403):
            raise self._wrong_credentials(urlsplit(realm).netloc)
        return self._accepted(realm, status, body)

    def _granted(self, realm: str, service: list[tuple[str, str]], scopes: list[str]) -> bytes | None:
        """The answer of a token server to an identity token; None where there is none, or it knows no such grant."""
        if self._identity is None:
            return None
        form = [("grant_type", "refresh_token"), ("refresh_token", self._identity), ("client_id", _CLIENT), *service]
        form += [("scope", " ".join(scopes))] if scopes else []
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        status, body = self._fetch(realm, headers, urlencode(form).encode())
        if status in (404, 405):  # as the specification has it for servers without OAuth2
            self._identity = None
            return None
        where = urlsplit(realm).netloc
        if status in (400, 401, 403):
            raise RegistryDeniedError(
                f"{where} refuses the identity token given; it may have expired: get a new one (for Azure Container "
                f"Registry: az acr login --name NAME --expose-token), and check that it is of this registry"
            )
        body = self._accepted(realm, status, body)
        self._identity = _renewed(body) or self._identity
        return body

    def _accepted(self, realm: str, status: int, body: bytes) -> bytes:
        if status != 200:
            raise RegistryUnavailableError(
                f"the token server {urlsplit(realm).netloc} of the registry {self._host} answered {status}; try again "
                f"later"
            )
        return body

    def _check_realm(self, realm: str) -> None:
        address = urlsplit(realm)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise RegistryDeniedError(
                f"the registry {self._host} names no token server ({realm!r}); check that its address is right"
            )
        secret = self._encrypted or (self._credentials is not None and not is_loopback(address.hostname))
        if secret and address.scheme != "https":
            raise RegistryDeniedError(
                f"the registry {self._host} sends its users to {address.netloc} without TLS, where a password would be "
                f"readable; have its token server answer over https"
            )

    def _wrong_credentials(self, where: str) -> RegistryDeniedError:
        if self._credentials is None:
            return RegistryDeniedError(f"{where} refuses access without credentials; set a user name and a password")
        return RegistryDeniedError(
            f"{where} refuses the user name {self._credentials.username} with the password given; check both, and "
            f"that they have not expired"
        )


def _same_repositories(item: str, scope: str) -> bool:
    """Whether a challenge's scope is about a repository that was asked for: tokens are kept by those."""
    mine = {":".join(part.split(":")[:2]) for part in scope.split()}
    return not mine or ":".join(item.split(":")[:2]) in mine


def _renewed(body: bytes) -> str | None:
    """The identity token that the next request is to be made with, where the server has given a new one."""
    try:
        token = json.loads(body).get("refresh_token")
    except (ValueError, AttributeError):
        return None
    return token if isinstance(token, str) and token else None


def _token_of(body: bytes, asked_at: float, where: str, host: str) -> _Token:
    try:
        document = json.loads(body)
        text = document.get("token") or document.get("access_token")
        seconds = float(document.get("expires_in") or _LEAST_SECONDS)
    except (ValueError, TypeError, AttributeError):
        text, seconds = None, 0.0
    if not isinstance(text, str) or not text.isprintable() or " " in text:
        raise RegistryUnavailableError(f"the token server {where} of the registry {host} answered without a token")
    return _Token(f"Bearer {text}", asked_at + seconds * (1 - _MARGIN))
