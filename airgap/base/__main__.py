"""`python -m airgap.base PLACE`: makes a base image and stores it in an OCI image layout (a folder) or a registry.

Prints the reference of the image, `<repository>@<digest>`, as the one line of stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from airgap.base import debian, image
from provider.content.errors import ContentError
from provider.content.watch import Watch
from provider.location import Location


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m airgap.base", description="Makes a base image of Debian's packages."
    )
    parser.add_argument("place", help="a folder (an OCI image layout), or a registry's address HOST[:PORT][/PATH]")
    parser.add_argument("--repository", default="base/python", help="(default: %(default)s)")
    parser.add_argument("--mirror", help="of Debian's packages (default: debootstrap's)")
    parser.add_argument("--username", help="of the registry; the password is read from SLIPWAY_REGISTRY_PASSWORD")
    options = parser.parse_args()
    is_folder = options.place.startswith(("/", "."))
    place = str(Path(options.place).resolve()) if is_folder else options.place
    location = Location(place, options.username, os.environ.get("SLIPWAY_REGISTRY_PASSWORD"))
    try:
        print("making the base image", file=sys.stderr)
        layer, blob, python = image.cached_layer(options.mirror)
        with location.repository(options.repository, Watch()) as store:
            digest = image.push(store, f"debian12-python{python}", layer, blob, python)
    except (debian.BaseImageError, ContentError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.repository}@{digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
