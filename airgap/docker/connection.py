"""Reaches the Docker engine that the provider's configuration names.

The engine is looked for as the official plugin does: `context`, else `host`, else DOCKER_HOST, else the socket of this
machine. Over ssh the official way is used as well, `docker system dial-stdio` on the other side, so that the remote
machine needs no open port.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from airgap.docker import sdk
from airgap.docker.ssh import Tunnel
from provider.container import tls
from provider.resource import ResourceError

DEFAULT_HOST = "unix:///var/run/docker.sock"
_SECONDS = 600
_HUB = "index.docker.io"

SETTINGS = {
    "caMaterial": str,
    "certMaterial": str,
    "certPath": str,
    "context": str,
    "disableDockerDaemonCheck": bool,
    "host": str,
    "keyMaterial": str,
    "registryAuth": list,
    "sshOpts": list,
}
"""The provider's configuration: what the official plugin has."""
_ENGINES_OWN = {"version", "pluginDownloadURL"}
_AUTH_SETTINGS = {"address", "username", "password", "authDisabled", "configFile", "configFileContent"}


class EngineError(ResourceError):
    """The engine cannot be reached, or refuses what was asked of it."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Auth:
    """Credentials for a registry."""

    address: str
    username: str
    password: str

    @property
    def header(self) -> dict[str, str]:
        return {"username": self.username, "password": self.password, "serveraddress": self.address}


def settings_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with its lists and flags decoded: Pulumi sends them as JSON. Raises ResourceError."""
    settings = {}
    for name, value in values.items():
        if name in _ENGINES_OWN or name.startswith("__") or value is None:
            continue
        if name not in SETTINGS:
            raise ResourceError(
                f"the provider docker has no setting {name} in this stand-in for Pulumi's docker plugin; "
                f"it knows {', '.join(sorted(SETTINGS))}"
            )
        if isinstance(value, str) and SETTINGS[name] is not str:
            try:
                value = json.loads(value)
            except ValueError:
                raise ResourceError(f"docker:{name} is no JSON: a {SETTINGS[name].__name__} is needed") from None
        settings[name] = value
    return settings


