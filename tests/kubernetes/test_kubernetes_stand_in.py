"""What the stand-in for Pulumi's kubernetes plugin does beyond the official one: it goes on after a killed up."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kubernetes import client
from pulumi import automation

from airgap.kubernetes import managers
from tests.kubernetes.programs import BROKEN, config_map, deployment
from tests.plugin_programs import Program

URN = "urn:pulumi:test::conformance::kubernetes:core/v1:ConfigMap::it"

# As in test_kubernetes_plugin.py.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_what_a_killed_up_made_is_known_by_its_manager(
    program: Program, core: client.CoreV1Api, namespace: str
) -> None:
    body = {"metadata": {"name": "mine"}, "data": {"key": "value"}}
    core.create_namespaced_config_map(namespace, body, field_manager=managers.manager_of(URN))

    program.up(config_map(namespace, metadata={"name": "mine"}))

    assert program.resource("it")["id"] == f"{namespace}/mine"
    assert program.preview() == {"same": 2}


def test_a_killed_up_is_continued(program: Program, apps: client.AppsV1Api, namespace: str) -> None:
    def deploy() -> None:
        with contextlib.suppress(automation.CommandError):
            program.up(deployment(namespace, name="mine", spec=BROKEN))

    deploying = threading.Thread(target=deploy)
    deploying.start()
    _until(lambda: bool(apps.list_namespaced_deployment(namespace).items))
    for pid in _pulumi():
        os.kill(pid, signal.SIGKILL)
    deploying.join()
    program.stack.cancel()  # the lock of the one that was killed

    program.up(deployment(namespace, name="mine"))

    assert apps.read_namespaced_deployment("mine", namespace).status.available_replicas == 1
    assert program.preview() == {"same": 2}


def _pulumi() -> list[int]:
    """The engines that this process runs."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            if name == "pulumi" and int(rest.split()[1]) == os.getpid():
                found.append(int(entry.name))
    return found


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "the deployment did not come that far"
        time.sleep(0.1)
