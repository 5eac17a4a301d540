"""Which of Pulumi's plugins a stack needs, and where they come from.

The official one is used where it is installed, or can be: Pulumi downloads it by itself. Where it cannot, because the
engine too was built here, and `airgap/` has a stand-in, that goes on PATH, where Pulumi finds it (and says so once).
A stack that needs none pays nothing. Standard library only, like the rest of the set-up.
"""

import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

SIGNS = {
    "docker": re.compile(
        r"""["']?\bkind["']?\s*:\s*["']?container\b|\b(dockerfile|baseDockerfile|dockerSteps|aptPackages)\b"""
    ),
    "kubernetes": re.compile(r"""["']?\bkind["']?\s*:\s*["']?kubernetes\b"""),
}
"""How a stack's configuration shows that it needs a plugin: a target of its kind, an image to build."""


def stand_ins(stack: str, environment: Mapping[str, str], state: Path | None = None, root: Path = ROOT) -> list[Path]:
    """The directories to put on PATH for the plugins that `stack` needs and that are not installed.

    `state` is the file with the stack's state, where there is one.
    """
    return [
        directory
        for plugin in sorted({*needed(stack, root), *deployed(state)})
        if (directory := stand_in(plugin, root)) is not None and not installed(plugin, environment)
    ]


def needed(stack: str, root: Path = ROOT) -> list[str]:
    """The plugins that the configuration of `stack` asks for, by the look of it: that of `slipway:include` too."""
    text = configuration(root / "stacks" / f"Pulumi.{stack.rsplit('/', 1)[-1]}.yaml", root)
    return [plugin for plugin, sign in SIGNS.items() if sign.search(text)]


def deployed(state: Path | None) -> list[str]:
    """The plugins of what a stack has deployed: it is needed to change and to delete that."""
    if state is None:
        return []
    try:
        text = state.read_bytes()
    except OSError:
        return []
    return [plugin for plugin in SIGNS if f'"pulumi:providers:{plugin}"'.encode() in text]


def configuration(path: Path, root: Path) -> str:
    """The text of a stack file and of those that it names; comments do not count. Nothing where there is none."""
    try:
        text = re.sub(r"^\s*#.*$|\s#.*$", "", path.read_text(), flags=re.MULTILINE)
    except OSError:
        return ""
    named = re.findall(r"[\w./-]+\.(?:ya?ml|json)\b", text)
    included = [root / name for name in named if (root / name).is_file() and root / name != path]
    return "\n".join([text, *(file.read_text(errors="replace") for file in included)])


def stand_in(plugin: str, root: Path = ROOT) -> Path | None:
    """The directory of the stand-in for `plugin`; None where there is none."""
    directory = root / "airgap" / plugin
    return directory if (directory / f"pulumi-resource-{plugin}").is_file() else None


def installed(plugin: str, environment: Mapping[str, str]) -> bool:
    """Whether Pulumi has the official plugin, in some version: it has a directory for each."""
    home = Path(environment.get("PULUMI_HOME") or Path.home() / ".pulumi")
    return any(directory.is_dir() for directory in home.glob(f"plugins/resource-{plugin}-v*"))
