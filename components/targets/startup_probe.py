# Runs inside a pod, by the Python that is there, until it succeeds once: before that no request is sent to the pod.
# Waits until the server is ready, and then asks for the sample request; why that failed becomes an event of the pod.
# Arguments: the server's port, for how many seconds to wait, the content type of the sample, the file with its body and
# the file with the keys (nothing where there is none).
# It waits by itself, and Kubernetes does not ask every second: a cluster keeps some 25 events of a pod, and no more.
import http.client
import json
import sys
import time
from pathlib import Path

_, port, patience, content_type, sample, keys = sys.argv
_SAMPLE_SECONDS, _READY_SECONDS, _PAUSE_SECONDS = 55, 5, 0.1


def ask(method: str, path: str, body: bytes | None, headers: dict[str, str], seconds: float) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=seconds)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, response.read(600).decode("utf-8", "replace")


def why_not_ready() -> str:
    try:
        status, text = ask("GET", "/ready", None, {}, _READY_SECONDS)
    except (OSError, http.client.HTTPException) as error:
        return f"GET /ready failed: {error or type(error).__name__}"
    return "" if status == 200 else f"GET /ready was answered with {status}: {text}"


deadline = time.monotonic() + float(patience)
while why := why_not_ready():
    if time.monotonic() > deadline:
        sys.exit(why)
    time.sleep(_PAUSE_SECONDS)
if sample:
    given = {"Content-Type": content_type}
    if keys:
        given["Authorization"] = f"Bearer {json.loads(Path(keys).read_text())['primary']}"
    try:
        status, text = ask("POST", "/score", Path(sample).read_bytes(), given, _SAMPLE_SECONDS)
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"the sample request failed: {error or type(error).__name__}")
    if not 200 <= status < 300:
        sys.exit(f"the sample request was answered with {status}: {text}")
