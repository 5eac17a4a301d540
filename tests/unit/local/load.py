"""Steady load on a service, while it is updated: some clients keep their connection, some open one for each request."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from typing import Any

from tests.unit.local.conftest import eventually


class Load:
    """Requests from several threads from `with` to its end. What did not go well is in `failures`."""

    def __init__(self, port: int, kept_alive: int = 2, one_shot: int = 2) -> None:
        self._port = port
        self._end = threading.Event()
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(True,)) for _ in range(kept_alive)]
        self._threads += [threading.Thread(target=self._run, args=(False,)) for _ in range(one_shot)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.until_more(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    @property
    def count(self) -> int:
        return sum(self.answers.values())

    def until_more(self, requests: int) -> None:
        """Waits for that many more answers."""
        goal = self.count + requests
        eventually(lambda: self.failures or self.count >= goal, f"{requests} more answers")

    def _run(self, keep_alive: bool) -> None:
        connection = self._connect()
        while not self._end.is_set():
            try:
                connection.request("POST", "/score", b"{}", {"content-type": "application/json"})
                answer = connection.getresponse()
                body: Any = json.loads(answer.read())
                if answer.status != 200:
                    self.failures.append(f"{answer.status}: {body}")
                self.answers[str(body.get("version"))] += 1
                closes = answer.getheader("connection", "").lower() == "close"
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                closes = True
            if closes or not keep_alive:
                connection.close()
                connection = self._connect()
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
