"""The revision that takes traffic: watched, restarted when it breaks, drained when another takes its place."""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provider.condition import Cause
from provider.local import causes
from provider.local.listener import Listener
from provider.local.output import Log
from provider.local.probe import NoAnswerError, ask
from provider.local.process import ServerProcess, StartError
from provider.local.record import Phase
from provider.local.rollout import bring_up

HAND_OVER_SECONDS = 30.0
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True)
class Watch:
    """How a process is watched. All times in seconds."""

    interval: float = 5.0
    """Between two health checks."""
    timeout: float = 10.0
    """How long an answer may take."""
    failures: int = 3
    """How many failures in a row mean that the process is restarted."""
    first_delay: float = 0.25
    """Before the second restart in a row; the first comes at once, every further one waits twice as long."""
    longest_delay: float = 30.0
    """No restart waits longer than this."""
    steady: float = 60.0
    """A process that ran this long was well: the next restart comes at once again."""

    def delay(self, restarts: int) -> float:
        """How long to wait before the next restart after `restarts` in a row."""
        if restarts == 0:
            return 0.0
        return min(self.longest_delay, self.first_delay * 2.0 ** min(restarts - 1, 30))


class Instance:
    """A revision on a public socket, with its current process."""

    def __init__(self, spec: Mapping[str, Any], listener: Listener, probe: Path, process: ServerProcess) -> None:
        self.spec = spec
        self.listener = listener
        self.probe = probe
        self.process = process
        self.restarting = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def revision(self) -> str:
        """The revision's name."""
        return str(self.spec["revision"])

    async def take_traffic(self) -> None:
        """Hands the public socket to the process. Raises `StartError`."""
        try:
            self.listener.open()
        except OSError as error:
            raise StartError(causes.port_lost(self.listener.host, self.listener.port, error)) from error
        await self.process.listen(self.listener.socket, HAND_OVER_SECONDS)

    def keep(
        self, log: Log, watch: Watch, startup: float, went_down: Callable[[Cause], None], came_up: Callable[[], None]
    ) -> None:
        """Begins to watch the process and to restart it when needed."""
        self._keeper = asyncio.create_task(self._keep(log, watch, startup, went_down, came_up))
        self._keeper.add_done_callback(lambda task: self._not_kept(task, went_down))

    def _not_kept(self, task: asyncio.Task[None], went_down: Callable[[Cause], None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            task.print_stack(file=sys.stderr)
            went_down(Cause("SupervisorFault", f"a fault in the supervisor: {error!r}", hint="deploy it again"))

    async def _keep(
        self, log: Log, watch: Watch, startup: float, went_down: Callable[[Cause], None], came_up: Callable[[], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        restarts = 0
        while True:
            since = loop.time()
            cause = await self._until_broken(watch)
            went_down(cause)
            if loop.time() - since >= watch.steady:
                restarts = 0
            self.restarting = True
            await self.process.kill()
            while self.restarting:
                await asyncio.sleep(watch.delay(restarts))
                restarts += 1
                try:
                    self.process = await bring_up(
                        self.spec, log, self.probe, startup, with_sample=False, reached=_unheard
                    )
                    await self.take_traffic()
                except StartError as failure:
                    await self.process.kill()
                    went_down(failure.cause)
                else:
                    self.restarting = False
                    came_up()

    async def _until_broken(self, watch: Watch) -> Cause:
        failures = 0
        while True:
            await asyncio.wait({self.process.exited}, timeout=watch.interval)
            trouble = None if self.process.exited.done() else await self._trouble(watch.timeout)
            if self.process.exited.done():
                return self.process.cause(when="while it was serving", starting=False)
            failures = 0 if trouble is None else failures + 1
            if trouble is not None and failures >= watch.failures:
                return causes.stopped_answering(failures, trouble, self.process.lines)

    async def _trouble(self, timeout: float) -> str | None:  # noqa: ASYNC109 - handed on
        for path in ("/", "/ready"):
            try:
                answer = await ask(self.probe, path, timeout=timeout)
            except NoAnswerError as error:
                # Where the supervisor has no descriptor left, that is no trouble of the server.
                return None if getattr(error.__cause__, "errno", None) in _NO_DESCRIPTOR else str(error)
            if not answer.ok:
                return f"GET {path} was answered with {answer.status}: {answer.excerpt()}"
        return None

    async def retire(self, grace: float) -> None:
        """Stops watching, has the process finish what it is doing, and ends it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        await self.process.end(grace)
        self.probe.unlink(missing_ok=True)


def _unheard(_: Phase) -> None:
    """A restart is no rollout: its phases are not told."""
