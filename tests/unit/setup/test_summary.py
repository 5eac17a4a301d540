"""What `make up` prints at its end."""

import json
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


def test_service_shows_state_address_revision_and_request() -> None:
    assert summary.describe("mnist", SERVICE).splitlines() == [
        "mnist: Healthy",
        "  scoring URI: http://127.0.0.1:8890/score",
        "  revision:    3f2a9c",
        "  try it:      curl -sS -H 'Content-Type: application/json' -d @examples/mnist/sample.json "
        "http://127.0.0.1:8890/score",
    ]


def test_request_survives_the_shell() -> None:
    words = shlex.split(summary.request("http://127.0.0.1:8890/score?a=1&b=2", "my samples/it's.json"))

    assert words[-3:] == ["-d", "@my samples/it's.json", "http://127.0.0.1:8890/score?a=1&b=2"]


def test_without_a_sample_the_request_asks_for_liveness() -> None:
    assert summary.request("http://127.0.0.1:8890/score", None) == "http://127.0.0.1:8890/"


def test_message_is_shown_where_there_is_one() -> None:
    assert "  message:     draining" in summary.describe("mnist", {**SERVICE, "message": "draining"})


def test_services_come_in_the_order_of_their_names() -> None:
    text = summary.summary("dev", {"services": {"b": SERVICE, "a": SERVICE}})

    assert text.index("a: Healthy") < text.index("b: Healthy")


@pytest.mark.parametrize("outputs", [{}, {"services": {}}])
def test_stack_without_services_says_so(outputs: dict[str, Any]) -> None:
    assert summary.summary("dev", outputs) == "Stack dev has no services."


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
