"""The environment variables that a server process sees.

A list of what may pass, not of what may not: the shell of whoever runs `pulumi` holds passphrases and access tokens,
and a service must not change with the shell it was deployed from. Whatever else a model needs goes into the service's
`environmentVariables`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PASSED_ON: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ"),
    *("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_NUMERIC", "LC_TIME", "LC_COLLATE", "LC_MESSAGES"),
    *("LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "XDG_CACHE_HOME"),
)
"""What a server process takes over from the environment of `pulumi`."""

_DEFAULTS: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


def base_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What of `environment` passes on, with a path and a language where it has none."""
    return {**_DEFAULTS, **{name: environment[name] for name in PASSED_ON if name in environment}}
