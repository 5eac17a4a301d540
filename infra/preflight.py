"""What a preview can know from files: certificates, models, entry scripts, sample requests. It runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from components.registry import TIERS
from infra.config import (
    ONLY_DEPLOYMENT,
    ContainerTarget,
    ExternalRegistry,
    KubernetesDeployment,
    Model,
    ServiceRegistry,
)
from infra.plan import DeploymentPlan, PackagePlan, ServicePlan
from infra.problems import Problem
from infra.requirements import unreadable
from provider.container import tls
from provider.content.errors import ContentError
from provider.content.tree import walk
from provider.entry_script import inspect_entry_script

_LARGEST_SAMPLE = 65536
# In bytes: a sample is kept in the state and in the store's index.
_LARGEST_IN_A_CLUSTER = 700_000
# In bytes: a ConfigMap has 1 MiB, in base64.


def check_registry(registry: object, root: Path, file: str) -> Iterator[Problem]:
    """Yields what a registry's tier or kind does not have, and what is wrong with the files that it needs."""
    if isinstance(registry, ServiceRegistry):
        limit = TIERS[registry.tier].webhooks
        if len(registry.webhooks) > limit:
            yield Problem(
                file,
                "registry.webhooks",
                f"there are {len(registry.webhooks)}, and the tier {registry.tier} has {limit}; remove some, or choose "
                f"another tier",
            )
    if isinstance(registry, ExternalRegistry) and registry.ca_certificate is not None:
        certificate = root / registry.ca_certificate
        try:
            if "-----BEGIN CERTIFICATE-----" not in certificate.read_text(encoding="utf-8"):
                yield Problem(file, "registry.caCertificate", f"{certificate} holds no certificate in PEM form")
        except (OSError, UnicodeDecodeError) as error:
            yield Problem(file, "registry.caCertificate", f"{certificate}: {unreadable(error)}")


def check_targets(targets: Mapping[str, object], root: Path, file: str) -> Iterator[Problem]:
    """Yields the certificates that an engine cannot be reached with."""
    for name, target in targets.items():
        if isinstance(target, ContainerTarget) and target.cert_path is not None:
            for mistake in tls.mistakes(root / target.cert_path):
                yield Problem(file, f"computeTargets.{name}.certPath", mistake)


def check_models(models: Mapping[str, Model], root: Path, file: str) -> Iterator[Problem]:
    """Yields the models whose files cannot be registered."""
    for name, model in models.items():
        try:
            walk(root / model.location)
        except ContentError as error:
            yield Problem(file, f"models.{name}.{'path' if model.mlflow is None else 'mlflow'}", str(error))
        for field, sample in (("sampleInput", model.sample_input), ("sampleOutput", model.sample_output)):
            if sample is not None and (mistake := _sample_mistake(root / sample)):
                yield Problem(file, f"models.{name}.{field}", mistake)


def _sample_mistake(file: Path) -> str | None:
    try:
        if file.stat().st_size > _LARGEST_SAMPLE:
            return f"{file} has more than {_LARGEST_SAMPLE} bytes; give a smaller sample"
        file.read_text(encoding="utf-8")
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}; mend the path"
    except UnicodeDecodeError:
        return f"{file} is no UTF-8 text; give a sample as text"
    return None


def check_services(
    services: Mapping[str, ServicePlan], drafts: Mapping[str, Mapping[str, DeploymentPlan]], file: str
) -> Iterator[Problem]:
    """Yields what is wrong with the scripts and sample requests of services. `drafts`: the deployments of all of them,
    also of those that are no plan for some other mistake."""
    for name, deployments in drafts.items():
        for key, deployment in deployments.items():
            path = f"services.{name}" if key == ONLY_DEPLOYMENT else f"services.{name}.deployments.{key}"
            yield from _check_deployment(deployment, path, file)
            if name in services and isinstance(services[name].deployment, KubernetesDeployment):
                yield from _check_sample_size(deployment, path, file)


def check_packages(packages: Mapping[str, PackagePlan], file: str) -> Iterator[Problem]:
    """Yields what is wrong with the scripts of packages."""
    for name, package in packages.items():
        yield from _check_script(package, f"packages.{name}", file)


def _check_deployment(deployment: DeploymentPlan, path: str, file: str) -> Iterator[Problem]:
    yield from _check_script(deployment, path, file)
    if deployment.sample_request is not None and not deployment.sample_request.is_file():
        yield Problem(file, f"{path}.sampleRequest", f"{deployment.sample_request} is no file; mend the path")


def _check_sample_size(deployment: DeploymentPlan, path: str, file: str) -> Iterator[Problem]:
    sample = deployment.sample_request
    size = sample.stat().st_size if sample is not None and sample.is_file() else 0
    if size > _LARGEST_IN_A_CLUSTER:
        yield Problem(
            file,
            f"{path}.sampleRequest",
            f"{sample} has {size} bytes, and a cluster keeps no more than {_LARGEST_IN_A_CLUSTER} of a sample; give a "
            f"smaller one",
        )


def _check_script(deployment: DeploymentPlan | PackagePlan, path: str, file: str) -> Iterator[Problem]:
    if not deployment.source_directory.is_dir():
        yield Problem(
            file, f"{path}.inference.sourceDirectory", f"{deployment.source_directory} is no folder; mend the path"
        )
    else:
        script = (deployment.source_directory / deployment.entry_script).resolve()
        if not script.is_relative_to(deployment.source_directory):
            yield Problem(
                file, f"{path}.inference.entryScript", f"{deployment.entry_script} lies outside the source directory"
            )
        else:
            for problem in inspect_entry_script(script):
                yield Problem(file, f"{path}.inference.entryScript", problem)
