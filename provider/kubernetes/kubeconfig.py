"""Which cluster is meant, and who asks: the kubeconfig, as kubectl understands it.

Contexts, several files in KUBECONFIG, client certificates, tokens and files of tokens, passwords, programs that log in
(`exec`), the service account of a pod. Nothing is asked of the cluster here. The `kubernetes` package reads kubeconfigs
too, but takes two seconds of a processor to be imported and keeps to itself why a program that logs in failed; it is
used for the one kind of login that is not understood here (`auth-provider`, which kubectl has given up but for OIDC).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from provider.errors import ResourceError

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LOGIN_SECONDS = 120
"""How long a program that logs in may take, in seconds; it may wait for a browser."""
_EARLY = timedelta(seconds=60)
"""How long before its end a login is renewed."""


class KubeconfigError(ResourceError):
    """No cluster is named, or it cannot be logged in to. The message says what to do."""


class NoContextError(KubeconfigError):
    """A kubeconfig is there, and has no such context."""

    def __init__(self, message: str, context: str | None, contexts: Sequence[str], where: str) -> None:
        super().__init__(message)
        self.context = context
        """The one that is named, here or as the current one; None: neither names any."""
        self.contexts = contexts
        """Those that there are."""
        self.where = where
        """The files, for an error."""


@dataclass(frozen=True)
class Login:
    """What shows the API server who asks."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Of every request."""
    certificate: bytes | None = field(default=None, repr=False)
    """A client certificate (PEM)."""
    key: bytes | None = field(default=None, repr=False)
    """Its private key (PEM)."""
    expires: datetime | None = None
    """When it is good no longer, where that is known."""

    @property
    def stale(self) -> bool:
        """Whether it must be renewed."""
        return self.expires is not None and datetime.now(UTC) > self.expires - _EARLY


@dataclass(frozen=True)
class Access:
    """A cluster's API server, and how to log in to it."""

    server: str
    """Its address, without a slash at its end."""
    origin: str
    """Where this was found, for an error: `the context prod of ~/.kube/config`."""
    authority: bytes | None = None
    """The certificates of authorities that the server's may be signed by (PEM); None: the system's."""
    verify: bool = True
    server_name: str | None = None
    """The name in the server's certificate, where it is not that of the address."""
    proxy: str | None = None
    user: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The user's part of the kubeconfig."""
    cluster: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The cluster's part of the kubeconfig."""
    folder: Path = Path()
    """What relative paths of the user's part begin at."""
    source: tuple[str, str] | None = None
    """The kubeconfig's files and the context; None in a pod, and where it is in no file."""

    def login(self) -> Login:
        """Logs in. Raises `KubeconfigError`."""
        login = _login(self)
        return replace(login, headers=login.headers + _impersonation(self.user))


@dataclass(frozen=True)
class Document:
    """A kubeconfig as it was read."""

    name: str
    """For errors: its file, or where else it stands."""
    content: Mapping[str, Any] = field(repr=False)
    file: Path | None = None
    """None: it is in no file, and relative paths in it begin at the working directory."""

    @property
    def folder(self) -> Path:
        return Path() if self.file is None else self.file.resolve().parent


def find(kubeconfig: str | None, context: str | None, environment: Mapping[str, str] | None = None) -> Access:
    """The cluster that is meant. `kubeconfig` is a path; None: the files in KUBECONFIG, else ~/.kube/config, else the
    service account where this runs in a pod. `context` None: the current one. Raises `KubeconfigError`."""
    environment = os.environ if environment is None else environment
    files = _files(kubeconfig, environment)
    there = [file for file in files if file.is_file()]
    if not there:
        if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in environment:
            return in_a_pod(environment)
        raise KubeconfigError(_nothing(kubeconfig, files))
    return chosen([read(file) for file in there], context)


