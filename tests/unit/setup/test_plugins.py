"""Which plugins a stack needs, and where the stand-ins are."""

import os
from pathlib import Path

import pytest

from infra.setup import plugins, shell_environment

OFFLINE = {"PATH": "/bin", "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with a stand-in for each plugin, and a Pulumi that has none."""
    for plugin in plugins.SIGNS:
        directory = tmp_path / "airgap" / plugin
        directory.mkdir(parents=True)
        (directory / f"pulumi-resource-{plugin}").touch()
    (tmp_path / "stacks").mkdir()
    return tmp_path


def write(root: Path, text: str, stack: str = "test") -> None:
    (root / "stacks" / f"Pulumi.{stack}.yaml").write_text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("config:\n  slipway:computeTargets: {laptop: {kind: local}}\n", []),
        ("config:\n  slipway:computeTargets:\n    box: {kind: container}\n", ["docker"]),
        ("config:\n  slipway:computeTargets:\n    box:\n      kind: 'container'\n", ["docker"]),
        (
            "config:\n  slipway:computeTargets: {a: {kind: kubernetes}, b: {kind: container}}\n",
            ["docker", "kubernetes"],
        ),
        ("config:\n  slipway:environments: {a: {dockerfile: ./Dockerfile}}\n", ["docker"]),
        ("config:\n  # box: {kind: container}\n  slipway:computeTargets: {} # kind: kubernetes\n", []),
        ('config:\n  slipway:computeTargets: {"box": {"kind": "container"}}\n', ["docker"]),
    ],
)
def test_configuration_says_which_plugins_are_needed(root: Path, text: str, expected: list[str]) -> None:
    write(root, text)

    assert plugins.needed("organization/slipway/test", root) == expected


def test_included_files_count(root: Path) -> None:
    write(root, "config:\n  slipway:include: [stacks/shared.yaml]\n")
    (root / "stacks/shared.yaml").write_text("computeTargets: {box: {kind: container}}\n")

    assert plugins.needed("test", root) == ["docker"]


def test_stack_without_a_file_needs_none(root: Path) -> None:
    assert plugins.needed("new", root) == []


def test_stand_in_is_put_at_the_end_of_path(root: Path) -> None:
    write(root, "{kind: container}")
    environment = {**OFFLINE, "PULUMI_HOME": str(root / "home")}

    assert shell_environment.plugin_path("test", environment, root) == {"PATH": f"/bin{os.pathsep}{root}/airgap/docker"}


def test_stand_in_is_put_there_once(root: Path) -> None:
    write(root, "{kind: container}")
    environment = {**OFFLINE, "PULUMI_HOME": str(root / "home")}
    again = {**environment, **shell_environment.plugin_path("test", environment, root)}

    assert shell_environment.plugin_path("test", again, root)["PATH"] == again["PATH"]


def test_official_plugin_is_preferred(root: Path) -> None:
    write(root, "{kind: container}")
    (root / "home/plugins/resource-docker-v5.2.0").mkdir(parents=True)
    environment = {**OFFLINE, "PULUMI_HOME": str(root / "home")}

    assert shell_environment.plugin_path("test", environment, root) == {"PATH": "/bin"}


def test_pulumi_downloads_where_it_can(root: Path) -> None:
    write(root, "{kind: container}")

    assert shell_environment.plugin_path("test", {"PATH": "/bin"}, root) == {}


def test_nothing_is_missed_without_the_stand_ins(root: Path) -> None:
    write(root, "{kind: container}")
    (root / "airgap/docker/pulumi-resource-docker").unlink()

    assert shell_environment.plugin_path("test", OFFLINE, root) == {"PATH": "/bin"}


def test_plugin_of_what_is_deployed_is_there_to_delete_it(root: Path) -> None:
    write(root, "config: {}\n")
    state = root / "home/.pulumi/stacks/slipway/test.json"
    state.parent.mkdir(parents=True)
    state.write_text('{"resources": [{"type": "pulumi:providers:docker"}]}')
    environment = {**OFFLINE, "PULUMI_HOME": str(root / "p"), "PULUMI_BACKEND_URL": f"file://{root}/home?metadata=skip"}

    assert shell_environment.plugin_path("test", environment, root) == {"PATH": f"/bin{os.pathsep}{root}/airgap/docker"}
    state.write_text('{"resources": []}')
    assert shell_environment.plugin_path("test", environment, root) == {"PATH": "/bin"}
