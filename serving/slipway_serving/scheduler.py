"""Runs the entry script beside the I/O thread, so that a busy `run` never keeps liveness from answering.

The process's main thread is the first worker, since scripts expect `init` and `run` in one and the same thread, and
some libraries expect the main one. What a worker computes goes back to the I/O thread through a deque and one wake-up
for all that is done by then; a lock or a future for each request would cost a third of the speed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from slipway_serving.messages import Request

Work = Callable[[Request], bytes]
"""Computes the finished response of a request; must not raise."""
WorkMany = Callable[["list[Request]"], "list[bytes]"]
"""The same for several requests at once."""

STUCK_LIMIT = 8
"""Workers that never came back from a call before the process calls itself unhealthy."""
PATIENCE = 2.0
"""Seconds an interrupted worker has to come back before another takes its place."""


class ScoringTimeout(BaseException):
    """Raised inside a `run` that is past its time limit. No Exception, so that a script's own handlers let it pass."""


@dataclass(frozen=True, slots=True)
class Batching:
    """Several requests in one call: at most `size`, after waiting at most `wait` seconds for more of them."""

    work: WorkMany
    size: int
    wait: float


class _Worker:
    """One thread that runs the entry script. `lock` guards `current` against an interruption that comes too late."""

    __slots__ = ("current", "ident", "interrupted", "lock", "overdue", "retired")

    def __init__(self) -> None:
        self.ident = 0
        self.current: Sequence[Request] = ()
        self.interrupted = False
        self.retired = False
        self.overdue = 0.0
        self.lock = threading.Lock()


class Scheduler:
    """A queue of requests and the threads that work on it.

    `wake` is called from a worker when there are results to fetch with `results`; it must be cheap and thread-safe.
    """

    def __init__(self, work: Work, wake: Callable[[], None], threads: int = 1) -> None:
        self.work = work
        self.threads = threads
        self.batching: Batching | None = None
        self.done: deque[tuple[Request, bytes]] = deque()
        self.stuck = 0
        self._wake = wake
        self._waking = False
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self.queued = self._queue.qsize
        """How many requests wait for a worker."""
        self.submit = self._queue.put
        """Queues a request. Called in the I/O thread."""
        self._workers: list[_Worker] = []
        self._stopped = threading.Event()

    @property
    def healthy(self) -> bool:
        """False once so many workers hang that the process had better be replaced."""
        return self.stuck < STUCK_LIMIT

    def results(self) -> deque[tuple[Request, bytes]]:
        """What is done; the caller empties it. Called in the I/O thread after each wake-up."""
        self._waking = False
        return self.done

    def serve(self) -> None:
        """Work in the calling thread, and in `threads - 1` more, until `stop`."""
        for _ in range(self.threads - 1):
            self._start_worker()
        worker = _Worker()
        self._workers.append(worker)
        self._serve(worker)
        self._stopped.wait()

    def stop(self) -> None:
        """Let every worker end after the call it is in."""
        self._stopped.set()
        for _ in self._workers:
            self._queue.put(None)

    def interrupt(self, request: Request) -> None:
        """Raise `ScoringTimeout` in the worker that runs `request`, if one still does. Called in the I/O thread.

        A call that sits in a library's C code sees it only on its return: `replace_overdue` then helps the others.
        """
        for worker in self._workers:
            with worker.lock:
                if any(current is request for current in worker.current) and not worker.interrupted:
                    worker.interrupted = True
                    worker.overdue = perf_counter() + PATIENCE
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(worker.ident), ctypes.py_object(ScoringTimeout)
                    )

    def replace_overdue(self, now: float) -> int:
        """Start a worker for each one that did not come back from an interruption in time; their number."""
        count = 0
        for worker in tuple(self._workers):
            with worker.lock:
                late = worker.interrupted and not worker.retired and now > worker.overdue
                if late:
                    worker.retired = True
            if late:
                count += 1
                self.stuck += 1
                self._workers.remove(worker)
                self._start_worker()
        return count

    def _start_worker(self) -> None:
        worker = _Worker()
        self._workers.append(worker)
        threading.Thread(target=self._serve, args=(worker,), name="slipway-run", daemon=True).start()

    def _serve(self, worker: _Worker) -> None:
        worker.ident = threading.get_ident()
        going = True
        while going:
            try:
                if self.batching is None:
                    self._work_on(worker)
                else:
                    self._work_on_batches(worker, self.batching)
                going = worker.interrupted
            except ScoringTimeout:
                going = True
            if going:
                self._recover(worker)
                going = not worker.retired

    def _work_on(self, worker: _Worker) -> None:
        """Serve until told to stop or interrupted."""
        get, work, done, lock = self._queue.get, self.work, self.done, worker.lock
        while True:
            request = get()
            if request is None:
                return
            worker.current = (request,)
            request.running = True
            # Last: the I/O thread marks a request as answered and then looks whether it runs. So no call begins that
            # nobody would end.
            payload = None if request.answered else work(request)
            with lock:
                worker.current = ()
            if worker.interrupted:
                return
            if payload is None:
                continue
            done.append((request, payload))
            if not self._waking:
                self._waking = True
                self._wake()

    def _work_on_batches(self, worker: _Worker, batching: Batching) -> None:
        """The same with whatever waits taken up together: a batch is as large as the load makes it."""
        while True:
            batch = self._next_batch(batching)
            if batch is None:
                return
            worker.current = batch
            for request in batch:
                request.running = True
            # Looked at last, as above.
            batch = [request for request in batch if not request.answered]
            payloads = batching.work(batch) if batch else []
            with worker.lock:
                worker.current = ()
            self.done.extend(zip(batch, payloads, strict=True))
            if not self._waking:
                self._waking = True
                self._wake()
            if worker.interrupted:
                return

    def _next_batch(self, batching: Batching) -> list[Request] | None:
        """What waits, and what comes within the time allowed for it, up to the largest size; None to stop."""
        first = self._queue.get()
        if first is None:
            return None
        batch = [first]
        ends = perf_counter() + batching.wait
        while len(batch) < batching.size:
            left = ends - perf_counter()
            try:
                request = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if request is None:
                # For the next turn: this worker still has work to do.
                self._queue.put(None)
                break
            batch.append(request)
        return batch

    def _recover(self, worker: _Worker) -> None:
        """Put a worker in order that was interrupted, whether the interruption has arrived or is still on its way."""
        with contextlib.suppress(ScoringTimeout):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), None)
        with worker.lock:
            unfinished = [request for request in worker.current if not request.answered]
            worker.current = ()
            worker.interrupted = False
            if worker.retired:
                self.stuck -= 1
        for request in unfinished:
            # The other requests of a batch that was interrupted for one of them
            request.running = False
            self._queue.put(request)