def _files(kubeconfig: str | None, environment: Mapping[str, str]) -> list[Path]:
    if kubeconfig is not None:
        return [Path(kubeconfig).expanduser()]
    named = [Path(part).expanduser() for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [Path("~/.kube/config").expanduser()]


def _nothing(kubeconfig: str | None, files: list[Path]) -> str:
    names = ", ".join(str(file) for file in files)
    if kubeconfig is not None:
        return f"the kubeconfig {names} does not exist; mend the compute target's kubeconfig, or make the file"
    return (
        f"no cluster is named: {names} does not exist. Name a kubeconfig in the compute target's kubeconfig, or in the "
        "variable KUBECONFIG"
    )


def in_a_pod(environment: Mapping[str, str]) -> Access:
    """The cluster that this runs in, by the service account of its pod. Raises `KubeconfigError`."""
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
    address = f"[{host}]" if ":" in host else host
    try:
        authority = (_ACCOUNT / "ca.crt").read_bytes()
    except OSError as error:
        raise KubeconfigError(f"this pod has no service account to ask the cluster with: {error}") from None
    return Access(
        server=f"https://{address}:{port}",
        origin="the service account of this pod",
        authority=authority,
        user={"tokenFile": str(_ACCOUNT / "token")},
    )


# -- the files -------------------------------------------------------------------------------------------------------


def chosen(documents: Sequence[Document], context: str | None, cluster: str | None = None) -> Access:
    """The cluster of a context in one of the kubeconfigs; None: of the current one. `cluster` names another in its
    place. Raises `KubeconfigError`."""
    where = ", ".join(document.name for document in documents)
    current = (str(one.content["current-context"]) for one in documents if one.content.get("current-context"))
    wanted = context or next(current, None)
    contexts = sorted(str(entry.get("name")) for one in documents for entry in _list(one.content, "contexts"))
    if wanted is None:
        raise NoContextError(
            f"{where} has no current context; name one in the compute target's context, or choose it with "
            f"`kubectl config use-context NAME`. It has {', '.join(contexts) or 'none'}",
            *(wanted, contexts, where),
        )
    _, found = _entry(documents, "contexts", "context", wanted)
    if found is None:
        raise NoContextError(
            f"there is no context {wanted!r} in {where}; it has {', '.join(contexts) or 'none'}. "
            "Mend the compute target's context",
            *(wanted, contexts, where),
        )
    origin = f"the context {wanted!r} of {where}"
    named = cluster or str(found.get("cluster"))
    folder, reached = _entry(documents, "clusters", "cluster", named)
    if reached is None or not reached.get("server"):
        raise KubeconfigError(f"{origin} names the cluster {named!r}, of which it has no server")
    user_folder, user = _entry(documents, "users", "user", str(found.get("user")))
    if user is None and found.get("user"):
        raise KubeconfigError(f"{origin} names the user {found['user']!r}, and has no such user")
    files = [str(document.file) for document in documents if document.file is not None]
    return Access(
        server=str(reached["server"]).rstrip("/"),
        origin=origin,
        authority=_content(reached, "certificate-authority", folder, origin),
        verify=not reached.get("insecure-skip-tls-verify"),
        server_name=reached.get("tls-server-name"),
        proxy=reached.get("proxy-url"),
        user=user or {},
        cluster=reached,
        folder=user_folder,
        source=(os.pathsep.join(files), wanted) if files else None,
    )


def read(file: Path) -> Document:
    """The kubeconfig in a file. Raises `KubeconfigError`."""
    import yaml  # for those who need it

    try:
        document = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"the kubeconfig {file} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        # Not the text itself, in which there may be a secret.
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" (line {mark.line + 1})"
        raise KubeconfigError(f"{file} is not a kubeconfig: it is no YAML{line}") from None
    if document is None:
        return Document(str(file), {}, file)
    if not isinstance(document, dict):
        raise KubeconfigError(f"{file} is not a kubeconfig: it is no map")
    return Document(str(file), document, file)


def _list(document: Mapping[str, Any], section: str) -> list[Mapping[str, Any]]:
    found = document.get(section) or []
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _entry(
    documents: Sequence[Document], section: str, member: str, name: str
) -> tuple[Path, Mapping[str, Any] | None]:
    """The first entry of that name, as kubectl joins files, with the folder that its paths begin at."""
    for document in documents:
        for entry in _list(document.content, section):
            if entry.get("name") == name:
                found = entry.get(member)
                return document.folder, found if isinstance(found, dict) else {}
    return Path(), None


def _content(part: Mapping[str, Any], name: str, folder: Path, origin: str) -> bytes | None:
    """What `name` of a part is: inline (`<name>-data`, base64), or in a file."""
    inline, path = part.get(f"{name}-data"), part.get(name)
    if inline:
        try:
            return base64.b64decode(inline, validate=False)
        except (binascii.Error, TypeError, ValueError):
            raise KubeconfigError(f"{name}-data in {origin} is no base64") from None
    if not path:
        return None
    try:
        return Path(folder, path).read_bytes()
    except OSError as error:
        raise KubeconfigError(f"the {name} of {origin} cannot be read: {error}") from None


# -- who asks --------------------------------------------------------------------------------------------------------


def _login(access: Access) -> Login:
    user = access.user
    certificate = _content(user, "client-certificate", access.folder, access.origin)
    key = _content(user, "client-key", access.folder, access.origin)
    if user.get("tokenFile"):
        return Login(_bearer(_token_in(access)), certificate, key, _soon())
    if user.get("token"):
        return Login(_bearer(str(user["token"])), certificate, key)
    if user.get("exec"):
        return _logged_in_by(access, user["exec"])
    if user.get("auth-provider"):
        return _by_the_package(access)
    if user.get("username"):
        pair = f"{user['username']}:{user.get('password', '')}".encode()
        return Login((("authorization", f"Basic {base64.b64encode(pair).decode()}"),), certificate, key)
    return Login((), certificate, key)


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def _soon() -> datetime:
    """Files of tokens are written anew before the token in them ends: they are read every minute."""
    return datetime.now(UTC) + _EARLY + timedelta(minutes=1)


def _token_in(access: Access) -> str:
    path = Path(access.folder, access.user["tokenFile"])
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"the token of {access.origin} cannot be read: {error}") from None


