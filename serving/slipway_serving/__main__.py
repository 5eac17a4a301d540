"""`python -m slipway_serving`: the same as the console script `slipway-serve`."""

import os
import sys

# `-m` puts the working directory first, where a script's own `queue.py` would take the standard library's place.
# The script's directories are made importable later, behind the standard library (`entry_script.load`).
if sys.path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109 - nothing more is imported before the path is right
    del sys.path[0]

from slipway_serving.cli import main

if __name__ == "__main__":
    sys.exit(main())
