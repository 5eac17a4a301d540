"""Free ports for what tests start."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10240
_NODE_PORTS = range(30000, 32768)
"""What a cluster on this machine answers at without that anybody listens there."""
_given: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now, and that the kernel gives to nobody who asks for any port.

    `pulumi`, its plugins and each connection that is opened get such ports: one of those could be taken before the
    program that it was meant for listens. No port is given twice, also where several processes run the tests.
    """
    choice = _ours()
    while (port := secrets.choice(choice)) in _given or not is_free(port):
        pass
    _given.add(port)
    return port


def is_free(port: int) -> bool:
    """Whether nobody listens on the port. A process that was killed may do so a moment longer than it is seen."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _ours() -> range:
    """The larger of the ranges below and above the kernel's, without the ports of Kubernetes' nodes; of several
    processes that run the tests, each has its part."""
    try:
        first, last = (int(word) for word in _RANGE.read_text().split())
    except OSError:
        first, last = 32768, 60999
    below = range(_LOWEST, min(first, _NODE_PORTS.start))
    above = range(max(last + 1, _NODE_PORTS.stop), 65536)
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return max(below, above, key=len)[number :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
