"""The cluster's kubectl, as its administrator."""

from __future__ import annotations

import subprocess

from airgap.cluster import place as at
from airgap.cluster.place import Place
from airgap.cluster.programs import KUBERNETES, built
from infra.setup.problem import SetupError


def kubectl(place: Place, *arguments: str, given: str | None = None) -> str:
    """What it prints; `given` is its input. Raises SetupError."""
    done = run(place, list(arguments), given)
    if done.returncode != 0:
        raise SetupError(
            f"kubectl {' '.join(arguments[:3])}: {done.stderr.strip()[-800:]}",
            at.API,
            "run `python -m airgap.cluster status`; the logs say more.",
        )
    return done.stdout


def apply(place: Place, manifest: str) -> None:
    """Makes the objects of a manifest as it says. Raises SetupError."""
    kubectl(place, "apply", "--server-side", "--force-conflicts", "-f", "-", given=manifest)


def run(place: Place, arguments: list[str], given: str | None = None) -> subprocess.CompletedProcess[str]:
    """What became of the command."""
    program = str(built(KUBERNETES, "kubectl"))
    command = [program, f"--kubeconfig={place.kubeconfig}", "--cache-dir", str(place.folder / "kubectl"), *arguments]
    return subprocess.run(command, input=given or "", capture_output=True, text=True, check=False)


def succeeds(place: Place, *arguments: str) -> bool:
    """Whether it ends well."""
    return run(place, list(arguments)).returncode == 0
