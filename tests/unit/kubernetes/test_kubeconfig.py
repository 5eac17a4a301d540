"""Which cluster is meant, and who asks: the kubeconfig, and what is said where it cannot be used."""

from __future__ import annotations

import base64
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from provider.kubernetes import kubeconfig
from provider.kubernetes.kubeconfig import Access, KubeconfigError, find
from tests.unit.kubernetes.api_server import write_kubeconfig

SERVER = "https://cluster.test:6443"


def access(folder: Path, **user: Any) -> Access:
    return find(str(write_kubeconfig(folder / "config", SERVER, **user)), None)


def refused(call: Any, *words: str) -> None:
    with pytest.raises(KubeconfigError) as raised:
        call()
    for one in words:
        assert one in str(raised.value)


def program(folder: Path, text: str) -> str:
    """A program that logs in."""
    path = folder / "log-in"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_current_context_is_taken_or_the_one_that_is_named(tmp_path: Path) -> None:
    path = str(write_kubeconfig(tmp_path / "config", f"{SERVER}/"))
    assert find(path, None).server == SERVER
    assert find(path, None).origin == f"the context 'one' of {path}"
    assert find(path, "two").origin == f"the context 'two' of {path}"


def test_files_are_joined_as_kubectl_does_it(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(yaml.safe_dump({"current-context": "one"}))
    write_kubeconfig(second, SERVER)
    variables = {"KUBECONFIG": os.pathsep.join([str(tmp_path / "missing"), str(first), str(second)])}
    assert find(None, None, variables).server == SERVER
    # The first to name something wins.
    write_kubeconfig(first, "https://other.test")
    assert find(None, None, variables).server == "https://other.test"


def test_a_kubeconfig_that_is_missing(tmp_path: Path) -> None:
    path = str(tmp_path / "gone")
    refused(lambda: find(path, None), f"the kubeconfig {path} does not exist", "mend the compute target's kubeconfig")
    refused(lambda: find(None, None, {"KUBECONFIG": path}), "no cluster is named", path, "in the variable KUBECONFIG")


def test_a_context_that_is_missing(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "config", SERVER)
    refused(lambda: find(str(path), "prod"), f"there is no context 'prod' in {path}; it has one, two")
    document = yaml.safe_load(path.read_text())
    del document["current-context"]
    path.write_text(yaml.safe_dump(document))
    refused(
        lambda: find(str(path), None), "has no current context", "kubectl config use-context NAME", "It has one, two"
    )


@pytest.mark.parametrize(
    ("section", "words"),
    [("clusters", "names the cluster 'here', of which it has no server"), ("users", "names the user 'ann'")],
)
def test_a_context_that_leads_nowhere(tmp_path: Path, section: str, words: str) -> None:
    path = write_kubeconfig(tmp_path / "config", SERVER)
    document = yaml.safe_load(path.read_text())
    document[section] = []
    path.write_text(yaml.safe_dump(document))
    refused(lambda: find(str(path), None), words)


def test_a_context_that_is_no_map_leads_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump({"current-context": "one", "contexts": [{"name": "one", "context": "here"}]}))
    refused(lambda: find(str(path), None), "names the cluster 'None', of which it has no server")


@pytest.mark.parametrize("text", ["token: 'very secret", "- one"])
def test_what_is_no_kubeconfig_is_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    refused(lambda: find(str(path), None), f"{path} is not a kubeconfig")
    with pytest.raises(KubeconfigError) as raised:
        find(str(path), None)
    assert "very secret" not in str(raised.value)


def test_certificates_are_taken_from_the_file_or_from_paths_beside_it(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"authority")
    inline = base64.b64encode(b"certificate").decode()
    path = write_kubeconfig(
        tmp_path / "config",
        SERVER,
        cluster={"certificate-authority": "ca.crt", "tls-server-name": "inside"},
        **{"client-certificate-data": inline, "client-key-data": inline},
    )
    found = find(str(path), None)
    assert (found.authority, found.server_name) == (b"authority", "inside")
    assert (found.login().certificate, found.login().key) == (b"certificate", b"certificate")
    (tmp_path / "ca.crt").unlink()
    refused(lambda: find(str(path), None), "the certificate-authority of the context 'one'", "No such file")


