"""Whether the Docker engines of a plan can be connected to at all, before anything is declared.

Pulumi keeps the address of an engine as soon as it is declared, and a refresh goes by what it keeps: with a wrong one
kept, no `up --refresh` could begin. Only a deployment asks; a preview touches nothing. What an engine says of itself is
`provider.container.engine`'s matter, and whether ssh gets through is told when it is tried.
"""

from __future__ import annotations

from infra.config import ContainerTarget
from infra.plan import StackPlan
from provider.container.engine import unreachable


def away(plan: StackPlan) -> list[str]:
    """Why engines cannot be connected to, each with the path in the configuration that names it."""
    reasons = {
        name: unreachable(target.host)
        for name, target in plan.compute_targets.items()
        if isinstance(target, ContainerTarget)
    }
    return [f"computeTargets.{name}.host: {reason}" for name, reason in reasons.items() if reason is not None]
