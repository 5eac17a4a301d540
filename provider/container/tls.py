"""The certificates of a connection to an engine at tcp://: what is wrong with the files here, and what the other side's
refusal means. Who connects is `provider.container.engine`'s matter, and that of Pulumi's docker plugin.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docker.tls import TLSConfig

FILES = ("ca.pem", "cert.pem", "key.pem")
"""What a folder of certificates holds, named as Docker's own command has it."""
_CLIENT = "that has to be valid, for clients, and signed by the authority that the engine was given (--tlscacert)"
_FILE_OF = {"certificate": "cert.pem", "privateKey": "key.pem"}


def mistakes(folder: Path) -> list[str]:
    """What keeps the certificates in `folder` from being used; nothing: an empty list. No secret is told."""
    texts: dict[str, str] = {}
    found = []
    for name in FILES:
        try:
            texts[name] = (folder / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            found.append(f"{folder} must hold ca.pem, cert.pem and key.pem: {name} is missing")
        except (OSError, UnicodeDecodeError) as error:
            found.append(f"{folder / name} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}")
    return found or _unfit(folder, texts)


def _unfit(folder: Path, texts: dict[str, str]) -> list[str]:
    from provider.certificates.pair import check_chain, check_pair  # here: it loads slowly

    own = check_pair(texts["cert.pem"], texts["key.pem"], [])
    return [
        *(f"{folder / 'ca.pem'} {reason}" for reason in check_chain(texts["ca.pem"])),
        *(f"{folder / _FILE_OF[failure.property]} {failure.reason}" for failure in own),
    ]


def configuration(authority: str | None, pair: tuple[str, str] | None) -> TLSConfig:
    """What Docker's SDK is to connect with: files with the authority to trust, and with this client's certificate and
    key. That authority alone: without this, `requests` would prefer what REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names."""
    from docker.tls import TLSConfig
    from requests.utils import get_environ_proxies

    class Alone(TLSConfig):
        def configure_client(self, client: Any) -> None:
            super().configure_client(client)
            client.proxies = {**get_environ_proxies(client.base_url), **client.proxies}
            client.trust_env = False

    return Alone(client_cert=pair, ca_cert=authority, verify=True)


def refusal(error: BaseException) -> str | None:
    """What a failed connection with TLS says of certificates; None where it failed otherwise."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not accepted: {cause.verify_message}. It has to be valid, to name the host as "
                "`host` does, and to be signed by the authority in ca.pem"
            )
        if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
            return f"it refuses the certificate in cert.pem ({_plain(cause.reason)}): {_CLIENT}"
        # It may not come to the alert: what was sent meanwhile resets the connection.
        if isinstance(cause, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
            return f"it hung up. It is just ending, or refuses the certificate in cert.pem: {_CLIENT}"
    return None


def _plain(reason: str | None) -> str:
    return (reason or "").lower().replace("_", " ")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it was raised from, or carries: each library wraps it in a way of its own."""
    seen: list[BaseException] = []
    left: list[object] = [error]
    while left:
        one = left.pop()
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            left += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
            yield one


__all__ = ["FILES", "configuration", "mistakes", "refusal"]
