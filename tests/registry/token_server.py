"""A token server as the specification of CNCF Distribution's token authentication has it, for a user or for anybody.

It knows OAuth2's grant for identity tokens as well, where it is given one (distribution.github.io/distribution/spec/
auth/oauth); it then answers as Azure Container Registry does, with an `access_token` and without its time.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER, SERVICE = "test issuer", "test registry"


class TokenServer(ThreadingHTTPServer):
    """Signs tokens that a registry with `registry_section()` believes."""

    daemon_threads = True

    def __init__(self, folder: Path, user: tuple[str, str] | None) -> None:
        self.user = user
        self.lasts = 300
        """Seconds, from when a token is made, as the token says itself; the answer says `expires_in`."""
        self.expires_in: int | None = 300
        self.clock_ahead = 0
        """Seconds by which the server's clock is ahead in what it says of itself (`issued_at`)."""
        self.withheld: set[str] = set()
        """Repositories to which no right is given."""
        self.asked: list[list[str]] = []
        self.identity: str | None = None
        """The identity token that is taken now; None: OAuth2 is not known here."""
        self.next_identity: str | None = None
        """The one that is given with the next answer, and taken from then on."""
        self.granted: list[dict[str, list[str]]] = []
        """The forms that were answered with a token."""
        self.lock = threading.Lock()
        self._authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        leaf = self._authority.issue_cert("tokens.example", key_type=trustme.KeyType.ECDSA)
        self._key: Any = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        self._chain = [
            base64.b64encode(
                x509.load_pem_x509_certificate(pem.bytes()).public_bytes(serialization.Encoding.DER)
            ).decode()
            for pem in leaf.cert_chain_pems
        ]
        self._bundle = folder / "token-authority.pem"
        self._authority.cert_pem.write_to_path(str(self._bundle))
        super().__init__(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def realm(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/token"

    def registry_section(self) -> dict[str, Any]:
        token = {"realm": self.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(self._bundle)}
        return {"auth": {"token": token}}

    def __enter__(self) -> TokenServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def token(self, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            if name not in self.withheld:
                access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": "", "aud": SERVICE, "exp": now + self.lasts, "nbf": now - 3600, "iat": now}
        claims |= {"jti": secrets.token_hex(8), "access": access}
        signed = f"{_encoded({'typ': 'JWT', 'alg': 'ES256', 'x5c': self._chain})}.{_encoded(claims)}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TokenServer

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        server, query = self.server, parse_qs(urlsplit(self.path).query)
        scopes = query.get("scope", [])
        with server.lock:
            server.asked.append(scopes)
        document: dict[str, Any] = {}
        status = 401
        if server.user is None or self.headers["Authorization"] == _basic(*server.user):
            assert query["service"] == [SERVICE]
            issued = time.gmtime(time.time() + server.clock_ahead)
            document = {"token": server.token(scopes), "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", issued)}
            if server.expires_in is not None:
                document["expires_in"] = server.expires_in
            status = 200
        self._answer(status, document)

    def do_POST(self) -> None:
        server = self.server
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if server.identity is None:
            self._answer(404, {})
        elif form.get("refresh_token") != [server.identity]:
            self._answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]})
        else:
            assert self.headers["Content-Type"] == "application/x-www-form-urlencoded"
            assert self.headers["Authorization"] is None
            document = {"access_token": server.token(form.get("scope", [""])[0].split())}
            if server.next_identity is not None:
                server.identity = document["refresh_token"] = server.next_identity
            with server.lock:
                server.granted.append(form)
            self._answer(200, document)

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _encoded(document: dict[str, Any]) -> str:
    return _base64(json.dumps(document).encode())
