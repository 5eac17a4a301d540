"""Which kubeconfig a target's cluster is found in, and whether it names a cluster at all, before anything is declared.

Files of this machine are read, and no cluster is asked. Where there is a kubeconfig, a preview tells a context that it
does not have. Where there is none, as on a machine that only looks through pull requests, a preview does without, and
a deployment ends here: Pulumi would make all that needs no cluster first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from infra.clusters import made_kubeconfig
from infra.config import ComputeTarget, KubernetesTarget
from infra.problems import Problem, near

if TYPE_CHECKING:
    from provider.kubernetes.kubeconfig import KubeconfigError, NoContextError


def path_of(target: KubernetesTarget, root: Path) -> str | None:
    """The kubeconfig file of a target; None for the one that kubectl would use."""
    if target.kubeconfig is None:
        made = made_kubeconfig(target, root)
        return None if made is None else str(made)
    return str(root / Path(target.kubeconfig).expanduser())


def check(targets: Mapping[str, ComputeTarget], root: Path, file: str) -> Iterator[Problem]:
    """Yields the contexts that are not in the kubeconfigs which are there."""
    for name, target, error in _errors(targets, root):
        if _of_context(error) is not None and not _unnamed(target, error):
            yield Problem(file, *_told(name, target, error))


def away(targets: Mapping[str, ComputeTarget], root: Path) -> list[str]:
    """Why clusters are not known that something is to be deployed to, each with the path in the configuration."""
    return [": ".join(_told(name, target, error)) for name, target, error in _errors(targets, root)]


def _errors(
    targets: Mapping[str, ComputeTarget], root: Path
) -> Iterator[tuple[str, KubernetesTarget, KubeconfigError]]:
    for name, target in targets.items():
        if not isinstance(target, KubernetesTarget):
            continue
        # Only here: a stack without clusters need not wait for it.
        from provider.kubernetes.kubeconfig import KubeconfigError, find

        try:
            find(path_of(target, root), target.context)
        except KubeconfigError as error:
            yield name, target, error


def _of_context(error: KubeconfigError) -> NoContextError | None:
    from provider.kubernetes.kubeconfig import NoContextError

    return error if isinstance(error, NoContextError) else None


def _unnamed(target: KubernetesTarget, error: KubeconfigError) -> bool:
    """Whether nobody named a cluster: ~/.kube/config without a current context is what is left of one, and as good as
    none; `make up` makes a cluster there."""
    lack = _of_context(error)
    return lack is not None and lack.context is None and target.kubeconfig is None and not os.environ.get("KUBECONFIG")


def _told(name: str, target: KubernetesTarget, error: KubeconfigError) -> tuple[str, str]:
    """The path of what is to be mended, and how."""
    lack = _of_context(error)
    if lack is None:
        return f"computeTargets.{name}.kubeconfig", str(error)
    return f"computeTargets.{name}.context", _without_context(name, target, lack)


def _without_context(name: str, target: KubernetesTarget, lack: NoContextError) -> str:
    if not lack.contexts:
        what = "is not given" if target.context is None else f"is {target.context!r}"
        return (
            f"{what}, and {lack.where} has no context at all; name another file in computeTargets.{name}.kubeconfig "
            f"or in the variable KUBECONFIG, or log in to the cluster, which adds one"
        )
    hint = near(lack.context or "", lack.contexts)
    hint += "" if hint.endswith("?") else "."
    if target.context is not None:
        return (
            f"there is no context {lack.context!r} in {lack.where}; {hint} Mend it, or name another file in "
            f"computeTargets.{name}.kubeconfig"
        )
    current = "has no current one" if lack.context is None else f"has not the current one, {lack.context!r}"
    return f"is not given, and {lack.where} {current}; {hint} Give it, or run `kubectl config use-context NAME`"
