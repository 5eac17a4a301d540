"""How Pulumi's docker plugin behaves: the description that the official one and the stand-in are both held to.

Every test runs a program through Pulumi and a real engine; which plugin it meets is printed at the start of the run.
"""

from __future__ import annotations

import gc
import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pulumi_docker
import pytest
from pulumi import automation

from tests.docker.engine import Docker
from tests.docker.programs import Program

SLEEP = ["sleep", "3600"]
SECRET = "4dabf18193072939515e22adb298388d"
"""The key of an object in Pulumi's state that wraps a secret."""

# Pulumi's server for programs inside this process leaves the sockets of its event loop to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def program(tmp_path: Path, docker: Docker) -> Iterator[Program]:
    running = Program(tmp_path / "stack", docker.host)
    yield running
    running.destroy()
    gc.collect()  # of failed programs too, while their warnings are expected


@pytest.fixture(scope="session")
def image(docker: Docker, address: str, base: str) -> str:
    """An image that the engine has, by digest."""
    reference = f"{address}/{base}"
    docker.run("pull", "--quiet", reference)
    return reference


@pytest.fixture
def name() -> str:
    return f"conformance-{secrets.token_hex(4)}"


def container(image: str, name: str, **arguments: Any) -> Callable[[], Any]:
    """A program with one container that sleeps."""
    arguments = {"command": SLEEP, "destroy_grace_seconds": 0, "name": name, **arguments}
    return lambda: pulumi_docker.Container("it", image=image, **arguments)


def inspect(docker: Docker, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker.run("inspect", name))[0]
    return found


# --- networks and volumes ---


def test_network_gets_a_name_that_stays(program: Program, docker: Docker) -> None:
    program.up(lambda: pulumi_docker.Network("net"))

    state = program.resource("net")
    assert re.fullmatch(r"net-[0-9a-f]{7}", state["outputs"]["name"])
    assert state["inputs"]["__defaults"] == ["ipamDriver", "name"]
    assert inspect(docker, state["outputs"]["name"])["Id"] == state["id"]
    assert program.preview() == {"same": 2}
    program.refresh()
    assert program.preview() == {"same": 2}


def test_network_state_is_what_the_engine_says(program: Program, name: str) -> None:
    def declare() -> None:
        pulumi_docker.Network("net", name=name, labels=[{"label": "team", "value": "vision"}], internal=True)

    program.up(declare)

    outputs = program.outputs("net")
    assert outputs["driver"] == "bridge"
    assert outputs["scope"] == "local"
    assert outputs["internal"] is True
    assert outputs["labels"] == [{"label": "team", "value": "vision"}]
    assert len(outputs["ipamConfigs"]) == 1
    assert json.loads(outputs["__meta"])["schema_version"] == "1"


@pytest.mark.parametrize(
    "change",
    [{"internal": True}, {"labels": [{"label": "a", "value": "b"}]}, {"options": {"a": "b"}}, {"name": "other"}],
)
def test_every_change_replaces_a_network(program: Program, name: str, change: dict[str, Any]) -> None:
    program.up(lambda: pulumi_docker.Network("net", name=name))

    assert program.steps(lambda: pulumi_docker.Network("net", **{"name": name, **change})) == {"net": "replace"}


def test_network_that_is_gone_is_made_again(program: Program, docker: Docker, name: str) -> None:
    program.up(lambda: pulumi_docker.Network("net", name=name))
    docker.run("network", "rm", name)

    program.refresh()

    assert program.steps() == {"net": "create"}


def test_volume_has_its_name_as_id(program: Program, docker: Docker) -> None:
    program.up(lambda: pulumi_docker.Volume("vol", labels=[{"label": "a", "value": "b"}]))

    state = program.resource("vol")
    assert re.fullmatch(r"vol-[0-9a-f]{7}", state["id"])
    assert state["outputs"]["name"] == state["id"]
    assert state["outputs"]["mountpoint"] == inspect(docker, state["id"])["Mountpoint"]
    assert state["outputs"]["driver"] == "local"
    program.refresh()
    assert program.preview() == {"same": 2}


def test_every_change_replaces_a_volume(program: Program, name: str) -> None:
    program.up(lambda: pulumi_docker.Volume("vol", name=name))

    for change in ({"labels": [{"label": "a", "value": "b"}]}, {"driver_opts": {"type": "tmpfs"}}, {"name": "other"}):
        steps = program.steps(lambda change=change: pulumi_docker.Volume("vol", **{"name": name, **change}))
        assert steps == {"vol": "replace"}


