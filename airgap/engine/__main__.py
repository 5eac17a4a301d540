"""The command `python3 -m airgap.engine`: progress on stderr, the directory with `pulumi` as the one line of stdout.

This file must parse under every Python 3, so that an old one gets the message below instead of a syntax error;
everything else is imported after the check.
"""

import sys


def check_python():
    # type: () -> None
    """Stop with a message where Python is too old for the rest of the set-up."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this is the place that says so
        sys.exit(
            "error: Python 3.11 or newer is needed, and this is %d.%d.\n"  # noqa: UP031
            "  where: %s\n"
            "  mend:  install a newer one (Debian: apt-get install python3 python3-venv), "
            "or name it: make PYTHON=/path/to/python3.11" % (sys.version_info[0], sys.version_info[1], sys.executable)
        )


if __name__ == "__main__":
    check_python()
    from airgap.engine.setup import main

    sys.exit(main())
