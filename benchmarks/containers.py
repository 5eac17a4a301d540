"""Services on a Docker host: what the router costs, updates under load, and how long an update takes.

One stack with a real engine, a registry and a router, as `tests/docker` deploys it. Beside the router stands nginx in
the same place, before the same sockets: in a container that is shut in as the router's is, and both of them outside of
one. Beside `up` stands `docker run` of the image that it deployed. Needs root, docker, docker-registry, debootstrap,
nginx and haproxy (Debian's packages, on Debian: the container takes this machine's nginx, with its libraries).

Environment variables narrow a run: BENCH_CASES (parts of names: router, load, update, growth), BENCH_ROUNDS,
BENCH_SECONDS (of the load, 60) and BENCH_SERVICES (how many there are in the end, 50).
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airgap.images import making
from benchmarks._choice import chosen, rounds
from benchmarks._growth import growth
from benchmarks._load import CONNECTIONS, updates_under_load
from benchmarks._stack import pulumi
from benchmarks.report import Row
from provider.router import configuration, refusal
from provider.router import container as router
from tests.docker.engine import Docker, docker_engine
from tests.docker.staged import StagedProject
from tests.e2e.load import SteadyLoad
from tests.e2e.project import ECHO, revision_of
from tests.ports import free_port

_SERVICES = 50
_LIMIT_SECONDS = 2.0
_MEASURED_SECONDS = 3
_DEADLINE_SECONDS = 60
_NOOP = "def init():\n    pass\n\ndef run(data):\n    return 1\n"
_ROUTER = "slipway-demo-router"
_VOLUME = "slipway-demo-run"
_NGINX = """
daemon off;
worker_processes auto;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    upstream service {{ server unix:{socket}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


def run() -> list[Row]:
    for program, package in (("nginx", "nginx-light"), ("haproxy", "haproxy")):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
            sys.exit(f"{program} is missing: apt-get install --no-install-recommends {package}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as root, docker_engine() as docker:
        images = Path(root) / "images"
        making.make(images, None, print)
        cases: dict[str, Callable[[StagedProject], list[Row]]] = {
            "router": _router,
            "load": _load,
            "update": _update,
            "growth": _growth,
        }
        for name, case in cases.items():
            if chosen(name, "BENCH_CASES"):
                print(f"  {name} ...", flush=True)
                folder = Path(root) / name
                folder.mkdir()
                with _deployed(StagedProject(folder, docker, images)) as project:
                    rows += case(project)
    return rows


@contextmanager
def _deployed(project: StagedProject) -> Iterator[StagedProject]:
    project.up()
    try:
        yield project
    finally:
        project.clear()


# -- what the router costs -------------------------------------------------------------------------------------------


def _router(project: StagedProject) -> list[Row]:
    project.script.write_text(_NOOP)
    project.up()
    (container,) = project.containers()
    address = project.docker.run(
        "inspect", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container
    )
    volume = project.docker.run("volume", "inspect", "--format={{.Mountpoint}}", _VOLUME)
    # Under a short name: paths of sockets are limited.
    socket = project.root / "socket"
    socket.symlink_to(Path(volume) / f"{container}.sock")
    figures: dict[str, list[tuple[float, float]]] = {}
    with (
        _nginx(project.root, socket) as nginx,
        _haproxy(project.root, socket) as haproxy,
        _contained_nginx(project, f"{router.SOCKETS}/{container}.sock") as contained,
    ):
        places = {
            "router": ("127.0.0.1", project.port),
            "nginx in a container": ("127.0.0.1", contained),
            "its configuration outside of a container": ("127.0.0.1", haproxy),
            "nginx": ("127.0.0.1", nginx),
            "past it": (address, 5001),
        }
        for _ in range(rounds()):
            for name, (host, at) in places.items():
                rate, p99 = _measured(project.root, host, at)
                figures.setdefault(name, []).append((rate, p99))
                print(f"    {name}: {rate:,.0f}/s, p99 {p99:.2f} ms", flush=True)
    rates = {name: statistics.median(item[0] for item in found) for name, found in figures.items()}
    p99s = {name: statistics.median(item[1] for item in found) for name, found in figures.items()}
    rows = []
    for name, peer in (("router", "nginx in a container"), ("its configuration outside of a container", "nginx")):
        beside = {other: rates[other] for other in (peer, "past it")}
        rows.append(Row(f"no-op, {name}: rate", "requests/s", rates[name], 0.95 * rates[peer], beside))
        beside = {other: p99s[other] for other in (peer, "past it")}
        rows.append(Row(f"no-op, {name}: p99", "ms", p99s[name], 1.05 * p99s[peer], beside))
    return rows


@contextmanager
def _haproxy(folder: Path, socket: Path) -> Iterator[int]:
    """The router's own configuration, run as nginx is: without the container's filter of system calls."""
    port = free_port()
    text = router.global_configuration(f"127.0.0.1:{free_port()}", str(folder)).replace(router.RUNTIME, str(folder))
    (folder / refusal.FILE).write_text(refusal.script())
    deployment = configuration.Deployment("default", 100, (str(socket),))
    service = configuration.Service("echo", port, "127.0.0.1", False, False, 60_000, (deployment,))
    (folder / "haproxy.cfg").write_text(text + "\n" + configuration.configuration(service))
    with _running(["haproxy", "-f", str(folder / "haproxy.cfg")], port):
        yield port


@contextmanager
def _nginx(folder: Path, socket: Path) -> Iterator[int]:
    port = free_port()
    (folder / "nginx.conf").write_text("user root;\n" + _NGINX.format(folder=folder, socket=socket, port=port))
    with _running(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], port):
        yield port


@contextmanager
def _contained_nginx(project: StagedProject, socket: str) -> Iterator[int]:
    """nginx in a container like the router's, made from the same image; program and libraries are this machine's."""
    port, docker = free_port(), project.docker
    folder = project.root / "contained"
    folder.mkdir()
    (folder / "nginx.conf").write_text(_NGINX.format(folder="/tmp", socket=socket, port=port))  # noqa: S108 - its own
    hardened = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp:mode=1777")
    mounts = (f"{_VOLUME}:{router.SOCKETS}", "/usr:/usr:ro", f"{folder}:/etc/contained:ro")
    identity = docker.run(
        *("run", "--detach", "--network=host", f"--user={router.USER}:{router.USER}", *hardened),
        *(f"--volume={mount}" for mount in mounts),
        *("--entrypoint=nginx", docker.run("inspect", "--format={{.Config.Image}}", _ROUTER)),
        *("-c", "/etc/contained/nginx.conf", "-p", "/tmp", "-e", "stderr"),  # noqa: S108
    )
    try:
        _until(lambda: _answers(f"http://127.0.0.1:{port}"))
        yield port
    finally:
        docker.run("rm", "--force", identity)


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"})
    try:
        _until(lambda: _answers(f"http://127.0.0.1:{port}"))
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _measured(folder: Path, host: str, port: int) -> tuple[float, float]:
    """Requests a second, and the 99th percentile of the latency in ms."""
    request = folder / "request"
    request.write_bytes(
        f"POST /score HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n".encode()
        + b'{"a": 10}'
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.serving.load"),
            *(str(port), str(CONNECTIONS), str(_MEASURED_SECONDS), str(request), host),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    if set(found["statuses"]) != {"200"}:
        sys.exit(f"{host}:{port} answered with {found['statuses']}")
    return found["rate"], found["p99"] * 1000


# -- updates ---------------------------------------------------------------------------------------------------------


def _load(project: StagedProject) -> list[Row]:
    """Failed requests of 8 connections while the stack changes, again and again."""
    rows = []
    for name, change in _CHANGES.items():

        def update(index: int, change: Callable[[StagedProject, int], None] = change) -> None:
            change(project, index)
            project.up()

        rows.append(updates_under_load(name, SteadyLoad(project.port, CONNECTIONS), update))
    good = project.script.read_text()
    project.script.write_text(ECHO.replace("    global started", "    raise RuntimeError('broken')"))
    load = SteadyLoad(project.port, CONNECTIONS)
    rows.append(updates_under_load("a failing update", load, lambda _: project.failing_up()))
    project.script.write_text(good)
    return rows


def _code(project: StagedProject, index: int) -> None:
    project.script.write_text(ECHO.replace("VERSION = 1", f"VERSION = {index + 2}"))


def _model(project: StagedProject, index: int) -> None:
    project.model.write_bytes(f"weights {index}".encode())


def _environment(project: StagedProject, index: int) -> None:
    variables = {"SETTING_OF_MINE": str(index)}
    project.sections["environments"] = {"more": {"clone": "minimal", "environmentVariables": variables}}
    project.service["inference"]["environment"] = "more"
    project.write()


def _setting(project: StagedProject, index: int) -> None:
    project.deployment["containerResourceRequirements"] = {"cpu": 1, "memoryInGB": 0.5 + index % 2 / 2}
    project.write()


_CHANGES: dict[str, Callable[[StagedProject, int], None]] = {
    "code": _code,
    "model": _model,
    "environment": _environment,
    "setting": _setting,
}


def _update(project: StagedProject) -> list[Row]:
    """From `pulumi up` of a changed script to traffic moved, beside `docker run` of that image until it is ready."""
    taken, by_hand = [], []
    for index in range(rounds()):
        before = revision_of(project.url)
        _code(project, index)
        up = threading.Thread(
            target=pulumi,
            args=(project.root, project.environment, "up", "--yes", "--skip-preview", "--stack", "test"),
        )
        begun = time.perf_counter()
        up.start()
        _until(lambda before=before: _answers(project.url, before))  # type: ignore[misc]
        taken.append(time.perf_counter() - begun)
        up.join()
        by_hand.append(_run_by_hand(project.docker, project))
    hand = statistics.median(by_hand)
    return [
        Row("docker run of the image, until ready", "s", hand),
        Row("up --skip-preview of a changed script, until traffic has moved", "s", statistics.median(taken)),
        Row("  more than docker run", "s", statistics.median(taken) - hand, _LIMIT_SECONDS),
    ]


def _run_by_hand(docker: Docker, project: StagedProject) -> float:
    (container,) = project.containers()
    image, port = docker.run("inspect", "--format={{.Config.Image}}", container), free_port()
    begun = time.perf_counter()
    identity = docker.run("run", "--detach", "--publish", f"127.0.0.1:{port}:5001", image)
    try:
        _until(lambda: _answers(f"http://127.0.0.1:{port}"))
        return time.perf_counter() - begun
    finally:
        docker.run("rm", "--force", identity)


def _growth(project: StagedProject) -> list[Row]:
    port_of = functools.cache(lambda index: free_port())

    def tell_apart(service: dict[str, Any], index: int) -> None:
        service["deployment"]["port"] = port_of(index)

    return growth(project, _SERVICES, tell_apart)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + _DEADLINE_SECONDS
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"not within {_DEADLINE_SECONDS} s")
        time.sleep(0.005)


def _answers(url: str, other_than: str | None = None) -> bool:
    try:
        return revision_of(url) != other_than
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
