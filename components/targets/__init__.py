"""Compute targets: where a web service runs. One module a kind, all behind `ComputeTarget`."""

from components.targets.base import ComputeTarget, Deployed, Deployment, Service
from components.targets.local import LocalTarget

__all__ = ["ComputeTarget", "Deployed", "Deployment", "LocalTarget", "Service"]
