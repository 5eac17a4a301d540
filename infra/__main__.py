"""What `pulumi up` runs."""

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

# Of what is imported nothing becomes garbage: to look for some would take a quarter of the time.
gc.disable()

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import pulumi  # noqa: E402 - the project's folder comes onto the path first

from provider.start import start_provider  # noqa: E402

starting = start_provider()

from infra import engines, kubeconfigs  # noqa: E402
from infra.load import load  # noqa: E402
from infra.problems import ConfigurationError  # noqa: E402
from infra.stack import deploy  # noqa: E402

gc.freeze()
gc.enable()


async def program() -> dict[str, Any]:
    """Declares the stack's resources; returns its outputs."""
    stack = pulumi.get_stack()
    slipway = Path(os.environ.get("SLIPWAY_HOME") or ROOT / ".slipway").resolve()
    try:
        plan = load(
            json.loads(os.environ.get("PULUMI_CONFIG", "{}")),
            json.loads(os.environ.get("PULUMI_CONFIG_SECRET_KEYS", "[]")),
            ROOT,
            stack,
            slipway / "images",
        )
    except ConfigurationError as error:
        raise pulumi.RunError(str(error)) from None
    for notice in plan.notices:
        pulumi.log.warn(notice)
    if not pulumi.runtime.is_dry_run():
        if reasons := engines.away(plan):
            raise pulumi.RunError("\n".join(["an engine cannot be reached; nothing was changed:", *reasons]))
        if reasons := kubeconfigs.away(plan.compute_targets, ROOT):
            raise pulumi.RunError("\n".join(["a cluster is not known; nothing was changed:", *reasons]))
    outputs = deploy(plan, ROOT, slipway / stack / plan.workspace.name, stack)
    # What is still pending when a program ends, the SDK looks through again for each output that becomes known: that
    # grows with the square of their number. Waiting here leaves it nothing to look through.
    await pulumi.Output.from_input(outputs).future()
    return outputs


pulumi.run(program)