class AsyncScheduler:
    """The same for a `run` that is a coroutine function: an event loop of the script's own in the main thread.

    `concurrency` calls are under way at a time, the others wait. A call that blocks delays the script's other calls,
    but not the I/O thread.
    """

    stuck = 0
    healthy = True

    def __init__(
        self, work: Callable[[Request], Coroutine[Any, Any, bytes]], wake: Callable[[], None], concurrency: int
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.done: deque[tuple[Request, bytes]] = deque()
        self._work = work
        self._wake = wake
        self._free = concurrency
        self._waiting: deque[Request] = deque()
        self._tasks: dict[Request, asyncio.Task[None]] = {}

    def queued(self) -> int:
        """How many requests wait for their turn."""
        return len(self._waiting)

    def submit(self, request: Request) -> None:
        """Queue a request. Called in the I/O thread."""
        self._waiting.append(request)
        self.loop.call_soon_threadsafe(self._start)

    def results(self) -> deque[tuple[Request, bytes]]:
        """What is done; the caller empties it. Called in the I/O thread after each wake-up."""
        return self.done

    def serve(self) -> None:
        """Work in the calling thread until `stop`."""
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def stop(self) -> None:
        """End the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)

    def interrupt(self, request: Request) -> None:
        """Cancel the call for a request. Called in the I/O thread."""
        self.loop.call_soon_threadsafe(self._cancel, request)

    def replace_overdue(self, now: float) -> int:
        """Nothing hangs here for good: a cancelled call ends at its next `await`."""
        return 0

    def _cancel(self, request: Request) -> None:
        task = self._tasks.get(request)
        if task is not None:
            task.cancel()

    def _start(self) -> None:
        while self._free and self._waiting:
            request = self._waiting.popleft()
            request.running = True  # before the look whether it is answered, as in a `Scheduler`
            if request.answered:
                continue
            self._free -= 1
            self._tasks[request] = self.loop.create_task(self._call(request))

    async def _call(self, request: Request) -> None:
        try:
            payload = await self._work(request)
            self.done.append((request, payload))
            self._wake()
        finally:
            self._free += 1
            del self._tasks[request]
            self._start()
