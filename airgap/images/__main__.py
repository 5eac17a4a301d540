"""`python -m airgap.images`: makes the images that a stack needs, once on a machine. Needs root and debootstrap."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airgap.base.debian import BaseImageError
from airgap.images.making import make
from provider.content.errors import ContentError

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m airgap.images", description="Makes the images that stacks need, of Debian's packages."
    )
    parser.add_argument("--mirror", help="of Debian's packages (default: debootstrap's)")
    options = parser.parse_args(arguments)
    images = made(options.mirror)
    for image in (images or {}).values():
        print(f"{image['repository']}@{image['digest']}")
    return 1 if images is None else 0


def made(mirror: str | None = None) -> Mapping[str, Any] | None:
    """The images, made where they were not; None once it was told why they cannot be."""
    home = Path(os.environ.get("SLIPWAY_HOME") or ROOT / ".slipway").resolve() / "images"
    try:
        return make(home, mirror, _say)
    except (BaseImageError, ContentError) as error:
        print(f"error: {error}", file=sys.stderr)
        return None


def _say(message: str) -> None:
    print(f"==> {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