def test_destroy_leaves_neither_network_nor_volume(program: Program, docker: Docker, name: str) -> None:
    def declare() -> None:
        pulumi_docker.Network("net", name=name)
        pulumi_docker.Volume("vol", name=name)

    program.up(declare)
    program.destroy()

    assert docker.attempt("network", "inspect", name).returncode != 0
    assert docker.attempt("volume", "inspect", name).returncode != 0


# --- containers ---


def test_container_has_its_defaults(program: Program, image: str, name: str) -> None:
    program.up(container(image, name))

    state = program.resource("it")
    expected = {
        "attach": False,
        "logs": False,
        "mustRun": True,
        "networkMode": "bridge",
        "readOnly": False,
        "removeVolumes": True,
        "restart": "no",
        "rm": False,
        "start": True,
        "stdinOpen": False,
        "tty": False,
        "wait": False,
        "waitTimeout": 60,
    }
    assert {key: state["inputs"][key] for key in expected} == expected
    assert set(expected) <= set(state["inputs"]["__defaults"])
    assert {key: state["outputs"][key] for key in expected} == expected
    assert json.loads(state["outputs"]["__meta"])["schema_version"] == "2"
    assert re.fullmatch(r"[0-9a-f]{64}", state["id"])


def test_container_reads_as_it_was_made(
    program: Program, docker: Docker, image: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / "upload.txt").write_text("from a file")

    def declare() -> None:
        network = pulumi_docker.Network("net", name=name)
        volume = pulumi_docker.Volume("vol", name=name)
        pulumi_docker.Container(
            "it",
            name=name,
            image=image,
            command=SLEEP,
            capabilities={"drops": ["ALL"]},
            cpu_shares=512,
            cpus="0.5",
            dns=["127.0.0.1"],
            envs=["A=1", "B=2"],
            group_adds=["65532"],
            healthcheck={"tests": ["CMD", "true"], "interval": "1m30s", "retries": 3, "timeout": "500ms"},
            hosts=[{"host": "one.example", "ip": "192.0.2.1"}],
            init=True,
            labels=[{"label": "b", "value": "2"}, {"label": "a", "value": "1"}],
            log_driver="json-file",
            log_opts={"max-size": "1m", "max-file": "2"},
            memory=64,
            memory_swap=64,
            mounts=[
                {"type": "volume", "source": volume.name, "target": "/run/shared"},
                {"type": "tmpfs", "target": "/tmp", "tmpfs_options": {"size_bytes": 1048576}},  # noqa: S108
            ],
            networks_advanced=[{"name": network.name, "aliases": ["alias"]}],
            ports=[{"internal": 8000}],
            restart="unless-stopped",
            security_opts=["no-new-privileges"],
            sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
            ulimits=[{"name": "nofile", "soft": 1024, "hard": 2048}],
            uploads=[
                {"file": "/run/shared/inline.txt", "content": "inline"},
                {"file": "/run/shared/file.txt", "source": str(tmp_path / "upload.txt")},
            ],
            user="65532:65532",
            working_dir="/run",
        )

    program.up(declare)

    found = inspect(docker, name)
    assert found["HostConfig"]["Memory"] == 64 * 1024 * 1024
    assert found["HostConfig"]["NanoCpus"] == 500_000_000
    assert found["Config"]["Healthcheck"]["Interval"] == 90_000_000_000
    assert docker.run("exec", name, "cat", "/run/shared/inline.txt", "/run/shared/file.txt") == "inlinefrom a file"
    outputs = program.outputs("it")
    assert outputs["ports"][0]["external"] > 0
    assert outputs["networkDatas"][0]["networkName"] == name
    assert outputs["healthcheck"]["interval"] == "1m30s"
    assert program.preview() == {"same": 4}
    program.refresh()
    assert program.preview() == {"same": 4}


