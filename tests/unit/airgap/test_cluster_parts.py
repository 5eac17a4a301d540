"""The parts of the test cluster that need no cluster."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from airgap.cluster import __main__ as command
from airgap.cluster import host_network, images, other, pki, processes, programs, registry, settings
from airgap.cluster.place import API_SERVICE, Place, node_name
from infra.setup.problem import SetupError


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "cluster")
    place.configuration.mkdir(parents=True)
    return place


def program(folder: Path, name: str, script: str = "exit 0") -> None:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def test_a_cluster_that_is_named_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.touch()
    monkeypatch.setenv("KUBECONFIG", f"{kubeconfig}{os.pathsep}/elsewhere")

    assert command.up(place, []) == kubeconfig
    assert list(place.folder.iterdir()) == [place.configuration]


def test_a_named_kubeconfig_that_is_missing() -> None:
    with pytest.raises(SetupError, match="KUBECONFIG names a file that is not there") as caught:
        other.named({"KUBECONFIG": "/nowhere/config"})
    assert caught.value.where == "/nowhere/config"


def test_no_cluster_is_named() -> None:
    assert other.named({}) is None
    assert other.named({"KUBECONFIG": ""}) is None


def test_a_tool_is_used_where_its_engine_answers(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    program(folder, "minikube")
    program(folder, "docker", "exit 1")
    assert other.tool(str(folder)) is None

    program(folder, "docker")
    assert other.tool(str(folder)) == other.by_name("minikube")

    program(folder, "kind")
    assert other.tool(str(folder)) == other.by_name("kind")


def test_kind_makes_and_removes_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    calls = tmp_path / "calls"
    program(tmp_path / "bin", "kind", f'echo "$@" >> {calls}; [ "$1" = delete ] || echo config > "$6"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    kind = other.by_name("kind")

    other.create(kind, place.kubeconfig)
    other.create(kind, place.kubeconfig)
    assert place.kubeconfig.read_text() == "config\n"
    assert place.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert [line.split()[0] for line in calls.read_text().splitlines()] == ["delete", "create"]

    other.delete(kind, place.kubeconfig)
    assert not place.kubeconfig.exists()


def test_a_tool_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    program(tmp_path / "bin", "kind", "echo no space >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    with pytest.raises(SetupError, match="kind create cluster failed: no space"):
        other.create(other.by_name("kind"), place.kubeconfig)
    assert not place.kubeconfig.exists()


def test_certificates_are_made_once_and_name_the_machine(place: Place) -> None:
    pki.make(place, "node-1", "192.0.2.7")
    first = (place.pki / "apiserver.crt").read_bytes()
    pki.make(place, "node-1", "192.0.2.7")
    assert (place.pki / "apiserver.crt").read_bytes() == first

    names = x509.load_pem_x509_certificate(first).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "node-1", "kubernetes.default.svc"} <= set(names.get_values_for_type(x509.DNSName))
    assert {str(ip) for ip in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "192.0.2.7", API_SERVICE}
    assert all(file.stat().st_mode & 0o077 == 0 for file in place.pki.glob("*.key"))


def test_a_kubeconfig_holds_its_certificates(place: Place) -> None:
    pki.make(place, "node-1", "192.0.2.7")

    document = yaml.safe_load(place.kubeconfig.read_text())
    held = base64.b64decode(document["users"][0]["user"]["client-certificate-data"])
    assert held == (place.pki / "admin.crt").read_bytes()
    assert place.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_a_registry_without_tls(place: Place) -> None:
    settings.allow_plain_http(place, "registry.test:5000")

    written = (place.registries / "registry.test:5000" / "hosts.toml").read_text()
    assert '[host."http://registry.test:5000"]' in written
    with pytest.raises(ValueError, match="HOST or HOST:PORT"):
        settings.allow_plain_http(place, "../elsewhere")


def test_missing_packages_are_named_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(programs, "PATH", str(tmp_path))
    monkeypatch.setattr(programs, "CNI", tmp_path)

    with pytest.raises(SetupError) as caught:
        programs.check_debian()
    assert caught.value.mend == (
        "apt-get install --no-install-recommends containerd containernetworking-plugins etcd-server iproute2 "
        "iptables mount runc"
    )


def test_programs_in_the_cache_are_not_built_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for module in programs.MODULES:
        for made in module.programs:
            module.folder.mkdir(parents=True, exist_ok=True)
            programs.built(module, made.name).touch()
    monkeypatch.setenv("PATH", "")

    programs.build_missing()

    programs.built(programs.COREDNS, "coredns").unlink()
    with pytest.raises(SetupError, match="there is no Go to build one"):
        programs.build_missing()


def test_versions_are_those_of_the_modules() -> None:
    for module in (*programs.MODULES, programs.TRAEFIK):
        pinned = (programs.HERE / module.name / "go.mod").read_text()
        for made in module.programs:
            assert (
                made.package in pinned.splitlines()[0]
                or f"tool {made.package}" in pinned
                or f"\t{made.package}\n" in pinned
            )
    assert f"k8s.io/kubernetes v{programs.KUBERNETES_VERSION}" in (programs.HERE / "kubernetes/go.mod").read_text()
    assert f"traefik/v3 v{programs.TRAEFIK_VERSION}" in (programs.HERE / "traefik/go.mod").read_text()
    assert f"coredns v{programs.COREDNS_VERSION}" in (programs.HERE / "coredns/go.mod").read_text()
    assert f"metrics-server v{programs.METRICS_SERVER_VERSION}" in (
        (programs.HERE / "metrics_server/go.mod").read_text()
    )


def test_an_image_is_the_same_for_the_same_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    programs.PAUSE.folder.mkdir(parents=True)
    programs.built(programs.PAUSE, "pause").write_bytes(b"a program")

    images.write(images.IMAGES[0], tmp_path / "one.tar")
    images.write(images.IMAGES[0], tmp_path / "two.tar")

    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        index = json.loads(archive.extractfile("index.json").read())  # type: ignore[union-attr]
    assert index["manifests"][0]["annotations"] == {"io.containerd.image.name": settings.PAUSE_IMAGE}


def test_the_image_of_a_registry_is_this_machine_s_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copy("/bin/ls", tmp_path / "docker-registry")  # any program with libraries
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    registry.write(tmp_path / "image.tar")

    with tarfile.open(tmp_path / "image.tar") as archive:
        documents = {
            name: json.loads(archive.extractfile(name).read())  # type: ignore[union-attr]
            for name in archive.getnames()
            if archive.getmember(name).size < 10_000
        }
        (layer,) = (name for name in archive.getnames() if archive.getmember(name).size > 10_000)
        with tarfile.open(fileobj=archive.extractfile(layer)) as files:
            names = files.getnames()
    (config,) = (document["config"] for document in documents.values() if "rootfs" in document)
    assert config == {"Entrypoint": ["/bin/registry"], "User": "65532:65532"}
    assert documents["index.json"]["manifests"][0]["annotations"] == {"io.containerd.image.name": registry.IMAGE}
    assert "bin/registry" in names
    assert [name for name in names if "libc.so" in name], "with what it is linked with"


def test_an_image_of_a_registry_needs_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="there is no registry program on PATH"):
        registry.write(tmp_path / "image.tar")


def test_rules_that_lead_to_our_chains() -> None:
    rules = [
        ":FORWARD ACCEPT [0:0]",
        ":DOCKER-USER - [0:0]",
        ":KUBE-FORWARD - [0:0]",
        ":SLIPWAY-FORWARD - [0:0]",
        "-A FORWARD -m comment --comment kubernetes -j KUBE-FORWARD",
        "-A FORWARD -j DOCKER-USER",
        "-A KUBE-FORWARD -j SLIPWAY-FORWARD",
    ]
    ours = list(host_network._chains(rules))

    assert ours == ["KUBE-FORWARD", "SLIPWAY-FORWARD"]
    assert [rule for rule in rules if host_network._leads_to(rule, ours)] == [rules[4]]


def test_a_node_is_called_after_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "My_Machine.Example")
    assert node_name() == "my-machine-example"


def test_a_process_is_known_by_its_start(place: Place) -> None:
    place.processes.mkdir()
    place.logs.mkdir()
    daemon = processes.Daemon(place, "sleeper")
    daemon.start(["sleep", "60"])
    pid = daemon.pid()
    assert pid is not None
    daemon.start(["sleep", "60"])
    assert daemon.pid() == pid

    # A process that took over the number of one that ended.
    note = place.processes / "sleeper.json"
    known = json.loads(note.read_text())
    note.write_text(json.dumps({**known, "started": "1"}))
    assert daemon.pid() is None

    note.write_text(json.dumps(known))
    daemon.stop()
    assert processes.started_at(pid) is None


def test_a_daemon_that_nobody_could_note_does_not_run(place: Place) -> None:
    place.processes.mkdir()
    place.logs.mkdir()
    made = place.folder / "made"
    killed_before_its_note = (
        "import os; from pathlib import Path; from airgap.cluster import place, processes\n"
        "processes.started_at = lambda pid: os.kill(os.getpid(), 9)\n"
        f"processes.Daemon(place.Place(Path({str(place.folder)!r})), 'toucher').start(['touch', {str(made)!r}])\n"
    )

    done = subprocess.run([sys.executable, "-c", killed_before_its_note], check=False)

    assert done.returncode == -signal.SIGKILL
    processes.wait_until(lambda: not named_in_a_command(str(made)), 10, "what was started did not end", "")
    assert not made.exists()


def named_in_a_command(word: str) -> list[str]:
    """The commands of processes that run and have `word` in them."""
    commands = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            commands.append(entry.read_bytes().decode(errors="replace"))
    return [command for command in commands if word in command]


def test_a_daemon_that_ends_shows_its_last_lines(place: Place) -> None:
    place.processes.mkdir()
    place.logs.mkdir()
    daemon = processes.Daemon(place, "failing")
    daemon.start(["sh", "-c", "echo address in use; exit 1"])

    with pytest.raises(SetupError, match=r"failing ended .* last lines:\n    address in use"):
        daemon.wait(lambda: False, 30)


def test_status_of_no_cluster(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["status", str(place.folder)]) == 1
    assert f"no cluster in {place.folder}" in capsys.readouterr().out


def test_down_without_a_cluster(tmp_path: Path) -> None:
    assert command.main(["down", str(tmp_path / "none")]) == 0
    assert list(tmp_path.iterdir()) == []


def test_up_needs_root(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SetupError, match="The test cluster needs root") as caught:
        command.own.up(place, [])
    assert "name a cluster in KUBECONFIG" in caught.value.mend
