"""Where a registry is: `registry.example`, `127.0.0.1:5000`, `registry.example/team`; a scheme may stand before."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from provider.content.names import DIGEST, REPOSITORY
from provider.registry.errors import RegistryError

_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_LONGEST_NAME = 255
_HUB = "docker.io"
_HUB_SERVES_AT = "registry-1.docker.io"


@dataclass(frozen=True)
class Address:
    """A registry's address, and the path below which a user's repositories lie."""

    scheme: str
    host: str
    """With the port where it is not the scheme's own."""
    prefix: str
    """Empty, or a repository path without slashes at its ends."""

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"{self.scheme}://{_HUB_SERVES_AT if self.host == _HUB else self.host}"

    @property
    def is_encrypted(self) -> bool:
        """Whether others on the network cannot read along."""
        return self.scheme == "https"

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine."""
        return is_loopback(urlsplit(self.url).hostname or "")

    @property
    def is_of_this_machine(self) -> bool:
        """Whether its host is this machine now, by whatever address of it."""
        host = urlsplit(self.url).hostname or ""
        return is_loopback(host) or _leads_here(host)

    def full_name(self, name: str) -> str:
        """The repository `name` as the registry knows it: below the prefix, and Docker Hub's own in `library`."""
        if self.host == _HUB and not self.prefix and "/" not in name:
            return check_name(f"library/{name}")
        return check_name(f"{self.prefix}/{name}" if self.prefix else name)


def parse(text: str) -> Address:
    """The address in `text`. Without a scheme it is https, and http on this machine's loopback."""
    parts = urlsplit(text if "://" in text else f"//{text}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if not parts.hostname or parts.query or parts.fragment or port == -1 or parts.scheme not in ("", "http", "https"):
        raise RegistryError(
            f"{_without_user(text)!r} is no registry's address; expected HOST[:PORT][/PATH], with http:// or https:// "
            f"before it where the usual one does not fit"
        )
    if "@" in parts.netloc:
        raise RegistryError(
            f"the registry's address {_without_user(text)!r} holds a user name or a password, which would be seen in "
            f"logs; give the credentials apart from it"
        )
    scheme = parts.scheme or ("http" if is_loopback(parts.hostname) else "https")
    prefix = parts.path.strip("/")
    if prefix:
        check_name(prefix)
    return Address(scheme, parts.netloc, prefix)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine: nobody else can listen."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _leads_here(host: str) -> bool:
    """What is sent to an address of this machine comes from that address. To connect for datagrams sends none."""
    try:
        for family, kind, protocol, _, where in socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(where)
                if probe.getsockname()[0] == where[0]:
                    return True
    except OSError:
        pass  # no such name, or no way to it
    return False


def check_name(name: str) -> str:
    """`name`, where it is one of a repository (distribution specification, "Pulling manifests")."""
    if len(name) > _LONGEST_NAME or not REPOSITORY.fullmatch(name):
        raise RegistryError(
            f"{name!r} is no repository's name; expected lower-case letters, digits and single . _ - between them, in "
            f"parts with / between, at most {_LONGEST_NAME} characters"
        )
    return name


def check_reference(reference: str) -> str:
    """`reference`, where it is a tag or a sha256 digest."""
    if not DIGEST.fullmatch(reference) and not _TAG.fullmatch(reference):
        raise RegistryError(
            f"{reference!r} is neither a tag (letters, digits and . _ -, at most 128) nor a sha256 digest"
        )
    return reference


def is_digest(reference: str) -> bool:
    """Whether `reference` is a digest rather than a tag."""
    return DIGEST.fullmatch(reference) is not None


def check_digest(digest: str) -> str:
    """`digest`, where it is one of sha256."""
    if not is_digest(digest):
        raise RegistryError(f"{digest!r} is no sha256 digest; expected sha256: and 64 hexadecimal digits")
    return digest


def _without_user(text: str) -> str:
    return re.sub(r"[^/@]*@", "", text)
