"""`python -m benchmarks.assets.register SOURCE STORE`: registers a model in a process of its own.

Prints a line of JSON: the `seconds` that it took without the start of Python, and the process' `peak` memory in bytes.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from tests.docker.images import register

begun = time.perf_counter()
register("bench", Path(sys.argv[1]), sys.argv[2])
seconds = time.perf_counter() - begun
print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
