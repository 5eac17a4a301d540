"""The image of a registry in the cluster (`registry: {kind: cluster}`), where the node can pull none.

It is made of this machine's own program, Debian's docker-registry (CNCF Distribution), and what that is linked with. On
the node it has the name of the image that it stands in for, so that a stack needs to name no other.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from airgap.cluster import images
from infra.config.registry import DEFAULT_REGISTRY_IMAGE
from infra.setup.problem import SetupError
from provider.content.errors import ContentError
from provider.registry_host.host import program

IMAGE = DEFAULT_REGISTRY_IMAGE
_PROGRAM = "bin/registry"
"""On PATH there, as in the image that it stands in for."""
_USER = "65532:65532"


def import_image() -> None:
    """Gives containerd the image where it does not have it, and this machine has the program. Raises SetupError."""
    try:
        program()
    except ContentError:
        return
    if IMAGE not in images.names():
        images.import_archive(write)


def write(target: Path) -> None:
    """Writes the image as an archive. Raises SetupError."""
    try:
        found = Path(program())
    except ContentError as error:
        raise SetupError(str(error), "PATH", "do one of the two.") from None
    files = {_PROGRAM: found, **{str(file).lstrip("/"): file for file in _libraries(found)}}
    images.write_files(IMAGE, files, _PROGRAM, _USER, target)


def _libraries(program: Path) -> Iterator[Path]:
    """The shared libraries of a program, and what loads them, at the paths that it looks for them at."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    if done.returncode != 0 and "not a dynamic executable" not in done.stderr:
        raise SetupError(
            f"The libraries of {program} are not known: {done.stderr.strip()}",
            str(program),
            "install Debian's docker-registry again, or name an image that the nodes can pull in `registry.image`.",
        )
    for line in done.stdout.splitlines():
        if (found := re.search(r"(/\S+) \(0x", line)) is not None:
            yield Path(found[1])