REPLACING = {
    "capabilities": {"drops": ["ALL"]},
    "command": ["sleep", "3601"],
    "cpus": "0.5",
    "dns": ["127.0.0.1"],
    "domainname": "example",
    "entrypoints": ["/usr/bin/env"],
    "envs": ["A=1"],
    "group_adds": ["65532"],
    "hostname": "host",
    "hosts": [{"host": "a", "ip": "192.0.2.1"}],
    "image": "another",
    "ipc_mode": "shareable",
    "labels": [{"label": "a", "value": "b"}],
    "log_opts": {"max-size": "1m"},
    "mounts": [{"type": "tmpfs", "target": "/tmp"}],  # noqa: S108
    "name": "another",
    "network_mode": "host",
    "networks_advanced": [{"name": "bridge"}],
    "ports": [{"internal": 80}],
    "privileged": True,
    "read_only": True,
    "security_opts": ["no-new-privileges"],
    "stdin_open": True,
    "sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
    "tty": True,
    "ulimits": [{"name": "nofile", "soft": 1024, "hard": 2048}],
    "uploads": [{"file": "/a", "content": "b"}],
    "user": "65532",
    "volumes": [{"container_path": "/data"}],
    "working_dir": "/run",
}
IN_PLACE = {
    "cpu_period": 100000,
    "cpu_quota": 50000,
    "cpu_set": "0",
    "cpu_shares": 512,
    "destroy_grace_seconds": 5,
    "healthcheck": {"tests": ["CMD", "true"]},
    "init": True,
    "logs": True,
    "max_retry_count": 3,
    "memory": 64,
    "memory_reservation": 32,
    "memory_swap": 64,
    "must_run": True,
    "remove_volumes": False,
    "restart": "always",
    "start": True,
    "tmpfs": {"/tmp": "size=1m"},  # noqa: S108
    "wait_timeout": 30,
}


def test_which_changes_need_a_new_container(program: Program, image: str, name: str) -> None:
    changes = {**REPLACING, **IN_PLACE}

    def declare(*, changed: bool) -> None:
        # One container for each property, none of them started: one deployment and one preview try them all.
        for key, value in changes.items():
            arguments = {"name": f"{name}-{key}", "image": image, "command": SLEEP, "start": False, "must_run": False}
            if changed:
                arguments[key] = value
            pulumi_docker.Container(key, **arguments)

    program.up(lambda: declare(changed=False))

    assert program.steps(lambda: declare(changed=True)) == {
        **dict.fromkeys(REPLACING, "replace"),
        **dict.fromkeys(IN_PLACE, "update"),
    }


def test_order_of_sets_is_no_change(program: Program, image: str, name: str) -> None:
    labels = [{"label": "a", "value": "1"}, {"label": "b", "value": "2"}]
    program.up(container(image, name, envs=["A=1", "B=2"], labels=labels))

    assert program.preview(container(image, name, envs=["B=2", "A=1"], labels=labels[::-1])) == {"same": 2}


def test_old_container_goes_before_the_new_one_comes(program: Program, docker: Docker, image: str, name: str) -> None:
    program.up(container(image, name))
    before = inspect(docker, name)["Id"]

    program.up(container(image, name, envs=["A=1"]))

    after = inspect(docker, name)
    assert after["Id"] != before
    assert "A=1" in after["Config"]["Env"]
    assert docker.attempt("inspect", before).returncode != 0


