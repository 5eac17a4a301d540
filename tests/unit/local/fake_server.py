"""A server that speaks the control protocol and little else, to see what the supervisor does with one that misbehaves.

How it behaves comes from environment variables:
FAKE_REVISION  the revision it claims to be, instead of the one it was started as
FAKE_START     `exit:N`, `fail`, `hang` (never ready): instead of becoming ready
FAKE_SCORE     status of POST /score (200)
FAKE_HEALTH    name of a file: while it exists, GET / is answered with 500
FAKE_DRAIN     `ignore`: commands to drain are not obeyed; `until:FILE`: they are once the file exists
"""

import argparse
import json
import os
import select
import socket
import sys
import time

arguments = argparse.ArgumentParser()
arguments.add_argument("--control-fd", type=int, required=True)
arguments.add_argument("--revision", default="")
options, _ = arguments.parse_known_args()
control = socket.socket(fileno=options.control_fd)
revision = os.environ.get("FAKE_REVISION", options.revision)


def tell(**event: object) -> None:
    control.sendall(json.dumps(event).encode() + b"\n")


def answer(connection: socket.socket) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        piece = connection.recv(65536)
        if not piece:
            return
        request += piece
    head, _, body = request.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    path = head.split()[1].decode()
    status = 200
    if path == "/score":
        status = int(os.environ.get("FAKE_SCORE", "200"))
    elif os.path.exists(os.environ.get("FAKE_HEALTH", "")):  # noqa: PTH110 - started as quickly as can be
        status = 500
    content = json.dumps({"pid": os.getpid(), "revision": revision, "path": path}).encode()
    connection.sendall(
        f"HTTP/1.1 {status} X\r\nslipway-revision: {revision}\r\nconnection: close\r\n"
        f"content-length: {len(content)}\r\n\r\n".encode()
        + content
    )


start = os.environ.get("FAKE_START", "")
print(f"revision {revision} is starting", flush=True)
if start.startswith("exit:"):
    print("giving up", flush=True)
    sys.exit(int(start[5:]))
if start == "fail":
    tell(event="failed", reason="InitError", message="init() raised ValueError: no model", traceback=["ValueError: no"])
    sys.exit(3)
if start == "hang":
    while control.recv(65536):
        pass
    sys.exit(0)
tell(event="ready", revision=revision)
listening: list[socket.socket] = []
while True:
    readable, _, _ = select.select([control, *listening], [], [])
    if control in readable:
        data, descriptors, _, _ = socket.recv_fds(control, 65536, 4)
        if not data:
            sys.exit(0)
        for descriptor in descriptors:
            listening.append(socket.socket(fileno=descriptor))
            tell(event="listening")
        if b'"drain"' in data and os.environ.get("FAKE_DRAIN") != "ignore":
            _, _, release = os.environ.get("FAKE_DRAIN", "").partition("until:")
            while release and not os.path.exists(release):  # noqa: PTH110
                time.sleep(0.01)
            tell(event="drained")
            sys.exit(0)
        continue
    for server in readable:
        try:
            accepted, _ = server.accept()
        except BlockingIOError:
            continue
        with accepted:
            accepted.setblocking(True)
            answer(accepted)
