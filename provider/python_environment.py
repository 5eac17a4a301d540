"""`PythonEnvironment`: a locked list of packages, and on demand the virtual environment made from it, which services on
this machine run in. Images take the lock alone.

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
from provider.credentials import has_credentials, redacted
from provider.local import environment_folders
from provider.resource import Change, Context, Failure, Input, Resource, ResourceError, declared_changes
from provider.values import UNKNOWN, Properties, is_known

# The lowest Python that Slipway runs on: a lock fits every newer one too.
_LOWEST_PYTHON = "3.11"
_HEADER = "# Locked by Slipway for requirements "
_HASH = re.compile(r"\s+--hash=(sha256:[0-9a-f]{64})")
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
        "torchBackend": Input("string", required=False),
        "sources": Input("map", required=False, silent=True),
        # False: only the lock is made, for images. No interpreter is needed then.
        "installed": Input("boolean", required=False),
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
        failures = [
            Failure(
                f"requirements[{index}]",
                "holds credentials, which the lock and the state would show; set the index "
                "in uv's own settings (UV_INDEX, netrc)",
            )
            for index, requirement in enumerate(news["requirements"])
            if has_credentials(requirement)
        ]
        if failures:
            return {**news, "requirements": [redacted(item) for item in news["requirements"]]}, failures
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
        if not context.preview and "python" in outputs:
            await asyncio.to_thread(environment_folders.collect, Path(news["workspace"]))
        elif not context.preview:
            await asyncio.to_thread(_forget, Path(news["workspace"]), resource_id)
        return outputs

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        if state.get("python") is None:
            return state
        home = Path(state["workspace"])
        if environments.is_whole(home, Path(state["python"]).parent.parent.name):
            return state
        context.log.warning(f"the virtual environment {resource_id} is gone or incomplete: it will be made again")
        return None

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        await asyncio.to_thread(_forget, Path(state["workspace"]), resource_id)

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
            unknown = {**news, "lockDigest": UNKNOWN, "packages": UNKNOWN}
            return {**unknown, "python": UNKNOWN} if _is_installed(news) else unknown
        if not _is_installed(news):
            return news
        return {**news, "python": str(environments.interpreter(Path(news["workspace"]), _key(news)))}

    def _make(self, context: Context, news: Properties) -> Properties:
        home, lock_file = Path(news["workspace"]), Path(news["lockFile"])
        if "lockDigest" not in news:
            context.log.status("resolving packages")
            _write_lock(lock_file, _header(news), _resolve(context.name, news))
            news = {**news, **_locked_properties(news)}
        if not _is_installed(news):
            return news
        key = _key(news)
        python = news.get("pythonVersion") or sys.executable
        environments.make(home, context.name, key, lock_file.read_text(), python, context.log.status)
        return {**news, "python": str(environments.interpreter(home, key))}


def _is_installed(news: Properties) -> bool:
    return news.get("installed") is not False


def _forget(home: Path, name: str) -> None:
    environment_folders.forget(home, name)
    environment_folders.collect(home)


def _key(news: Properties) -> str:
    return environments.key_of(news["lockDigest"], news.get("pythonVersion") or platform.python_version())


def _inputs_alone(news: Properties) -> Properties:
    return {name: value for name, value in news.items() if name not in ("lockDigest", "packages")}


def _header(news: Properties) -> str:
    """The first line of a lock: which requirements it was made for."""
    identity = [sorted(news["requirements"]), news.get("pythonVersion")]
    if news.get("torchBackend") is not None:
        identity.append(news["torchBackend"])
    return _HEADER + hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def _locked_properties(news: Properties) -> dict[str, Any]:
    """`lockDigest` and `packages` from the lock file; nothing where it is missing or made for other requirements."""
    try:
        text = Path(news["lockFile"]).read_text()
    except FileNotFoundError:
        return {}
    header, _, body = text.partition("\n")
    if header != _header(news):
        return {}
    digest = "sha256:" + hashlib.sha256(body.encode()).hexdigest()
    return {"lockDigest": digest, "packages": dict(_PIN.findall(body))}


def _resolve(name: str, news: Properties) -> str:
    """The lock of the requirements, for every platform, without the address of any index."""
    requirements: list[str] = news["requirements"]
    backend = news.get("torchBackend")
    try:
        body = environments.run_uv(
            *("pip", "compile", "-", "--universal", "--python-version", news.get("pythonVersion") or _LOWEST_PYTHON),
            *("--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate", "--quiet"),
            *(() if backend is None else ("--torch-backend", backend)),
            text="\n".join(_HASH.sub("", item) for item in requirements),
        )
    except environments.EnvironmentError as error:
        raise ResourceError(
            f"environment {name}: its packages do not resolve. The resolver says:\n{error}\n"
            f"{_remedy(name, requirements, news.get('sources') or {}, str(error))}"
        ) from None
    if has_credentials(body):
        raise ResourceError(
            f"environment {name}: its lock would hold credentials, in the address of a package; "
            f"set the index in uv's own settings (UV_INDEX, netrc), and name the package without an address"
        )
    body = _with_given_hashes(name, body, requirements)
    return body if backend is None else f"{environments.TORCH_BACKEND}{backend}\n{body}"


def _remedy(name: str, requirements: list[str], sources: dict[str, str], said: str) -> str:
    """Where to mend what the resolver complains about."""
    mentioned = [item for item in sources if re.search(rf"\b{re.escape(_name(item))}\b", said, re.IGNORECASE)]
    if not mentioned:
        return f"Mend `environments.{name}.pip` in the stack's configuration (asked for: {', '.join(requirements)})."
    asked = "".join(f"\n  {sources[item]}: {item}" for item in mentioned)
    return f"Mend `environments.{name}` where these are asked for:{asked}"


def _name(requirement: str) -> str:
    """The name of a requirement's package, as indexes spell it (PyPA's name normalization)."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else requirement


def _with_given_hashes(name: str, body: str, requirements: list[str]) -> str:
    """The lock, with only those hashes of a package that its requirement allows: uv itself does not look at them."""
    allowed = {_name(item): set(_HASH.findall(item)) for item in requirements if _HASH.search(item)}
    packages = re.split(r"\n(?=\S)", body.rstrip("\n")) if allowed else []
    for index, package in enumerate(packages):
        hashes = allowed.get(_name(package))
        if hashes is None:
            continue
        head, *found = re.split(r"\s*\\\n\s*", package)
        kept = [item for item in found if item in {f"--hash={digest}" for digest in hashes}]
        if not kept:
            raise ResourceError(
                f"environment {name}: the index has no file of {head} with a hash that its requirement gives; "
                f"take the hashes away, or the package from where they were made"
            )
        packages[index] = " \\\n    ".join([head, *kept])
    return "\n".join([*packages, ""]) if allowed else body


def _write_lock(lock_file: Path, header: str, body: str) -> None:
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    partial = lock_file.with_name(f".{lock_file.name}.partial")
    partial.write_text(f"{header}\n{body}")
    partial.rename(lock_file)
