"""Whether a target's kubeconfig names a cluster: what a preview refuses, and what a deployment does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import kubeconfigs
from infra.config import KubernetesTarget
from infra.load import load
from infra.problems import ConfigurationError

CLUSTER = [{"name": "here", "cluster": {"server": "https://cluster.test:6443"}}]
NO_FILE = "computeTargets.aks.kubeconfig"


def write(file: Path, *contexts: str, current: str | None = None) -> Path:
    """A kubeconfig with these contexts."""
    entries = [{"name": name, "context": {"cluster": "here"}} for name in contexts]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({"contexts": entries, "clusters": CLUSTER, "current-context": current or ""}))
    return file


def mistakes(root: Path, **target: Any) -> list[str]:
    """What a preview refuses of a stack with this target."""
    sections = {
        "workspace": {"name": "demo"},
        "registry": {"kind": "service", "port": 5000},
        "computeTargets": {"aks": {"kind": "kubernetes", **target}},
    }
    try:
        load({f"slipway:{key}": json.dumps(value) for key, value in sections.items()}, (), root, "dev")
    except ConfigurationError as error:
        return [str(problem).removeprefix("stacks/Pulumi.dev.yaml: ") for problem in error.problems]
    return []


def away(root: Path, **target: Any) -> list[str]:
    """What a deployment to this target ends with."""
    return kubeconfigs.away({"aks": KubernetesTarget(kind="kubernetes", **target)}, root)


def test_a_context_that_is_there(tmp_path: Path) -> None:
    write(tmp_path / "config", "west", "east", current="east")
    for target in ({"context": "west"}, {}):
        assert mistakes(tmp_path, kubeconfig="config", **target) == []
        assert away(tmp_path, kubeconfig="config", **target) == []


def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    file = write(tmp_path / "config", "slipway-west", "slipway-east", current="slipway-east")
    assert mistakes(tmp_path, kubeconfig="config", context="slipway-wets") == [
        f"computeTargets.aks.context: there is no context 'slipway-wets' in {file}; did you mean 'slipway-west' or "
        "'slipway-east'? Mend it, or name another file in computeTargets.aks.kubeconfig"
    ]
    assert mistakes(tmp_path, kubeconfig="config", context="nope") == [
        f"computeTargets.aks.context: there is no context 'nope' in {file}; known: slipway-east, slipway-west. Mend "
        "it, or name another file in computeTargets.aks.kubeconfig"
    ]


def test_each_target_is_told(tmp_path: Path) -> None:
    write(tmp_path / "config", "west", current="west")
    target = KubernetesTarget(kind="kubernetes", kubeconfig="config", context="nope")
    found = list(kubeconfigs.check({"blue": target, "green": target}, tmp_path, "file"))
    assert [problem.path for problem in found] == ["computeTargets.blue.context", "computeTargets.green.context"]


def test_a_current_context_that_is_not_there(tmp_path: Path) -> None:
    file = write(tmp_path / "config", "west", current="wets")
    assert mistakes(tmp_path, kubeconfig="config") == [
        f"computeTargets.aks.context: is not given, and {file} has not the current one, 'wets'; did you mean 'west'? "
        "Give it, or run `kubectl config use-context NAME`"
    ]


def test_a_file_that_is_named_and_has_no_current_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "config", "west", "east")
    told = (
        f"computeTargets.aks.context: is not given, and {file} has no current one; known: east, west. Give it, or run "
        "`kubectl config use-context NAME`"
    )
    assert mistakes(tmp_path, kubeconfig="config") == [told]
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(tmp_path / "gone"), str(file)]))
    assert mistakes(tmp_path) == [told]


def test_a_file_without_any_context(tmp_path: Path) -> None:
    file = write(tmp_path / "config")
    assert mistakes(tmp_path, kubeconfig="config", context="prod") == [
        f"computeTargets.aks.context: is 'prod', and {file} has no context at all; name another file in "
        "computeTargets.aks.kubeconfig or in the variable KUBECONFIG, or log in to the cluster, which adds one"
    ]


def test_what_is_left_of_a_cluster_at_home_is_as_good_as_none(tmp_path: Path) -> None:
    """`make up` makes a cluster there, and a preview before it must work."""
    file = write(tmp_path / "home" / ".kube" / "config")
    assert mistakes(tmp_path) == []
    assert away(tmp_path) == [
        f"computeTargets.aks.context: is not given, and {file} has no context at all; name another file in "
        "computeTargets.aks.kubeconfig or in the variable KUBECONFIG, or log in to the cluster, which adds one"
    ]


def test_where_there_is_no_kubeconfig_only_a_deployment_ends(tmp_path: Path) -> None:
    assert mistakes(tmp_path, kubeconfig="none/yet", context="prod") == []
    assert away(tmp_path, kubeconfig="none/yet", context="prod") == [
        f"{NO_FILE}: the kubeconfig {tmp_path}/none/yet does not exist; mend the compute target's kubeconfig, or make "
        "the file"
    ]
    assert mistakes(tmp_path, context="prod") == []
    assert away(tmp_path, context="prod") == [
        f"{NO_FILE}: no cluster is named: {tmp_path}/home/.kube/config does not exist. Name a kubeconfig in the "
        "compute target's kubeconfig, or in the variable KUBECONFIG"
    ]


def test_a_file_that_is_no_kubeconfig_ends_a_deployment(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("- contexts")
    assert away(tmp_path, kubeconfig="config") == [f"{NO_FILE}: {tmp_path}/config is not a kubeconfig: it is no map"]


def test_the_cluster_that_was_made_here_is_known(tmp_path: Path) -> None:
    write(tmp_path / ".slipway" / "cluster" / "kubeconfig", "slipway", current="slipway")
    assert away(tmp_path) == []
