"""What `make up` prints at its end."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from infra import summary

SERVICE: dict[str, Any] = {
    "state": "Healthy",
    "scoringUri": "http://127.0.0.1:8890/score",
    "swaggerUri": "http://127.0.0.1:8890/swagger.json",
    "revision": "3f2a9c",
    "sampleRequest": "examples/mnist/sample.json",
}


def test_service_shows_state_address_revision_and_request(tmp_path: Path) -> None:
    assert summary.describe("mnist", SERVICE, tmp_path).splitlines() == [
        "mnist: Healthy",
        "  scoring URI: http://127.0.0.1:8890/score",
        "  revision:    3f2a9c",
        "  try it:      curl -sS -H 'Content-Type: application/json' -d @examples/mnist/sample.json "
        "http://127.0.0.1:8890/score",
    ]


def test_what_is_inside_a_cluster_is_reached_by_kubectl(tmp_path: Path) -> None:
    command = "kubectl --namespace=models port-forward service/mnist 8443:443"
    inside = {"scoringUri": "https://mnist.models.svc/score", "portForward": {"command": command, "port": 8443.0}}

    shown = summary.describe("mnist", {**SERVICE, **inside}, tmp_path).splitlines()

    assert shown[1] == "  scoring URI: https://mnist.models.svc/score"
    assert shown[3] == f"  reach it:    {command}"
    assert shown[4].endswith(" https://127.0.0.1:8443/score")


def test_packages_come_after_the_services(tmp_path: Path) -> None:
    package = {"image": "127.0.0.1:5000/packages/app@sha256:1", "revision": "3f2a9c", "digest": "sha256:1"}
    outputs = {"services": {"mnist": SERVICE}, "packages": {"app": package}}

    assert summary.summary("dev", outputs, tmp_path).splitlines()[-3:] == [
        "package app",
        "  image:       127.0.0.1:5000/packages/app@sha256:1",
        "  revision:    3f2a9c",
    ]
    assert summary.summary("dev", {"packages": {"app": package}}, tmp_path).startswith("package app\n")


def test_request_survives_the_shell() -> None:
    words = shlex.split(summary.request("http://127.0.0.1:8890/score?a=1&b=2", "my samples/it's.json"))

    assert words[-3:] == ["-d", "@my samples/it's.json", "http://127.0.0.1:8890/score?a=1&b=2"]


def test_without_a_sample_the_request_asks_for_liveness() -> None:
    assert summary.request("http://127.0.0.1:8890/score", None) == "http://127.0.0.1:8890/"


def test_message_is_shown_where_there_is_one(tmp_path: Path) -> None:
    assert "  message:     draining" in summary.describe("mnist", {**SERVICE, "message": "draining"}, tmp_path)


def test_a_key_and_a_certificate_are_in_files(tmp_path: Path) -> None:
    service = {**SERVICE, "primaryKey": "canary", "caCertificate": "-----BEGIN CERTIFICATE-----"}

    text = summary.describe("mnist", service, tmp_path / "access")

    assert "canary" not in text
    words = shlex.split(text.partition("try it:")[2])
    assert words[:6] == ["curl", "-sS", "--cacert", f"{tmp_path}/access/ca.pem", "-H", f"@{tmp_path}/access/mnist.key"]
    assert (tmp_path / "access" / "mnist.key").read_text() == "Authorization: Bearer canary\n"
    assert (tmp_path / "access" / "mnist.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "access").stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in (tmp_path / "access").iterdir()) == ["ca.pem", "mnist.key"]


def test_what_a_killed_summary_of_the_same_number_left_is_in_nobodys_way(tmp_path: Path) -> None:
    left = tmp_path / "access" / f"mnist.key.{os.getpid()}"
    left.parent.mkdir()
    left.write_text("Authorization: Bea")

    summary.describe("mnist", {**SERVICE, "primaryKey": "canary"}, tmp_path / "access")

    assert [path.name for path in left.parent.iterdir()] == ["mnist.key"]
    assert (left.parent / "mnist.key").read_text() == "Authorization: Bearer canary\n"


def test_several_deployments_are_shown_with_their_shares(tmp_path: Path) -> None:
    deployments = {"green": {"state": "Healthy", "traffic": 10.0, "revision": "ab"}}

    text = summary.describe("mnist", {**SERVICE, "deployments": deployments}, tmp_path)

    assert "  green:       Healthy, 10 % of the traffic, ab" in text


def test_services_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    text = summary.summary("dev", {"services": {"b": SERVICE, "a": SERVICE}}, tmp_path)

    assert text.index("a: Healthy") < text.index("b: Healthy")


@pytest.mark.parametrize("outputs", [{}, {"services": {}}])
def test_stack_without_services_says_so(outputs: dict[str, Any], tmp_path: Path) -> None:
    assert summary.summary("dev", outputs, tmp_path) == "Stack dev has no services."


def test_outputs_are_read_from_pulumi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_pulumi(tmp_path, f"echo {shlex.quote(json.dumps({'services': {'mnist': SERVICE}}))}", monkeypatch)

    assert summary.main(["dev"]) == 0
    assert capsys.readouterr().out.startswith("mnist: Healthy\n")


def test_exit_code_of_pulumi_passes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pulumi(tmp_path, "exit 7", monkeypatch)

    assert summary.main(["dev"]) == 7


def fake_pulumi(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a `pulumi` that runs `script` alone on PATH."""
    program = directory / "pulumi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))
