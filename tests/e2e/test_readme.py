"""The README's commands, typed as printed in a copy of the checkout, and its snippets and tables held to the code."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import config
from infra.load import load
from infra.plan import StackPlan
from tests.e2e.project import ROOT, answers, descendants_of_supervisors
from tests.ports import free_port

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
UNSHIPPED = shutil.ignore_patterns(".git", ".venv", ".slipway", "__pycache__", "model", ".*_cache", ".hypothesis")
# The caller's own Pulumi must not leak into what a new user would see.
UNSET = (
    "PULUMI_BACKEND_URL",
    "PULUMI_CONFIG_PASSPHRASE",
    "PULUMI_CONFIG_PASSPHRASE_FILE",
    "SLIPWAY_HOME",
    "VIRTUAL_ENV",
)


class Checkout:
    """A copy of the checkout whose example listens on another port, so that a running one does not matter."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "slipway"
        shutil.copytree(ROOT, self.root, ignore=UNSHIPPED)
        self.port = free_port()
        stack = self.root / "stacks" / "Pulumi.dev.yaml"
        lines = [line for line in stack.read_text().splitlines() if not line.startswith("encryptionsalt")]
        stack.write_text(self.with_port("\n".join(lines) + "\n"))

    def with_port(self, text: str) -> str:
        return text.replace("8890", str(self.port))

    def run(self, commands: str) -> str:
        """What the commands print; fails where one of them fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.with_port(commands)],
            cwd=self.root,
            env={name: value for name, value in os.environ.items() if name not in UNSET},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    checkout = Checkout(tmp_path_factory.mktemp("readme"))
    yield checkout
    checkout.run("make down")


@pytest.fixture(scope="module")
def said_at_first(checkout: Checkout) -> str:
    """What the first `make up` says. Each test that needs what it deploys asks for it, and so can be run alone."""
    return checkout.run(block("make up"))


def block(first_words: str) -> str:
    (found,) = [text for text in BLOCKS if text.startswith(first_words)]
    return found


def test_every_block_of_commands_is_run_here_or_by_ci() -> None:
    assert [text.splitlines()[0].split(" -")[0] for text in BLOCKS] == [
        "make up",
        "curl",
        "make down",
        "make preview",
        'eval "$(make',
        "make check",
    ]
    ci = (ROOT / ".ci" / "run").read_text()
    assert "make check" in ci
    assert "for target in test test-registry test-docker test-kubernetes; do" in ci


def test_make_up_serves_and_prints_a_command_that_works(checkout: Checkout, said_at_first: str) -> None:
    assert "mnist: Healthy" in said_at_first
    (printed,) = re.findall(r"try it: +(curl .*)", said_at_first)
    assert checkout.with_port(block("curl").strip()) == printed
    assert json.loads(checkout.run(printed)) == [0, 1]


@pytest.mark.usefixtures("said_at_first")
def test_make_up_again_changes_nothing(checkout: Checkout) -> None:
    said = checkout.run(block("make up"))

    assert re.search(r"Resources:\s+\d+ unchanged", said)


@pytest.mark.usefixtures("said_at_first")
def test_an_edit_is_previewed_and_applied(checkout: Checkout) -> None:
    script = checkout.root / "examples" / "sklearn_mnist" / "score.py"
    script.write_text(script.read_text() + "\n# edited\n")

    said = checkout.run(block("make preview"))

    preview, _, up = said.partition("Updating (dev)")
    assert "codeDigest" in preview
    assert "~ 2 to update" in preview
    assert "~ 2 updated" in up


@pytest.mark.usefixtures("said_at_first")
def test_the_bare_commands_do_the_same(checkout: Checkout) -> None:
    said = checkout.run(block("eval"))

    assert re.search(r"Resources:\s+\d+ unchanged", said)
    assert f"http://127.0.0.1:{checkout.port}/score" in said


@pytest.mark.usefixtures("said_at_first")
def test_make_down_leaves_nothing(checkout: Checkout) -> None:
    home = checkout.root / ".slipway" / "dev"
    assert home.is_dir()

    checkout.run(block("make down"))

    assert not home.exists()
    assert not answers(f"http://127.0.0.1:{checkout.port}/")
    assert descendants_of_supervisors(home) == []


def test_the_configuration_that_it_shows_is_good() -> None:
    first, *more = [yaml.safe_load(text)["config"] for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)]
    assert shown(first).services["mnist"].deployment.port == 8890

    kinds = {shown({**first, **sections}, *more).registry.kind for sections in more}
    assert kinds == {"service", "external"}


def shown(sections: dict[str, Any], *others: dict[str, Any]) -> StackPlan:
    """The plan of a configuration, with the images that one of the `others` names, and all the secrets set."""
    images = {key: value for other in others for key, value in other.items() if key == "slipway:images"}
    secret = "slipway:registryPassword"
    raw = {key: json.dumps(value) for key, value in {**images, **sections, secret: "x"}.items()}
    return load(raw, (secret,), ROOT, "dev")


def test_the_table_names_every_field_of_the_configuration() -> None:
    azure = {"name", "version", "python", "docker", "environmentVariables"}
    inside_azure_files = set(config.CondaDependencies.model_fields) | {
        str(field.alias) for part in (config.AzurePython, config.AzureDocker) for field in part.model_fields.values()
    }
    table = README.partition("| field | what it is |")[2].partition("\n\n")[0]

    missing = [name for name in config.field_names() - inside_azure_files - azure if name not in table]

    assert missing == []
