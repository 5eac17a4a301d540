"""docker.Container: from its inputs to what the engine is asked for, and from what the engine says to its state."""

from __future__ import annotations

import base64
import io
import tarfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.docker import durations
from airgap.docker.container import Container
from airgap.docker.container_facts import facts_of
from airgap.docker.container_request import archive_of, request_of
from provider.resource import ResourceError


def request(**inputs: Any) -> dict[str, Any]:
    return request_of({"name": "a", "image": "b", **inputs})


def test_only_what_is_given_is_asked_for() -> None:
    asked = request()

    assert asked == {
        "Image": "b",
        "HostConfig": {
            "CpuShares": 0,
            "CpuPeriod": 0,
            "CpuQuota": 0,
            "Memory": 0,
            "MemoryReservation": 0,
            "MemorySwap": 0,
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "ShmSize": 0,
            "NanoCpus": 0,
            "Init": False,
        },
    }


def test_sizes_are_mebibytes_and_no_swap_limit_stays_one() -> None:
    host = request(memory=64, memorySwap=-1, shmSize=16)["HostConfig"]

    assert (host["Memory"], host["MemorySwap"], host["ShmSize"]) == (64 * 2**20, -1, 16 * 2**20)


def test_port_without_a_number_outside_gets_any() -> None:
    asked = request(ports=[{"internal": 80, "ip": "127.0.0.1"}, {"internal": 53, "external": 5353, "protocol": "udp"}])

    assert asked["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert asked["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}],
        "53/udp": [{"HostIp": "", "HostPort": "5353"}],
    }


def test_volumes_are_binds_or_those_of_another_container() -> None:
    asked = request(
        volumes=[
            {"containerPath": "/data", "volumeName": "data"},
            {"containerPath": "/etc/x", "hostPath": "/srv/x", "readOnly": True},
            {"containerPath": "/anonymous"},
            {"fromContainer": "other"},
        ]
    )

    assert asked["HostConfig"]["Binds"] == ["data:/data:rw", "/srv/x:/etc/x:ro"]
    assert asked["HostConfig"]["VolumesFrom"] == ["other"]
    assert set(asked["Volumes"]) == {"/data", "/etc/x", "/anonymous"}


def test_volume_without_a_place_is_an_error() -> None:
    with pytest.raises(ResourceError, match="needs either containerPath or fromContainer"):
        request(volumes=[{"volumeName": "data"}])


def test_devices_take_their_path_over() -> None:
    (device,) = request(devices=[{"hostPath": "/dev/fpga0"}])["HostConfig"]["Devices"]

    assert device == {"PathOnHost": "/dev/fpga0", "PathInContainer": "/dev/fpga0", "CgroupPermissions": "rwm"}


def test_gpus_are_all_or_named() -> None:
    assert request(gpus="all")["HostConfig"]["DeviceRequests"] == [{"Count": -1, "Capabilities": [["gpu"]]}]
    with pytest.raises(ResourceError, match="gpus can only be `all`"):
        request(gpus="0")


def test_wrong_duration_is_named() -> None:
    with pytest.raises(ResourceError, match="'soon' is no duration"):
        request(healthcheck={"tests": ["CMD", "true"], "interval": "soon"})


@pytest.mark.parametrize(
    ("text", "count", "again"),
    [
        ("0s", 0, "0s"),
        ("30s", 30 * 10**9, "30s"),
        ("90s", 90 * 10**9, "1m30s"),
        ("1h", 3600 * 10**9, "1h0m0s"),
        ("1m", 60 * 10**9, "1m0s"),
        ("500ms", 5 * 10**8, "500ms"),
        ("1.5s", 1_500_000_000, "1.5s"),
        ("1h2m3.5s", 3_723_500_000_000, "1h2m3.5s"),
        ("250us", 250_000, "250µs"),
    ],
)
def test_durations_are_read_and_written_as_in_go(text: str, count: int, again: str) -> None:
    assert durations.nanoseconds(text) == count
    assert durations.written(count) == again


@given(st.integers(min_value=0, max_value=10**17))
def test_durations_survive_the_way_there_and_back(count: int) -> None:
    assert durations.nanoseconds(durations.written(count)) == count


@pytest.mark.parametrize(
    "upload", [{"content": "x"}, {"contentBase64": base64.b64encode(b"x").decode()}, {"source": "FILE"}]
)
def test_upload_is_one_file_in_an_archive(upload: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    if "source" in upload:
        upload = {"source": str(tmp_path / "file")}

    with tarfile.open(fileobj=io.BytesIO(archive_of({"file": "/a/b", "executable": True, **upload}))) as archive:
        (entry,) = archive.getmembers()
        content = archive.extractfile(entry)
        assert (entry.name, entry.mode) == ("a/b", 0o744)
        assert content is not None
        assert content.read() == b"x"


def test_upload_needs_one_content() -> None:
    with pytest.raises(ResourceError, match=r"exactly one of content, contentBase64 and source; it has none"):
        archive_of({"file": "/a"})
    with pytest.raises(ResourceError, match="it has content and source"):
        archive_of({"file": "/a", "content": "x", "source": "/b"})


def found(**changes: Any) -> dict[str, Any]:
    """What the engine says of a running container."""
    return {
        "Id": "f" * 64,
        "Name": "/a",
        "Image": "sha256:1",
        "State": {"Running": True, "Status": "running"},
        "Config": {"Image": "b", "Env": ["PATH=/bin"], "Labels": {"from": "the image"}, "Cmd": ["c"]},
        "HostConfig": {"Memory": 64 * 2**20, "MemorySwap": -1, "RestartPolicy": {"Name": "always"}},
        "NetworkSettings": {},
        **changes,
    }


def test_environment_and_labels_are_no_facts() -> None:
    assert not {"envs", "labels"} & facts_of(found()).keys()


def test_facts_are_in_the_program_s_units() -> None:
    facts = facts_of(found())

    assert (facts["memory"], facts["memorySwap"], facts["restart"], facts["name"]) == (64, -1, "always", "a")


def test_ports_are_in_the_order_of_their_numbers() -> None:
    ports = {
        "8000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}],
        "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "5353"}],
        "9/tcp": None,
    }

    facts = facts_of(found(NetworkSettings={"Ports": ports}))

    assert [(port["internal"], port["external"]) for port in facts["ports"]] == [(53, 5353), (8000, 32768)]


def test_exit_code_is_that_of_a_container_that_ended() -> None:
    assert "exitCode" not in facts_of(found())
    assert facts_of(found(State={"Running": False, "ExitCode": 7}))["exitCode"] == 7


class StoppedContainer:
    """An engine with one container that was stopped."""

    def __init__(self) -> None:
        self.running = False

    def start(self, container: str) -> None:
        self.running = True

    def inspect_container(self, container: str) -> dict[str, Any]:
        return found(State={"Running": self.running, "Status": "running" if self.running else "exited", "ExitCode": 0})


@pytest.mark.parametrize(("inputs", "runs"), [({"mustRun": True}, True), ({"mustRun": True, "start": False}, False)])
def test_container_that_was_stopped_is_started_when_it_must_run(inputs: dict[str, Any], runs: bool) -> None:
    engine = StoppedContainer()
    connection: Any = SimpleNamespace(api=engine)
    context: Any = SimpleNamespace(cancelled=threading.Event())
    news = {"name": "a", "image": "b", "restart": "no", **inputs}

    Container().update(connection, context, "f" * 64, {"name": "a", "mustRun": False, "restart": "no"}, news)

    assert engine.running is runs
