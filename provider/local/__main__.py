"""Starts a supervisor: `python -I -S provider/local/__main__.py <service directory> ...` (see `supervisor.main`).

Isolated, so that nothing of the user's Python settings reaches it.
"""

import os.path
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120
# Without this asyncio loads OpenSSL: a quarter of the supervisor's memory and start time, for nothing.
sys.modules["ssl"] = None  # type: ignore[assignment]

from provider.local.supervisor import main  # noqa: E402 - after the two lines above

main(sys.argv[1:])
