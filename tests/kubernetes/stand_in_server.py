# What runs in the pods of the tests: a server that answers as a scoring server does, or fails as one does.
# MODE says how; it may come from a config map, so that it changes while the Deployment stays as it is.
import json
import os
import pathlib
import sys
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

mode, revision = os.environ.get("MODE", "serve"), os.environ.get("ANSWERS_AS") or os.environ["SLIPWAY_REVISION"]
print(f"mode {mode}", flush=True)
if mode == "init-error":
    try:
        pathlib.Path("/gone").read_text()
    except OSError:
        traceback.print_exc()
        sys.exit(3)
if mode == "crash":
    raise RuntimeError("last words")
if mode == "eat":
    kept = [b"x" * (1 << 20) for _ in range(4096)]
if mode == "sleep":
    time.sleep(3600)


class Handler(BaseHTTPRequestHandler):
    def reply(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("slipway-revision", revision)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if mode == "starting":
            return self.reply(503, {"status": "starting", "message": "init() has been running for a while"})
        return self.reply(200, {"status": "ready"})

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["content-length"]))
        keys = os.environ.get("KEYS_FILE")
        if (
            keys
            and self.headers.get("authorization") != f"Bearer {json.loads(pathlib.Path(keys).read_text())['primary']}"
        ):
            return self.reply(401, {"message": "This service needs a key"})
        if mode == "bad-run":
            return self.reply(500, {"message": "run() raised"})
        return self.reply(200, {"path": self.path, "bytes": len(sent)})

    def log_message(self, *arguments):
        pass


ThreadingHTTPServer(("", 8080), Handler).serve_forever()