def test_limits_and_restart_policy_change_in_place(program: Program, docker: Docker, image: str, name: str) -> None:
    program.up(container(image, name, memory=64, memory_swap=64))
    before = inspect(docker, name)

    program.up(container(image, name, memory=96, memory_swap=96, cpu_shares=256, restart="unless-stopped"))

    after = inspect(docker, name)
    assert after["Id"] == before["Id"]
    assert after["State"]["StartedAt"] == before["State"]["StartedAt"]
    assert after["HostConfig"]["Memory"] == 96 * 1024 * 1024
    assert after["HostConfig"]["CpuShares"] == 256
    assert after["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert program.preview() == {"same": 2}


def test_networks_take_the_place_of_bridge(program: Program, docker: Docker, image: str, name: str) -> None:
    def declare() -> None:
        network = pulumi_docker.Network("net", name=name)
        container(image, name, networks_advanced=[{"name": network.name}])()

    program.up(declare)

    assert list(inspect(docker, name)["NetworkSettings"]["Networks"]) == [name]


def test_published_port_is_known(program: Program, docker: Docker, image: str, name: str) -> None:
    program.up(container(image, name, ports=[{"internal": 8000}, {"internal": 53, "protocol": "udp"}]))

    ports = program.outputs("it")["ports"]
    assert [(port["internal"], port["ip"], port["protocol"]) for port in ports] == [
        (53, "0.0.0.0", "udp"),
        (8000, "0.0.0.0", "tcp"),
    ]
    assert docker.run("port", name, "8000/tcp") == f"0.0.0.0:{ports[1]['external']}"


def test_stopped_container_is_made_again(program: Program, docker: Docker, image: str, name: str) -> None:
    program.up(container(image, name, ports=[{"internal": 8000}]))
    before = inspect(docker, name)["Id"]
    docker.run("stop", "--time", "0", name)

    program.refresh()

    outputs = program.outputs("it")
    assert outputs["mustRun"] is False
    assert outputs["ports"] == []
    assert program.steps() == {"it": "replace"}
    program.up()
    assert inspect(docker, name)["State"]["Running"]
    assert inspect(docker, name)["Id"] != before


def test_removed_container_is_made_again(program: Program, docker: Docker, image: str, name: str) -> None:
    program.up(container(image, name))
    docker.run("rm", "--force", name)

    program.refresh()
    assert program.steps() == {"it": "create"}
    program.up()

    assert inspect(docker, name)["State"]["Running"]


def test_limit_that_was_changed_by_hand_is_found_and_put_back(
    program: Program, docker: Docker, image: str, name: str
) -> None:
    program.up(container(image, name, memory=64, memory_swap=64))
    docker.run("update", "--memory", "80m", "--memory-swap", "80m", name)

    program.refresh()
    assert program.steps() == {"it": "update"}
    program.up()

    assert inspect(docker, name)["HostConfig"]["Memory"] == 64 * 1024 * 1024


def test_environment_and_labels_are_not_read_back(program: Program, image: str, name: str) -> None:
    program.up(container(image, name, envs=["A=1"], labels=[{"label": "a", "value": "1"}]))

    program.refresh()

    assert program.outputs("it")["envs"] == ["A=1"]
    assert program.outputs("it")["labels"] == [{"label": "a", "value": "1"}]


def test_secret_stays_secret(program: Program, image: str, name: str) -> None:
    program.up(lambda: container(image, name, envs=[pulumi.Output.secret("KEY=hidden")])())

    # An exported state tells the secret, in the wrapping that marks one.
    state = program.resource("it")
    assert SECRET in state["inputs"]["envs"]
    assert SECRET in state["outputs"]["envs"]
    assert program.preview() == {"same": 2}


def test_destroy_gives_the_time_that_was_asked_for(program: Program, docker: Docker, image: str, name: str) -> None:
    farewell = "trap 'echo bye > /data/bye; exit 0' TERM; touch /data/ready; while :; do sleep 0.1; done"
    volume = f"{name}-data"
    docker.run("volume", "create", volume)
    try:
        program.up(
            container(
                image,
                name,
                command=["sh", "-c", farewell],
                destroy_grace_seconds=10,
                volumes=[{"container_path": "/data", "volume_name": volume}],
                healthcheck={"tests": ["CMD", "test", "-e", "/data/ready"], "interval": "200ms"},
                wait=True,
            )
        )
        program.destroy()

        assert docker.attempt("inspect", name).returncode != 0
        assert docker.run("run", "--rm", "--volume", f"{volume}:/data", image, "cat", "/data/bye") == "bye"
    finally:
        docker.run("volume", "rm", volume)


def test_container_that_ends_at_once_fails_the_deployment(program: Program, image: str, name: str) -> None:
    with pytest.raises(automation.CommandError, match=r"exited|ended"):
        program.up(container(image, name, command=["sh", "-c", "echo no luck; exit 7"]))


def test_container_that_may_end_reports_its_exit_code(program: Program, image: str, name: str) -> None:
    declare = container(image, name, command=["sh", "-c", "echo done; exit 7"], must_run=False, attach=True, logs=True)
    program.up(declare)

    outputs = program.outputs("it")
    assert outputs["exitCode"] == 7
    assert "done" in outputs["containerLogs"]


def test_image_that_cannot_be_had_is_named(program: Program, address: str, name: str) -> None:
    missing = f"{address}/base/missing@sha256:{'0' * 64}"

    with pytest.raises(automation.CommandError, match=re.escape(missing)):
        program.up(container(missing, name))


def test_name_that_is_taken_is_named(program: Program, docker: Docker, image: str, name: str) -> None:
    docker.run("run", "--detach", "--name", name, image, *SLEEP)
    try:
        with pytest.raises(automation.CommandError, match=name):
            program.up(container(image, name))

        assert inspect(docker, name)["State"]["Running"]
    finally:
        docker.run("rm", "--force", name)


def test_property_that_is_not_known_is_an_error(program: Program, name: str) -> None:
    with pytest.raises(automation.CommandError, match="colour"):
        program.up(lambda: _Raw("docker:index/network:Network", "net", {"name": name, "colour": "red"}))


def test_type_that_is_not_known_is_an_error(program: Program) -> None:
    with pytest.raises(automation.CommandError, match="docker:index/nothing:Nothing"):
        program.up(lambda: _Raw("docker:index/nothing:Nothing", "it", {}))


class _Raw(pulumi.CustomResource):
    """A resource of a type and with properties that the package does not know."""

    def __init__(self, token: str, name: str, properties: dict[str, Any]) -> None:
        super().__init__(token, name, properties, pulumi.ResourceOptions(version="5.2.0"))


# --- images ---


def test_image_that_is_there_is_not_pulled(program: Program, docker: Docker, image: str, name: str) -> None:
    tag = f"localhost:1/{name}:one"  # nothing could be pulled from there
    docker.run("tag", image, tag)

    program.up(lambda: pulumi_docker.RemoteImage("img", name=tag))

    state = program.resource("img")
    identity = inspect(docker, tag)["Id"]
    assert state["id"] == f"{identity}{tag}"
    assert state["outputs"]["imageId"] == identity
    program.refresh()
    assert program.preview() == {"same": 2}
    program.destroy()
    assert docker.attempt("inspect", tag).returncode != 0


def test_image_is_pulled_where_it_is_missing(program: Program, docker: Docker, image: str, base: str) -> None:
    address = image.removesuffix(f"/{base}")
    tag = f"{address}/base/python:debian12"
    docker.attempt("rmi", "--force", tag)

    program.up(lambda: pulumi_docker.RemoteImage("img", name=tag, keep_locally=True))

    digest = base.partition("@")[2]
    assert program.outputs("img")["repoDigest"] == f"{address}/base/python@{digest}"
    program.destroy()
    assert docker.attempt("inspect", tag).returncode == 0


def test_image_of_the_engine_is_made_a_container_by_its_id(
    program: Program, docker: Docker, image: str, name: str
) -> None:
    def declare() -> None:
        pulled = pulumi_docker.RemoteImage("img", name=image, keep_locally=True)
        pulumi_docker.Container("it", name=name, image=pulled.image_id, command=SLEEP)

    program.up(declare)

    assert program.outputs("it")["image"] == inspect(docker, image)["Id"]
    assert program.preview() == {"same": 3}


# --- images that are built ---


@pytest.fixture
def source(tmp_path: Path, image: str) -> Path:
    """A folder with a Dockerfile that needs the build argument GREETING."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        f'FROM {image}\nARG GREETING\nRUN echo "$GREETING" > /greeting\nCOPY note.txt /note.txt\n'
    )
    (folder / "note.txt").write_text("one")
    (folder / ".dockerignore").write_text("*.tmp\n")
    return folder


def built(source: Path, tag: str, **arguments: Any) -> Callable[[], Any]:
    """A program with one image that is built from `source`."""
    build = {
        "context": str(source),
        "args": {"GREETING": "hello"},
        "platform": "linux/amd64",
        **arguments.pop("build", {}),
    }
    return lambda: pulumi_docker.Image("img", image_name=tag, build=build, **arguments)


def test_image_is_built_and_pushed(program: Program, docker: Docker, address: str, source: Path, name: str) -> None:
    tag = f"{address}/built/{name}:1"

    program.up(built(source, tag))

    state = program.resource("img")
    outputs = state["outputs"]
    assert state["id"] == tag
    assert outputs["imageName"] == tag
    assert outputs["dockerfile"] == "Dockerfile"
    assert re.fullmatch(re.escape(f"{address}/built/{name}@sha256:") + "[0-9a-f]{64}", outputs["repoDigest"])
    assert len(state["inputs"]["build"]["contextDigest"]) == 64
    assert SECRET in outputs["__inputs"]
    docker.run("rmi", "--force", tag)
    assert docker.run("run", "--rm", "--pull", "always", outputs["repoDigest"], "cat", "/greeting", "/note.txt") == (
        "hello\none"
    )
    assert program.preview() == {"same": 2}
    program.refresh()
    assert program.preview() == {"same": 2}


def test_change_of_a_file_builds_again(program: Program, address: str, source: Path, name: str) -> None:
    program.up(built(source, f"{address}/built/{name}:1"))
    before = program.outputs("img")["repoDigest"]
    (source / "note.txt").write_text("two")

    assert program.steps() == {"img": "update"}
    program.up()

    assert program.outputs("img")["repoDigest"] != before


def test_file_that_is_ignored_is_no_change(program: Program, docker: Docker, source: Path, name: str) -> None:
    program.up(built(source, f"localhost:1/{name}:1", skip_push=True))
    (source / "notes.tmp").write_text("draft")

    assert program.preview() == {"same": 2}
    docker.run("rmi", "--force", f"localhost:1/{name}:1")


def test_credentials_are_no_change(program: Program, address: str, source: Path, name: str) -> None:
    tag = f"{address}/built/{name}:1"
    registry = {"server": address, "username": "one", "password": "first"}
    program.up(built(source, tag, registry=registry))

    assert program.preview(built(source, tag, registry={**registry, "password": "second"})) == {"same": 2}


def test_image_that_is_not_pushed_stays_after_destroy(
    program: Program, docker: Docker, source: Path, name: str
) -> None:
    tag = f"localhost:1/{name}:1"  # nothing could be pushed there
    program.up(built(source, tag, skip_push=True))

    program.destroy()

    assert docker.run("run", "--rm", tag, "cat", "/note.txt") == "one"
    docker.run("rmi", "--force", tag)


def test_preview_builds_nothing(program: Program, docker: Docker, source: Path, name: str) -> None:
    tag = f"localhost:1/{name}:1"

    assert program.steps(built(source, tag, skip_push=True)) == {"img": "create"}

    assert docker.attempt("inspect", tag).returncode != 0


def test_failed_build_says_why(program: Program, source: Path, image: str, name: str) -> None:
    (source / "Dockerfile").write_text(f"FROM {image}\nRUN echo no luck today && exit 3\n")

    with pytest.raises(automation.CommandError, match="no luck today"):
        program.up(built(source, f"localhost:1/{name}:1", skip_push=True))


def test_missing_dockerfile_is_found_by_the_preview(program: Program, source: Path, name: str) -> None:
    (source / "Dockerfile").unlink()

    with pytest.raises(automation.CommandError, match=r"(?i)dockerfile"):
        program.preview(built(source, f"localhost:1/{name}:1", skip_push=True))


def test_file_of_the_context_can_be_used_without_being_in_a_layer(
    program: Program, docker: Docker, source: Path, image: str, name: str
) -> None:
    tag = f"localhost:1/{name}:1"
    (source / "password.txt").write_text("hidden-in-plain-sight")
    (source / "Dockerfile").write_text(
        f"FROM {image}\nRUN --mount=type=bind,source=password.txt,target=/run/password.txt "
        "wc -c /run/password.txt > /count\n"
    )

    program.up(built(source, tag, skip_push=True))

    assert docker.run("run", "--rm", tag, "cat", "/count").startswith("21 ")
    archive = source / "image.tar"
    docker.run("save", "--output", str(archive), tag)
    assert b"hidden-in-plain-sight" not in archive.read_bytes()
    docker.run("rmi", "--force", tag)


# --- images in a registry ---


def test_image_is_pushed_and_removed_from_the_registry(
    program: Program, docker: Docker, address: str, image: str, name: str
) -> None:
    tag = f"{address}/pushed/{name}:1"
    docker.run("tag", image, tag)

    def declare() -> None:
        credentials = {"address": address, "username": "any", "password": "any"}
        pulumi_docker.RegistryImage("img", name=tag, auth_config=credentials)

    program.up(declare)

    state = program.resource("img")
    assert state["id"] == state["outputs"]["sha256Digest"]
    docker.run("rmi", "--force", tag)
    docker.run("pull", "--quiet", tag)
    assert program.preview() == {"same": 2}
    program.refresh()
    assert program.preview() == {"same": 2}
    program.destroy()
    docker.run("rmi", "--force", tag)
    assert docker.attempt("pull", "--quiet", tag).returncode != 0


def test_registry_without_credentials_is_an_error(
    program: Program, docker: Docker, image: str, address: str, name: str
) -> None:
    tag = f"{address}/pushed/{name}:1"
    docker.run("tag", image, tag)

    with pytest.raises(automation.CommandError, match=r"auth config found|no credentials"):
        program.up(lambda: pulumi_docker.RegistryImage("img", name=tag))
    docker.run("rmi", "--force", tag)
