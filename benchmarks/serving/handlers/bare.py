"""A bare ASGI function: what Python behind uvicorn can do at most, with nothing of a scoring server around it."""

import os

import models
import orjson
import uvicorn

predict = models.load(os.environ["BENCH_CASE"])


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    out = orjson.dumps({"result": predict(orjson.loads(body)["data"])}) if body else b"{}"
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(out)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": out})


if __name__ == "__main__":
    workers = int(os.environ["BENCH_WORKERS"])
    uvicorn.run(
        "bare:app",
        port=int(os.environ["BENCH_PORT"]),
        workers=workers,
        log_level="error",
        loop="uvloop",
        http="httptools",
    )
