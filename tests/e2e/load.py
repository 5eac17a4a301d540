"""A steady load on a service, to see whether an update loses a request."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections import Counter
from collections.abc import Mapping
from types import TracebackType


class SteadyLoad:
    """Posts to a service from several keep-alive connections until the block ends.

    A connection that the server has closed in the proper way (`Connection: close`) is opened again, as clients do.
    """

    def __init__(
        self,
        port: int,
        connections: int = 4,
        body: bytes = b"1",
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        pause: float = 0,
    ) -> None:
        """`pause`: for how many seconds each connection rests between two requests; others need the machine too."""
        self.answers: Counter[str] = Counter()
        """How many requests each revision answered."""
        self.failures: list[str] = []
        self._host, self._port, self._pause = host, port, pause
        self._body = body
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._tls = tls
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(connections)]

    def forget(self) -> None:
        """From now on `answers` has those alone whose requests are sent from now on."""
        self.answers = Counter()

    def __enter__(self) -> SteadyLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        if self._tls is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=120)
        else:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=120, context=self._tls)
        try:
            while not self._stop.is_set():
                answers = self.answers
                try:
                    connection.request("POST", "/score", self._body, self._headers)
                    response = connection.getresponse()
                    response.read()
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(repr(error))
                    connection.close()
                    continue
                self._stop.wait(self._pause)
                if response.status == 200:
                    answers[response.headers["slipway-revision"]] += 1
                else:
                    self.failures.append(f"status {response.status}")
        finally:
            connection.close()