class Connection:
    """One engine. Connects at first use; may be used from several threads."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._files: list[IO[str]] = []
        self._tunnel: Tunnel | None = None

    @cached_property
    def host(self) -> str:
        """Where the engine is, as the program sees it: a URL."""
        context = self._settings.get("context") or os.environ.get("DOCKER_CONTEXT")
        if context:
            try:
                found = sdk.ContextAPI.get_context(context)
            except sdk.DockerException as error:
                raise EngineError(f"the Docker context {context} cannot be read: {error}") from error
            if found is None:
                raise EngineError(f"there is no Docker context {context}; `docker context ls` shows those there are")
            return str(found.Host)
        return self._settings.get("host") or os.environ.get("DOCKER_HOST") or DEFAULT_HOST

    @property
    def api(self) -> sdk.APIClient:
        """The engine's API, in the newest version that both sides speak. Raises EngineError."""
        with self._lock:
            return self._api

    @cached_property
    def _api(self) -> sdk.APIClient:
        try:
            return sdk.APIClient(base_url=self.url, tls=self._tls or False, version="auto", timeout=_SECONDS)
        except (sdk.DockerException, sdk.RequestException, OSError) as error:
            raise EngineError(f"no Docker engine answers at {self.host}: {self._cause(error)}") from error

    def post(self, path: str, data: Mapping[str, Any]) -> Any:
        """Posts `data` as it stands: the SDK's own methods know only a part of the engine's fields. Raises APIError."""
        api: Any = self.api
        return api._result(api._post_json(api._url(path), data=data), json=False)

    @cached_property
    def url(self) -> str:
        """Where to connect to: the host, or this side of the way through ssh."""
        if not self.host.startswith("ssh://"):
            return self.host
        self._tunnel = Tunnel(self.host, self._settings.get("sshOpts") or [])
        return self._tunnel.open()

    @cached_property
    def _tls(self) -> sdk.TLSConfig | None:
        files = self.tls_files
        if not files:
            return None
        pair = (files["cert"], files["key"]) if "cert" in files else None
        return tls.configuration(files.get("ca"), pair)

    @cached_property
    def tls_files(self) -> dict[str, str]:
        """The files of a connection with TLS: `ca`, `cert` and `key`, those of them that were given."""
        settings = self._settings
        if settings.get("certMaterial") or settings.get("keyMaterial"):
            materials = {name: settings.get(f"{name}Material") for name in ("ca", "cert", "key")}
            return {name: self._in_memory(name, content) for name, content in materials.items() if content}
        folder = settings.get("certPath") or os.environ.get("DOCKER_CERT_PATH") or ""
        paths = {name: Path(folder) / f"{name}.pem" for name in ("ca", "cert", "key")} if folder else {}
        return {name: str(path) for name, path in paths.items() if path.exists()}

    def _in_memory(self, name: str, content: str) -> str:
        """A file that this process alone has, and that is gone with it, however it ends."""
        file = os.fdopen(os.memfd_create(name), "w")
        file.write(content)
        file.flush()
        self._files.append(file)
        return f"/proc/{os.getpid()}/fd/{file.fileno()}"

    def close(self) -> None:
        """Lets go of what it holds open."""
        for file in self._files:
            file.close()
        if self._tunnel is not None:
            self._tunnel.close()

    def _cause(self, error: BaseException) -> str:
        """What is wrong, and what helps."""
        text = str(error)
        if isinstance(error, sdk.DockerException) and error.__cause__ is not None:
            text = str(error.__cause__)
        if self._tunnel is not None and self._tunnel.complaint:
            return f"{self._tunnel.complaint} Try: ssh {self.host.removeprefix('ssh://')} docker version"
        if self.tls_files and (refused := tls.refusal(error)) is not None:
            return refused
        if "Permission denied" in text:
            return (
                "no right to use it. Add the user to the group docker: sudo usermod -aG docker $USER, and log in again"
            )
        if "No such file" in text or "Connection refused" in text or "ConnectionRefused" in text:
            return "nothing listens there. Start the engine (sudo systemctl start docker), or set docker:host"
        return text

    def auth_for(self, registry: str) -> Auth | None:
        """The credentials that the configuration has for `registry` (a host, with its port)."""
        for entry in self._settings.get("registryAuth") or []:
            unknown = set(entry) - _AUTH_SETTINGS - {"__defaults"}
            if unknown:
                raise ResourceError(f"docker:registryAuth has no field {', '.join(sorted(unknown))}")
            if host_of(entry.get("address", "")) != registry:
                continue
            if entry.get("authDisabled"):
                return Auth(registry, "", "")
            if entry.get("username"):
                return Auth(registry, entry["username"], entry.get("password") or "")
            found = from_docker_config(registry, entry)
            if found is not None:
                return found
        return from_docker_config(registry, {})


def from_docker_config(registry: str, entry: Mapping[str, Any]) -> Auth | None:
    """The credentials that `docker login` stored for `registry`: those of a file alone, no helper program is run."""
    content = entry.get("configFileContent")
    if not content:
        folder = os.environ.get("DOCKER_CONFIG") or "~/.docker"
        path = Path(entry.get("configFile") or f"{folder}/config.json").expanduser()
        try:
            content = path.read_text()
        except OSError:
            return None
    try:
        stored = json.loads(content).get("auths") or {}
    except ValueError as error:
        raise ResourceError(f"the Docker configuration with the credentials for {registry} is no JSON") from error
    for address, values in stored.items():
        if host_of(address) == registry and values.get("auth"):
            username, _, password = base64.b64decode(values["auth"]).decode().partition(":")
            return Auth(registry, username, password)
    return None


def host_of(address: str) -> str:
    """The host and port of a registry's address: `https://host:5000/v1/` is `host:5000`."""
    host = address.split("://", 1)[-1].split("/", 1)[0]
    return _HUB if host in {"docker.io", "registry-1.docker.io", "registry.hub.docker.com"} else host


def explained(what: str, error: sdk.APIError) -> EngineError:
    """`error` of the engine's, as `what` failed."""
    return EngineError(f"{what}: {error.explanation or error}", error.status_code or 0)
