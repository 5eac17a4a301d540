"""What `make up` does about the machine itself: what a stack needs of it, and what is missing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from airgap.cluster.place import Place
from airgap.host import __main__ as host
from airgap.host import cluster, engine, packages
from airgap.host.firewall import without_docker
from airgap.host.needs import Needs, needs_in, needs_of
from airgap.images import making
from infra.config.targets import DEFAULT_HOST
from infra.setup.problem import SetupError
from provider.images.store import BlobStore

ROOT = Path(__file__).resolve().parents[3]


def needs(**sections: Any) -> Needs:
    return needs_in({f"slipway:{name}": section for name, section in sections.items()})


def test_the_stacks_beside_the_project() -> None:
    assert needs_of(ROOT / "stacks" / "Pulumi.dev.yaml") == Needs()
    assert needs_of(ROOT / "stacks" / "Pulumi.staging.yaml") == Needs(engine=True, registry=True, images=True)
    assert needs_of(ROOT / "stacks" / "Pulumi.prod.yaml") == Needs(registry=True, images=True, cluster=True)


def test_an_engine_elsewhere_is_somebody_else_s() -> None:
    for target in ("ssh://box", "unix:///run/user/1000/docker.sock"):
        assert not needs(computeTargets={"box": {"kind": "container", "host": target}}).engine
    assert needs(computeTargets={"box": {"kind": "container"}}).engine
    assert needs(computeTargets={"box": {"kind": "container", "host": DEFAULT_HOST}}).engine


def test_images_that_are_named_are_not_made() -> None:
    box = {"box": {"kind": "container"}}
    assert needs(computeTargets=box, images={"python": "a", "router": "b"}).images is False
    assert needs(computeTargets=box, images={"python": "a"}).images is True


def test_a_cluster_that_is_named_is_somebody_else_s() -> None:
    assert needs(computeTargets={"aks": {"kind": "kubernetes"}}) == Needs(images=True, cluster=True)
    for given in ({"context": "prod"}, {"kubeconfig": "~/prod"}):
        assert needs(computeTargets={"aks": {"kind": "kubernetes", **given}}) == Needs(images=True)


def test_a_registry_in_a_cluster_needs_its_program_where_the_cluster_is_made() -> None:
    found = needs(registry={"kind": "cluster", "computeTarget": "aks"}, computeTargets={"aks": {"kind": "kubernetes"}})
    assert found == Needs(registry_image=True, images=True, cluster=True)


@pytest.mark.parametrize("text", ["", "][", "config: 7", "config: {slipway:computeTargets: [1]}"])
def test_a_file_with_mistakes_needs_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.yaml").write_text(text)

    assert needs_of(tmp_path / "stack.yaml") == Needs()
    assert needs_of(tmp_path / "missing.yaml") == Needs()


class Machine:
    """A machine that nothing is done to: what would be is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, answers: bool, missing: list[str]) -> None:
        self.done: list[str] = []
        self.answers = answers
        monkeypatch.setattr(engine, "answers", lambda: self.answers)
        monkeypatch.setattr(packages, "missing", lambda wanted: [name for name in wanted.values() if name in missing])
        monkeypatch.setattr(packages, "install", lambda names: self.done.append(f"install {' '.join(names)}"))
        monkeypatch.setattr(engine, "start", lambda home: self.done.append("start"))


ALL = Needs(engine=True, registry=True, images=True)


def test_what_is_missing_is_installed_and_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, answers=False, missing=["docker.io", "iptables", "docker-registry", "debootstrap"])

    host.make_ready(ALL, tmp_path)

    assert machine.done == ["install docker.io iptables docker-registry debootstrap", "start"]


def test_where_somebody_runs_an_engine_nothing_is_installed_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, answers=True, missing=["docker.io", "iptables", "docker-registry"])

    host.make_ready(ALL, tmp_path)

    assert machine.done == ["install docker-registry"]


def test_images_that_were_made_need_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "images.json").write_text("{}")
    machine = Machine(monkeypatch, answers=True, missing=["debootstrap"])

    host.make_ready(ALL, tmp_path)

    assert machine.done == []


