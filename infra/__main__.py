"""What `pulumi up` runs."""

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import pulumi  # noqa: E402 - the project's folder comes onto the path first

from infra.load import load  # noqa: E402
from infra.problems import ConfigurationError  # noqa: E402
from infra.stack import deploy  # noqa: E402

stack = pulumi.get_stack()
try:
    plan = load(
        json.loads(os.environ.get("PULUMI_CONFIG", "{}")),
        json.loads(os.environ.get("PULUMI_CONFIG_SECRET_KEYS", "[]")),
        ROOT,
        stack,
    )
except ConfigurationError as error:
    raise pulumi.RunError(str(error)) from None

home = Path(os.environ.get("SLIPWAY_HOME") or ROOT / ".slipway").resolve() / stack / plan.workspace.name
for name, value in deploy(plan, ROOT, home, stack).items():
    pulumi.export(name, value)
