# Runs inside a service's container, by the Python that is there: asks the server one thing and prints the answer.
# Arguments: the path, the content type, the length of the body that comes on standard input (-1: a GET), how many
# seconds it may take; where the container does not say it itself the server's port, and the file with its keys.
# Printed: the status and the headers as a line of JSON, then the beginning of the body.
import http.client
import json
import os
import sys

path, content_type, length, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
port = int(sys.argv[5] if len(sys.argv) > 5 else os.environ.get("SERVER_PORT") or 5001)
headers = {"Content-Type": content_type} if length >= 0 else {}
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
try:
    if len(sys.argv) > 6:
        with open(sys.argv[6], encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes its time
            keys = file.read().strip()
        # {"primary": "...", "secondary": "..."}, or a key a line.
        key = next(filter(None, json.loads(keys).values())) if keys.startswith("{") else keys.split()[0]
        headers["Authorization"] = f"Bearer {key}"
    # Standard input is not ended: its length is known.
    body = sys.stdin.buffer.read(length) if length >= 0 else None
    connection.request("GET" if body is None else "POST", path, body, headers)
    response = connection.getresponse()
    body = response.read()
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"{error or type(error).__name__}")
except (ValueError, LookupError, AttributeError, StopIteration):
    sys.exit(f"there is no key in {sys.argv[6]}")  # nothing of what is in it
head = {"status": response.status, "headers": {name.lower(): value for name, value in response.getheaders()}}
sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + body[:65536])
