"""Pulumi's mocks in the place of the engine: what was registered is kept, and answered as the providers would."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pulumi
from pulumi.output import Unknown
from pulumi.runtime import mocks as pulumi_mocks
from pulumi.runtime import rpc

from infra.plan import StackPlan
from infra.stack import deploy

OUTPUTS: dict[str, dict[str, Any]] = {
    "slipway:index:ModelVersion": {
        "version": 2,
        "digest": "sha256:m2",
        "versions": {"1": "sha256:one", "2": "sha256:two"},
        "sizes": {"1": 5, "2": 7},
        "repository": "models/digits",
    },
    "slipway:index:RegistryService": {"address": "127.0.0.1:5000", "username": "slipway", "password": "generated"},
    "slipway:index:CertificateAuthority": {"certificate": "authority", "privateKey": "key"},
    "slipway:index:Certificate": {"certificate": "leaf", "privateKey": "key"},
    "slipway:index:MirroredImage": {"reference": "registry/base@sha256:base"},
    "slipway:index:ImageIndex": {"reference": "registry/app@sha256:x", "revision": "all", "digest": "sha256:x"},
    "slipway:index:ServiceImage": {"reference": "registry/app@sha256:i", "revision": "def", "digest": "sha256:i"},
    "slipway:index:PythonEnvironment": {"python": "/home/env/bin/python", "lockDigest": "sha256:lock"},
    "slipway:index:LocalService": {"revision": "abc"},
    "slipway:index:Endpoint": {"state": "Healthy", "message": ""},
    "slipway:index:ReplicaOwnership": {"owned": True},
    "slipway:index:AccessKey": {"key": "generated"},
    "kubernetes:core/v1:Service": {"spec": {"clusterIP": "10.0.0.7", "ports": [{"nodePort": 30080}]}},
    "slipway:index:Route": {
        "scoringUri": "http://127.0.0.1:80/score",
        "swaggerUri": "http://127.0.0.1:80/swagger.json",
        "revision": "routed",
    },
}
"""What the engine would answer, by type."""


class Recorder(pulumi_mocks.Mocks):
    """Keeps what was registered, and answers as the provider would."""

    def __init__(self, unknown: Mapping[str, Collection[str]] | None = None) -> None:
        """`unknown`: outputs that nobody knows yet, by type; `id`: what is not there yet."""
        self.registered: dict[str, pulumi_mocks.MockResourceArgs] = {}
        self._unknown = unknown or {}

    def new_resource(self, args: pulumi_mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.registered[f"{args.typ}::{args.name}"] = args
        unknown = dict.fromkeys(self._unknown.get(args.typ, ()), rpc.UNKNOWN)
        name = "" if unknown.pop("id", None) is not None else args.name
        return name, {**args.inputs, **OUTPUTS.get(args.typ, {}), **unknown}

    def call(self, args: pulumi_mocks.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(f"no function is called here: {args.token}")


def previewing(unknown: Mapping[str, Collection[str]]) -> Recorder:
    """A recorder for a preview in which some outputs are not known yet: their names by type."""
    recorder = Recorder(unknown)
    pulumi.runtime.set_mocks(recorder, project="slipway", stack="test", preview=True)
    return recorder


def unknown_inputs(recorder: Recorder) -> dict[str, set[str]]:
    """The paths of all inputs that were not known, by resource."""
    found = {args.name: set(_unknown("", args.inputs)) for args in recorder.registered.values()}
    return {name: paths for name, paths in found.items() if paths}


def _unknown(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, Unknown):
        yield path
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _unknown(f"{path}.{key}" if path else key, item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(f"{path}[{index}]", item)


@contextmanager
def event_loop() -> Iterator[None]:
    """An event loop for the mocks, which use that of their thread: a test that ran its own may have left none. They
    leave one behind in each thread of theirs: cleared in the end, where that is no failure."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        # Their threads are this loop's. What those leave is nobody's only when they have ended.
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        asyncio.set_event_loop(None)
        gc.collect()


def declared(recorder: Recorder, plan: StackPlan, root: Path = Path("/project")) -> dict[str, Any]:
    """Runs the program against the mocks; returns the stack's outputs, resolved. `root`: the project's folder."""
    outputs: dict[str, Any] = {}

    @pulumi.runtime.test
    def program() -> pulumi.Output[None]:
        return pulumi.Output.from_input(deploy(plan, root, Path("/home"), "test")).apply(outputs.update)

    program()
    return outputs
