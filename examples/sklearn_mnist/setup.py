"""Makes the example's model: trains it in a virtual environment of its own, from locked packages with hashes.

Run by the Makefile, with the project's interpreter, when the model is missing or its training script has changed.
"""

import subprocess
import sys
from pathlib import Path

import uv

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parents[1] / ".slipway" / "training" / HERE.name


def main() -> None:
    print("==> making the example's model: its packages, then its training", file=sys.stderr)
    python = ENVIRONMENT / "bin" / "python"
    tool = uv.find_uv_bin()
    subprocess.run([tool, "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)], check=True)
    subprocess.run(
        [tool, "pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(HERE / "requirements.lock")],
        check=True,
    )
    subprocess.run([str(python), str(HERE / "train.py")], check=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"the example's model could not be made: {error.cmd[0]} ended with exit code {error.returncode}")