def test_tokens_and_passwords(tmp_path: Path) -> None:
    assert access(tmp_path, token="t").login().headers == (("authorization", "Bearer t"),)
    (tmp_path / "token").write_text("from-a-file\n")
    read = access(tmp_path, tokenFile="token").login()
    assert read.headers == (("authorization", "Bearer from-a-file"),)
    # It is written anew while the process runs.
    assert read.expires is not None
    assert not read.stale
    pair = access(tmp_path, username="ann", password="pw").login().headers[0][1]
    assert pair == f"Basic {base64.b64encode(b'ann:pw').decode()}"


def test_who_is_impersonated_is_told_to_the_server(tmp_path: Path) -> None:
    found = access(tmp_path, **{"token": "t", "as": "bob", "as-groups": ["a", "b"]}).login()
    assert found.headers[1:] == (("impersonate-user", "bob"), ("impersonate-group", "a"), ("impersonate-group", "b"))


def test_a_program_that_logs_in(tmp_path: Path) -> None:
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = {"token": "fresh", "expirationTimestamp": until}
    answer = json.dumps({"kind": "ExecCredential", "status": status})
    command = program(
        tmp_path,
        f'test "$REGION $1" = "north get" && printf %s "$KUBERNETES_EXEC_INFO" >{tmp_path}/asked\necho \'{answer}\'',
    )
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": command,
        "args": ["get"],
        "env": [{"name": "REGION", "value": "north"}],
        "provideClusterInfo": True,
    }
    login = access(tmp_path, exec=plugin).login()
    assert login.headers == (("authorization", "Bearer fresh"),)
    assert not login.stale
    asked = json.loads((tmp_path / "asked").read_text())
    assert (asked["apiVersion"], asked["spec"]["cluster"]["server"]) == (plugin["apiVersion"], SERVER)


def test_a_login_is_renewed_before_it_ends(tmp_path: Path) -> None:
    until = (datetime.now(UTC) + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = json.dumps({"status": {"clientCertificateData": "c", "clientKeyData": "k", "expirationTimestamp": until}})
    login = access(tmp_path, exec={"command": program(tmp_path, f"echo '{answer}'")}).login()
    assert (login.certificate, login.key, login.stale) == (b"c", b"k", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo 'the session is over' >&2; exit 1", "ended with exit code 1: the session is over. Log in again"),
        ("echo 'token: secret'", "printed no ExecCredential"),
        ("""echo '{"status": {}}'""", "gave neither a token nor a certificate"),
    ],
)
def test_a_program_that_does_not_log_in(tmp_path: Path, text: str, words: str) -> None:
    command = program(tmp_path, text)
    found = access(tmp_path, exec={"command": command})
    refused(found.login, f"the program `{command}` that logs in for the context 'one'", words)


def test_a_program_that_is_missing_is_named_with_its_own_hint(tmp_path: Path) -> None:
    plugin = {"command": "no-such-program-here", "installHint": "Get it from example.test"}
    refused(access(tmp_path, exec=plugin).login, "`no-such-program-here`", "is not there: Get it from example.test")


def test_the_service_account_of_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig, "_ACCOUNT", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    variables = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    refused(lambda: find(None, None, variables), "this pod has no service account")
    (tmp_path / "ca.crt").write_text("authority")
    (tmp_path / "token").write_text("of-a-pod")
    found = find(None, None, variables)
    assert (found.server, found.authority) == ("https://10.96.0.1:443", b"authority")
    assert found.login().headers == (("authorization", "Bearer of-a-pod"),)


def test_secrets_are_in_no_representation(tmp_path: Path) -> None:
    found = access(tmp_path, token="very-secret")
    assert not re.search("very-secret", repr(found) + repr(found.login()))
