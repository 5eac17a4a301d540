# Runs inside a service's container, by the Python that is there: asks the server one thing and prints the answer.
# Arguments: the path, the content type, the length of the body that comes on standard input (-1: a GET), how many
# seconds it may take, for how many seconds it is asked again until it answers well (0: once); where the container does
# not say it itself the server's port, and the file with its keys.
# Printed: the status and the headers as a line of JSON, then the beginning of the body.
import http.client
import json
import os
import sys
import time

path, content_type, length = sys.argv[1], sys.argv[2], int(sys.argv[3])
seconds, patience = float(sys.argv[4]), float(sys.argv[5])
port = int(sys.argv[6] if len(sys.argv) > 6 else os.environ.get("SERVER_PORT") or 5001)
headers = {"Content-Type": content_type} if length >= 0 else {}
deadline = time.monotonic() + patience
try:
    if len(sys.argv) > 7:
        with open(sys.argv[7], encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes its time
            keys = file.read().strip()
        # {"primary": "...", "secondary": "..."}, or a key a line.
        key = next(filter(None, json.loads(keys).values())) if keys.startswith("{") else keys.split()[0]
        headers["Authorization"] = f"Bearer {key}"
    # Standard input is not ended: its length is known.
    sent = sys.stdin.buffer.read(length) if length >= 0 else None
    while True:
        last = time.monotonic() >= deadline
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
            connection.request("GET" if sent is None else "POST", path, sent, headers)
            response = connection.getresponse()
            body = response.read()
            if last or response.status < 300:
                break
        except (OSError, http.client.HTTPException):
            if last:
                raise
        time.sleep(0.01)
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"{error or type(error).__name__}")
except (ValueError, LookupError, AttributeError, StopIteration):
    sys.exit(f"there is no key in {sys.argv[7]}")  # nothing of what is in it
head = {"status": response.status, "headers": {name.lower(): value for name, value in response.getheaders()}}
sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + body[:65536])
