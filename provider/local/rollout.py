"""Brings up a process of a revision and checks it before it may take traffic.

Started, `init()` done, a private socket, the readiness check, the revision it names, the sample request: in that order,
within the startup timeout. What happens with the process afterwards is the supervisor's business.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from provider.local import causes
from provider.local.listener import private
from provider.local.output import Log
from provider.local.probe import Answer, NoAnswerError, ask
from provider.local.process import ServerProcess, StartError, is_temporary
from provider.local.record import Phase

_READY_SECONDS = 30.0
"""How long a server that said it is ready may take to answer so."""
_AGAIN_SECONDS = 0.05


async def bring_up(
    spec: Mapping[str, Any],
    log: Log,
    probe: Path,
    seconds: float,
    *,
    with_sample: bool,
    reached: Callable[[Phase], None],
) -> ServerProcess:
    """A process of the revision `spec` that passed its checks; it listens on the Unix socket `probe` alone.

    Raises `StartError`; the process is gone then, as it is when this is cancelled."""
    deadline = asyncio.get_running_loop().time() + seconds
    reached("Starting")
    process = ServerProcess(spec, log)
    try:
        await process.ready(seconds)
        reached("Checking")
        listening = _private(probe)
        try:
            await process.listen(listening, _READY_SECONDS)
        finally:
            listening.close()
        await _check_ready(process, probe)
        if with_sample and spec.get("sample") is not None:
            left = deadline - asyncio.get_running_loop().time()
            await _check_sample(process, probe, spec["sample"], max(left, 1.0))
    except BaseException:
        probe.unlink(missing_ok=True)
        await asyncio.shield(process.kill())
        raise
    return process


def _private(probe: Path) -> socket.socket:
    try:
        return private(probe)
    except OSError as error:
        raise StartError(causes.not_started(error, "the readiness check"), temporary=is_temporary(error)) from error


async def _check_ready(process: ServerProcess, probe: Path) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _READY_SECONDS
    while True:
        try:
            answer = await ask(probe, "/ready", timeout=_READY_SECONDS)
            trouble = f"GET /ready was answered with {answer.status}: {answer.excerpt()}"
        except NoAnswerError as error:
            answer = None
            trouble = str(error)
        if answer is not None and answer.ok:
            if answer.revision != process.revision:
                raise StartError(causes.wrong_revision(process.revision, answer.revision, process.lines))
            return
        await _still_running(process)
        if loop.time() > deadline:
            raise StartError(causes.not_answering(trouble, process.lines))
        await asyncio.sleep(_AGAIN_SECONDS)


async def _check_sample(process: ServerProcess, probe: Path, sample: Mapping[str, str], seconds: float) -> None:
    try:
        body = Path(sample["path"]).read_bytes()
        answer: Answer = await ask(probe, "/score", timeout=seconds, body=body, content_type=sample["contentType"])
    except NoAnswerError as error:
        await _still_running(process)
        raise StartError(causes.sample_refused(str(error), process.lines)) from error
    except OSError as error:
        raise StartError(causes.sample_refused(f"its file cannot be read: {error}", process.lines)) from error
    if not answer.ok:
        message = f"it was answered with {answer.status}: {answer.excerpt()}"
        raise StartError(causes.sample_refused(message, process.lines))


async def _still_running(process: ServerProcess) -> None:
    # A broken connection is noticed before the end of the process that caused it.
    await asyncio.wait({process.exited}, timeout=_AGAIN_SECONDS)
    if process.exited.done():
        raise StartError(process.cause(when="while it was checked", starting=True))