def _impersonation(user: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    asked = [("impersonate-user", str(user["as"]))] if user.get("as") else []
    return (*asked, *(("impersonate-group", str(group)) for group in user.get("as-groups") or ()))


def _logged_in_by(access: Access, plugin: Mapping[str, Any]) -> Login:
    """Runs the program that logs in (client.authentication.k8s.io)."""
    command = str(plugin.get("command") or "")
    program = str(access.folder / command) if "/" in command and not command.startswith("/") else command
    who = f"the program `{command}` that logs in for {access.origin}"
    try:
        done = subprocess.run(
            [program, *(str(argument) for argument in plugin.get("args") or ())],
            env=_variables(access, plugin),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=_LOGIN_SECONDS,
        )
    except FileNotFoundError:
        hint = str(plugin.get("installHint") or "install it, or put its folder on PATH").strip()
        raise KubeconfigError(f"{who} is not there: {hint}") from None
    except subprocess.TimeoutExpired:
        raise KubeconfigError(f"{who} did not end within {_LOGIN_SECONDS} s; run `kubectl get pods` by hand") from None
    except OSError as error:
        raise KubeconfigError(f"{who} cannot be run: {error}") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-500:]
        raise KubeconfigError(
            f"{who} ended with exit code {done.returncode}: {said or 'it said nothing'}. Log in again as that program "
            "wants it, and see that `kubectl get pods` works"
        )
    return _told(done.stdout, who)


def _variables(access: Access, plugin: Mapping[str, Any]) -> dict[str, str]:
    version = str(plugin.get("apiVersion") or "client.authentication.k8s.io/v1")
    spec: dict[str, Any] = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        authority = base64.b64encode(access.authority).decode() if access.authority else None
        spec["cluster"] = {"server": access.server, "certificate-authority-data": authority}
        for extension in access.cluster.get("extensions") or ():
            if extension.get("name") == "client.authentication.k8s.io/exec":
                spec["cluster"]["config"] = extension.get("extension")
    given = {str(entry["name"]): str(entry.get("value", "")) for entry in plugin.get("env") or ()}
    asked = json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": spec})
    return {**os.environ, **given, "KUBERNETES_EXEC_INFO": asked}


def _told(text: str, who: str) -> Login:
    # What it printed holds a secret, and is never shown.
    try:
        status = json.loads(text)["status"]
        token, certificate = status.get("token"), status.get("clientCertificateData")
        expires = status.get("expirationTimestamp")
        until = None if expires is None else datetime.fromisoformat(str(expires).replace("Z", "+00:00"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise KubeconfigError(f"{who} printed no ExecCredential; see that `kubectl get pods` works") from None
    if not token and not certificate:
        raise KubeconfigError(f"{who} gave neither a token nor a certificate; see that `kubectl get pods` works")
    key = status.get("clientKeyData")
    return Login(
        _bearer(token) if token else (),
        certificate.encode() if certificate else None,
        key.encode() if key else None,
        until,
    )


def _by_the_package(access: Access) -> Login:
    """An `auth-provider`: the `kubernetes` package knows what is left of them."""
    if access.source is None:
        raise KubeconfigError(f"the auth-provider of {access.origin} is known of kubeconfigs in files alone")
    import kubernetes

    options = kubernetes.client.Configuration()
    files, context = access.source
    try:
        kubernetes.config.load_kube_config(files, context=context, client_configuration=options)
    except (kubernetes.config.ConfigException, OSError, ValueError, KeyError) as error:
        raise KubeconfigError(f"the auth-provider of {access.origin} cannot be used: {error}") from None
    token = options.get_api_key_with_prefix("authorization")
    if not token:
        raise KubeconfigError(f"the auth-provider of {access.origin} gave no token; log in again")
    return Login((("authorization", token),), expires=_soon())
