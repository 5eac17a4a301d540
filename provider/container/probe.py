# Runs inside a service's container, by the Python that is there: asks the server one thing and prints the answer.
# Arguments: the path, the content type, and the length of the body that comes on standard input (-1: a GET).
# Printed: the status and the headers as a line of JSON, then the beginning of the body.
import http.client
import json
import os
import sys

path, content_type, length, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("SERVER_PORT") or 5001), timeout=seconds)
try:
    if length < 0:
        connection.request("GET", path)
    else:
        # Standard input is not ended: its length is known.
        connection.request("POST", path, sys.stdin.buffer.read(length), {"Content-Type": content_type})
    response = connection.getresponse()
    body = response.read()
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"{error or type(error).__name__}")
head = {"status": response.status, "headers": {name.lower(): value for name, value in response.getheaders()}}
sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + body[:65536])
