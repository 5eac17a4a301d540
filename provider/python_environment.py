"""`PythonEnvironment`: a virtual environment made from a locked list of packages, for services on this machine.

The requirements are resolved once, into a lock file with hashes beside the stack; that lock, not the requirements,
decides what is installed. It carries the digest of the requirements it was made for, so a lock that fits them is read
in a preview, and one that does not is made anew by `up`. Folders, sharing and removal are `provider.environments`'.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from provider import environments
from provider.local import environment_folders
from provider.resource import Change, Context, Failure, Input, Resource, ResourceError, declared_changes
from provider.values import UNKNOWN, Properties, is_known

# The lowest Python that Slipway runs on: a lock fits every newer one too.
_LOWEST_PYTHON = "3.11"
_HEADER = "# Locked by Slipway for requirements "
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


class PythonEnvironment(Resource):
    """See the module. Its id is the environment's name; every change but one of workspace is made in place.

    A change leaves the former folder until no revision of a service runs in it.
    """

    token: ClassVar[str] = "slipway:index:PythonEnvironment"
    inputs: ClassVar[Mapping[str, Input]] = {
        "workspace": Input("string", replaces=True),
        "requirements": Input("list"),
        "lockFile": Input("string", silent=True),
        "pythonVersion": Input("string", required=False),
        # Both are read from the lock file, when it fits the requirements.
        "lockDigest": Input("string", required=False),
        "packages": Input("map", required=False),
    }

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        if not is_known(news):
            return news, []
        version = news.get("pythonVersion")
        if version is not None and re.fullmatch(r"3\.\d+", version) is None:
            return news, [Failure("pythonVersion", f"must be like '3.12', not {version!r}")]
        return {**_inputs_alone(news), **_locked_properties(news)}, []

    def diff(self, state: Properties, news: Properties) -> list[Change]:
        if "lockDigest" in news:
            return declared_changes(self.inputs, state, news)
        # Not resolved yet: what the lock will say is no difference that could be shown.
        unresolved = {name: spec for name, spec in self.inputs.items() if name not in ("lockDigest", "packages")}
        changes = declared_changes(unresolved, state, news)
        return changes or [Change("lockDigest", "update")]

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        return context.name, await self._made(context, news)

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        outputs = await self._made(context, news)
        if not context.preview:
            await asyncio.to_thread(environment_folders.collect, Path(news["workspace"]))
        return outputs

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        home = Path(state["workspace"])
        if environments.is_whole(home, Path(state["python"]).parent.parent.name):
            return state
        context.log.warning(f"the virtual environment {resource_id} is gone or incomplete: it will be made again")
        return None

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        home = Path(state["workspace"])
        environment_folders.forget(home, resource_id)
        await asyncio.to_thread(environment_folders.collect, home)

    async def _made(self, context: Context, news: Properties) -> Properties:
        if context.preview:
            return self._foreseen(news)
        try:
            return await asyncio.to_thread(self._make, context, news)
        except environments.EnvironmentError as error:
            raise ResourceError(f"environment {context.name}: {error}") from None
        except OSError as error:
            raise ResourceError(
                f"environment {context.name}: {error.strerror}: {error.filename}; free space or mend the rights, "
                f"then run `up` again"
            ) from None

    def _foreseen(self, news: Properties) -> Properties:
        if not is_known(news) or "lockDigest" not in news:
            return {**news, "lockDigest": UNKNOWN, "packages": UNKNOWN, "python": UNKNOWN}
        return {**news, "python": str(environments.interpreter(Path(news["workspace"]), _key(news)))}

    def _make(self, context: Context, news: Properties) -> Properties:
        home, lock_file = Path(news["workspace"]), Path(news["lockFile"])
        if "lockDigest" not in news:
            context.log.status("resolving packages")
            _resolve(context.name, news["requirements"], news.get("pythonVersion"), lock_file)
            news = {**news, **_locked_properties(news)}
        key = _key(news)
        python = news.get("pythonVersion") or sys.executable
        environments.make(home, context.name, key, lock_file.read_text(), python, context.log.status)
        return {**news, "python": str(environments.interpreter(home, key))}


def _key(news: Properties) -> str:
    return environments.key_of(news["lockDigest"], news.get("pythonVersion") or platform.python_version())


def _inputs_alone(news: Properties) -> Properties:
    return {name: value for name, value in news.items() if name not in ("lockDigest", "packages")}


def _requirements_digest(requirements: list[str], python_version: str | None) -> str:
    return hashlib.sha256(json.dumps([sorted(requirements), python_version]).encode()).hexdigest()[:16]


def _locked_properties(news: Properties) -> dict[str, Any]:
    """`lockDigest` and `packages` from the lock file; nothing where it is missing or made for other requirements."""
    try:
        text = Path(news["lockFile"]).read_text()
    except FileNotFoundError:
        return {}
    header, _, body = text.partition("\n")
    if header != _HEADER + _requirements_digest(news["requirements"], news.get("pythonVersion")):
        return {}
    digest = "sha256:" + hashlib.sha256(body.encode()).hexdigest()
    return {"lockDigest": digest, "packages": dict(_PIN.findall(body))}


def _resolve(name: str, requirements: list[str], python_version: str | None, lock_file: Path) -> None:
    """Resolves `requirements` for every platform and writes the lock, without the address of any index."""
    try:
        body = environments.run_uv(
            *("pip", "compile", "-", "--universal", "--python-version", python_version or _LOWEST_PYTHON),
            *("--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate", "--quiet"),
            text="\n".join(requirements),
        )
    except environments.EnvironmentError as error:
        raise ResourceError(
            f"environment {name}: its packages do not resolve. The resolver says:\n{error}\n"
            f"Mend `environments.{name}.pip` in the stack's configuration (asked for: {', '.join(requirements)})."
        ) from None
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    partial = lock_file.with_name(f".{lock_file.name}.partial")
    partial.write_text(_HEADER + _requirements_digest(requirements, python_version) + "\n" + body)
    partial.rename(lock_file)
