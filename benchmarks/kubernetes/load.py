"""Failed requests of 8 connections while the stack changes, for every kind of change, and while updates fail."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from pulumi import automation

from benchmarks._choice import chosen
from benchmarks._load import CONNECTIONS, updates_under_load
from benchmarks.report import Row
from tests.certificates import Authority
from tests.e2e.load import SteadyLoad
from tests.e2e.project import eventually
from tests.kubernetes.clustered import ECHO, ClusterProject, send

Projects = Callable[[str], AbstractContextManager[ClusterProject]]
Update = Callable[[ClusterProject, int], None]
"""Changes the stack, and deploys it; told how often it was changed before."""

_BROKEN = (
    "def init():\n    raise ValueError('no such weights')\n\ndef run(data):\n    return data\n",
    "def init():\n    pass\n\ndef run(data):\n    raise ValueError('no such pixel')\n",
)
"""Of a script that does not start, and of one that does not answer the sample request."""


def run(projects: Projects) -> list[Row]:
    rows = []
    with projects("one") as project:
        project.deployment.update(authEnabled=True, secondaryKey={"secret": "second"})
        _set_secret(project, "second", secrets.token_hex(16))
        project.write()
        project.up()
        headers = {"Authorization": f"Bearer {project.outputs()['primaryKey']}"}
        rows += _measured(project, _OF_ONE, lambda: _load(project, headers))
    with projects("several") as project:
        authority = Authority()
        tls = _several(project, authority)
        changes = {**_OF_SEVERAL, "certificate": lambda project, _: _certified(project, authority)}
        rows += _measured(project, changes, lambda: _load(project, {}, tls))
    return rows


def _measured(project: ClusterProject, updates: Mapping[str, Update], load: Callable[[], SteadyLoad]) -> list[Row]:
    rows = []
    for name, update in updates.items():
        if chosen(name, "BENCH_CHANGES"):

            def next_one(index: int, update: Update = update) -> None:
                update(project, index)

            rows.append(updates_under_load(name, load(), next_one, lambda: _settled(project)))
            project.script.write_text(ECHO)  # where what failed is not to stay
            project.up()
    return rows


def _load(project: ClusterProject, headers: dict[str, str], tls: ssl.SSLContext | None = None) -> SteadyLoad:
    return SteadyLoad(project.node_port, CONNECTIONS, headers=headers, tls=tls, host=project.node)


def _settled(project: ClusterProject) -> None:
    """Waits until no pod is leaving any more."""

    def leaving() -> bool:
        found = project.core.list_namespaced_pod(project.namespace).items
        return any(pod.metadata.deletion_timestamp is not None for pod in found)

    eventually(lambda: not leaving(), "the pods that leave are gone")


def _set_secret(project: ClusterProject, name: str, text: str) -> None:
    project.stack.set_config(f"slipway:{name}", automation.ConfigValue(text, secret=True))


def _up(project: ClusterProject) -> None:
    project.write()
    project.up()


# -- changes ---------------------------------------------------------------------------------------------------------


def _code(project: ClusterProject, index: int) -> None:
    project.script.write_text(ECHO.replace("VERSION = 1", f"VERSION = {index + 2}"))
    _up(project)


def _model(project: ClusterProject, index: int) -> None:
    project.model.write_bytes(f"weights {index}".encode())
    _up(project)


def _variable(project: ClusterProject, index: int) -> None:
    variables = {"SETTING_OF_MINE": str(index)}
    project.sections["environments"] = {"more": {"clone": "minimal", "environmentVariables": variables}}
    project.service["inference"]["environment"] = "more"
    _up(project)


def _resources(project: ClusterProject, index: int) -> None:
    project.deployment["containerResourceRequirements"] = {"cpu": 0.1, "memoryInGB": 0.25 + 0.25 * (index % 2)}
    _up(project)


def _replicas(project: ClusterProject, index: int) -> None:
    project.deployment["numReplicas"] = 1 + (index + 1) % 2
    _up(project)


def _keys(project: ClusterProject, index: int) -> None:
    """The key that the load does not send, until it is accepted."""
    key = secrets.token_hex(16)
    _set_secret(project, "second", key)
    _up(project)
    address = (project.node, project.node_port)
    eventually(lambda: send(address, 1, key)[0] == 200, "the new key is accepted")


def _deployments(project: ClusterProject, index: int) -> None:
    """From one deployment to two, and back."""
    if index % 2:
        del project.service["deployments"], project.service["traffic"]
    else:
        project.service.update(deployments={"blue": {}, "green": {}}, traffic={"blue": 50, "green": 50})
    _up(project)


def _failing(project: ClusterProject, index: int) -> None:
    project.script.write_text(_BROKEN[index % len(_BROKEN)])
    project.failing_up()


def _weights(project: ClusterProject, index: int) -> None:
    blue = 25 + 50 * (index % 2)
    project.service["traffic"] = {"blue": blue, "green": 100 - blue}
    _up(project)


_OF_ONE: Mapping[str, Update] = {
    "code": _code,
    "model": _model,
    "environment variable": _variable,
    "resources": _resources,
    "replicas": _replicas,
    "keys": _keys,
    "failing updates": _failing,
    "one deployment to two, and back": _deployments,
}
_OF_SEVERAL: Mapping[str, Update] = {
    "traffic weights": _weights,
    "code of two deployments over TLS": _code,
    "failing updates of two deployments over TLS": _failing,
}


def _several(project: ClusterProject, authority: Authority) -> ssl.SSLContext:
    """Two deployments behind a router with TLS; returns what clients trust."""
    project.deployment.update(sslEnabled=True, sslCert={"secret": "cert"}, sslKey={"secret": "certKey"}, port=8443)
    project.service.update(deployments={"blue": {}, "green": {}}, traffic={"blue": 75, "green": 25})
    _certified(project, authority)
    tls = ssl.create_default_context(cadata=(project.root / "certificate" / "ca.pem").read_text())
    tls.check_hostname = False
    return tls


def _certified(project: ClusterProject, authority: Authority) -> None:
    """Deploys another certificate."""
    folder = authority.write(project.root / "certificate", "echo")
    _set_secret(project, "cert", (folder / "cert.pem").read_text())
    _set_secret(project, "certKey", (folder / "key.pem").read_text())
    _up(project)