class TestCluster:
    """What is done about a stack's cluster, with none made."""

    NEEDED = Needs(cluster=True)
    machine: Machine

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
        self.machine = Machine(monkeypatch, answers=False, missing=[])
        place = Place(tmp_path / "cluster")

        def up(of: Place) -> None:
            self.machine.done.append("up")
            (of.folder / "made-by").write_text(cluster.clusters.OWN)

        def down(of: Place) -> None:
            self.machine.done.append("down")
            shutil.rmtree(of.folder)

        monkeypatch.setattr(cluster, "PLACE", place)
        monkeypatch.setattr(cluster.clusters, "up", up)
        monkeypatch.setattr(cluster.clusters, "down", down)
        monkeypatch.setattr(cluster.other, "tool", lambda: None)
        monkeypatch.setattr(cluster.programs, "missing_from_debian", lambda: {})
        monkeypatch.setattr(cluster, "_namespaces", lambda: {"default", "kube-system"})
        monkeypatch.delenv("KUBECONFIG", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        return place

    def kubeconfig(self, file: Path, context: str = "theirs") -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"current-context": context}))
        return file

    def test_where_none_is_named_one_is_made_and_removed(self, place: Place) -> None:
        host.make_ready(self.NEEDED, place.folder)
        assert cluster.is_ours()
        cluster.remove()

        assert self.machine.done == ["up", "down"]
        assert not place.folder.exists()

    def test_the_programs_that_it_lacks_are_installed_with_the_rest(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lacking = {"etcd": "etcd-server", "ctr": "containerd", "containerd": "containerd"}
        monkeypatch.setattr(cluster.programs, "missing_from_debian", lambda: lacking)

        host.make_ready(self.NEEDED, place.folder)

        assert self.machine.done == ["install containerd etcd-server", "up"]

    def test_the_program_of_a_registry_in_it_is_installed_too(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.machine = Machine(monkeypatch, answers=False, missing=["docker-registry"])

        host.make_ready(Needs(cluster=True, registry_image=True), place.folder)

        assert self.machine.done == ["install docker-registry", "up"]

    def test_for_what_kind_makes_nothing_is_installed(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cluster.programs, "missing_from_debian", lambda: {"etcd": "etcd-server"})
        monkeypatch.setattr(cluster.other, "tool", lambda: cluster.other.by_name("kind"))

        host.make_ready(self.NEEDED, place.folder)

        assert self.machine.done == ["up"]

    def test_one_that_kubeconfig_names_is_used(
        self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = self.kubeconfig(tmp_path / "theirs")
        monkeypatch.setenv("KUBECONFIG", str(file))

        host.make_ready(self.NEEDED, place.folder)

        assert self.machine.done == []
        assert f"this stack runs on the cluster that KUBECONFIG ({file}) names" in capsys.readouterr().err

    def test_the_one_that_kubectl_would_use_is_used(
        self, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = self.kubeconfig(tmp_path / "home" / ".kube" / "config")

        host.make_ready(self.NEEDED, place.folder)

        assert self.machine.done == []
        assert f"the cluster that {file} names" in capsys.readouterr().err

    @pytest.mark.parametrize("content", ["", "[", '{"current-context": ""}', '["a"]'])
    def test_a_kubeconfig_without_a_cluster_names_none(self, place: Place, tmp_path: Path, content: str) -> None:
        self.kubeconfig(tmp_path / "home" / ".kube" / "config").write_text(content)

        assert cluster.named() is None

    def test_one_that_was_made_stays_in_use(self, place: Place, tmp_path: Path) -> None:
        host.make_ready(self.NEEDED, place.folder)
        self.kubeconfig(tmp_path / "home" / ".kube" / "config")

        host.make_ready(self.NEEDED, place.folder)
        host.start_again(self.NEEDED, place.folder)

        assert self.machine.done == ["up", "up", "up"]

    def test_one_with_something_on_it_stays(
        self, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        host.make_ready(self.NEEDED, place.folder)
        monkeypatch.setattr(cluster, "_namespaces", lambda: {"default", "theirs"})

        cluster.remove()

        assert self.machine.done == ["up"]
        assert f"the cluster in {place.folder} stays: theirs still has something on it" in capsys.readouterr().err

    def test_one_that_was_made_by_hand_stays(self, place: Place) -> None:
        place.folder.mkdir()
        (place.folder / "made-by").write_text(cluster.clusters.OWN)

        host.make_ready(self.NEEDED, place.folder)
        host.start_again(self.NEEDED, place.folder)
        cluster.remove()

        assert self.machine.done == ["up"], "it is completed, and not removed"


def test_packages_need_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(packages, "found", lambda program: f"/usr/bin/{program}")

    with pytest.raises(SetupError) as caught:
        packages.install(["docker.io"])

    assert "as root: apt-get install --no-install-recommends docker.io" in str(caught.value)


def test_another_system_than_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "found", lambda program: None)

    with pytest.raises(SetupError, match="this is no Debian"):
        packages.install(["docker.io"])


def test_an_engine_is_asked_at_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    assert engine.ask("/_ping", path) is None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(1024).startswith(b"GET /_ping HTTP/1.0\r\n")
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nOK")

        server = threading.Thread(target=answer)
        server.start()
        assert engine.ask("/_ping", path) == b"OK"
        server.join()


def test_an_engine_of_others_is_not_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pid: int, number: int) -> None:
        raise AssertionError(f"{pid} was sent {number}")

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(engine, "SOCKET", tmp_path / "docker.sock")

    engine.stop(tmp_path / "engine")

    assert not (tmp_path / "engine").exists()


BEFORE = """*filter
:INPUT ACCEPT [7:8]
:FORWARD ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
COMMIT
"""
AFTER = """*filter
:INPUT ACCEPT [9:9]
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
:MINE - [0:0]
-A INPUT -i lo -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -j MINE
-A DOCKER-USER -j RETURN
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT
"""


def test_the_packet_filter_is_as_it_was_but_for_what_others_added() -> None:
    assert without_docker(AFTER, BEFORE).splitlines() == [
        "*filter",
        ":INPUT ACCEPT [9:9]",
        ":FORWARD ACCEPT [0:0]",
        ":MINE - [0:0]",
        "-A INPUT -i lo -j ACCEPT",
        "-A FORWARD -j MINE",
        "COMMIT",
        "*nat",
        ":POSTROUTING ACCEPT [0:0]",
        "COMMIT",
    ]


def test_an_engine_that_was_there_before_keeps_its_rules() -> None:
    assert without_docker(AFTER, AFTER) == AFTER


class TestImages:
    """`python -m airgap.images`, with a recipe that costs nothing."""

    made: list[str]

    @pytest.fixture(autouse=True)
    def recipe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = []
        self.key = "first"

        def make(store: BlobStore, mirror: str | None) -> making.Made:
            self.made.append(self.key)
            content = json.dumps({"config": None, "layers": [], "key": self.key}).encode()
            return store.put_manifest("tag", "application/vnd.oci.image.manifest.v1+json", content), {"more": 1}

        monkeypatch.setattr(making, "RECIPES", (making.Recipe("python", "base/python", "x", lambda: self.key, make),))
        monkeypatch.setattr(making, "missing_from", lambda store, manifest: [])

    def test_they_are_made_once(self, tmp_path: Path) -> None:
        said: list[str] = []
        first = making.make(tmp_path, None, said.append)
        second = making.make(tmp_path, None, said.append)

        assert self.made == ["first"]
        assert first == second == json.loads((tmp_path / "images.json").read_text())
        assert first["python"]["repository"] == "base/python"
        assert len(said) == 2, "while it is made, and when it is"

    def test_another_recipe_makes_another(self, tmp_path: Path) -> None:
        before = making.make(tmp_path, None, lambda message: None)["python"]["digest"]
        self.key = "second"
        after = making.make(tmp_path, None, lambda message: None)["python"]["digest"]

        assert self.made == ["first", "second"]
        assert after != before

    def test_a_note_that_cannot_be_read_is_made_anew(self, tmp_path: Path) -> None:
        making.make(tmp_path, None, lambda message: None)
        (tmp_path / "images.json").write_text("{")
        making.make(tmp_path, None, lambda message: None)

        assert json.loads((tmp_path / "images.json").read_text())["python"]["more"] == 1
