"""`python -m slipway_serving`: the same as the console script `slipway-serve`."""

import sys

from slipway_serving.cli import main

if __name__ == "__main__":
    sys.exit(main())
