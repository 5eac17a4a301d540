"""Load for one server: connections that each send a request as soon as the last one is answered.

Run as a process of its own, so that the measuring side costs every server the same: `python -m benchmarks.serving.load
PORT CONNECTIONS SECONDS FILE [HOST]`, where the file holds one request as bytes. Prints a JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import httptools
import uvloop


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, ends: float, latencies: list[float], statuses: dict[int, int]) -> None:
        self.request, self.ends, self.latencies, self.statuses = request, ends, latencies, statuses
        self.parser = httptools.HttpResponseParser(self)
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Set when the connection ends: True where that was between two requests."""
        self.between = False
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.send()

    def send(self) -> None:
        self.between = False
        self.sent = perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        now = perf_counter()
        status = self.parser.get_status_code()
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.latencies.append(now - self.sent)
        self.between = True
        if now >= self.ends:
            self.transport.close()
        elif self.parser.should_keep_alive():
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(self.between)


async def measure(
    port: int, connections: int, seconds: float, request: bytes, host: str = "127.0.0.1"
) -> dict[str, Any]:
    """Requests a second, latencies in seconds, and how often each status came; 0 counts broken connections."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    began = perf_counter()
    ends = began + seconds

    async def client() -> None:
        # Servers that close after each answer are connected to again, as they are by any client.
        while perf_counter() < ends:
            _, protocol = await loop.create_connection(lambda: Client(request, ends, latencies, statuses), host, port)
            if not await asyncio.wait_for(protocol.done, seconds + 60):
                statuses[0] = statuses.get(0, 0) + 1

    await asyncio.gather(*(client() for _ in range(connections)))
    took = perf_counter() - began
    ordered = sorted(latencies) or [float("nan")]
    return {
        "rate": len(latencies) / took,
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        "statuses": statuses,
    }


if __name__ == "__main__":
    port, connections, seconds, file, *host = sys.argv[1:]
    result = uvloop.run(measure(int(port), int(connections), float(seconds), Path(file).read_bytes(), *host))
    print(json.dumps(result))
