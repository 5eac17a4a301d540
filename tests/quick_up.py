"""`pulumi up` by Pulumi's automation interface, without the three commands that it asks the engine for outputs with.

They take about as long as the `up` of a small stack. Tests want to know how many resources changed, or that it failed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import unquote, urlsplit

from pulumi import automation


def up(stack: automation.Stack, **options: Any) -> dict[str, int]:
    """Deploys a stack whose state is in a folder; returns how many resources had which operation.

    `options` are those of `automation.Stack.up`. Raises `automation.CommandError` where it fails."""
    with mock.patch.object(stack, "outputs", dict), mock.patch.object(stack, "info", mock.Mock()):
        stack.up(**options)
    latest = max(_history(stack).glob("*.history.json"), key=lambda file: file.name)
    changes: dict[str, int] = json.loads(latest.read_text())["resourceChanges"] or {}
    return changes


def _history(stack: automation.Stack) -> Path:
    """The folder where the engine puts down what each update did."""
    backend = stack.workspace.env_vars["PULUMI_BACKEND_URL"]
    state = Path(unquote(urlsplit(backend).path)) / ".pulumi"
    return state / "history" / stack.workspace.project_settings().name / stack.name
