"""Where repositories are, as a resource's inputs say it: an OCI image layout on disk, or a registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from provider.content.watch import Watch
from provider.images.store import BlobStore, ImageLayoutStore
from provider.resource import Failure
from provider.values import UNKNOWN, Properties

if TYPE_CHECKING:
    from provider.registry.client import Registry

DEFAULT_PARALLEL = 2


@dataclass(frozen=True)
class Location:
    """An OCI image layout (`place` is an absolute path) or a registry (its address)."""

    place: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    parallel: int = DEFAULT_PARALLEL
    """How many blobs go up or come down at once: in this process, whatever the number of resources."""
    ca_certificate: str | None = None
    """The authority of the registry's certificate (PEM), in place of those that the system trusts."""
    port_forward: Properties | None = None
    """How a registry in a cluster is reached from here (`provider.registry.forwarded`); by default by its address."""

    @classmethod
    def of(cls, place: str, inputs: Properties) -> Location:
        """`place` by the access that a resource's inputs name: `username`, `password`, `parallel`, `caCertificate`,
        `portForward`."""
        return cls(
            place,
            inputs.get("username"),
            inputs.get("password"),
            inputs.get("parallel", DEFAULT_PARALLEL),
            inputs.get("caCertificate"),
            inputs.get("portForward"),
        )

    @property
    def is_layout(self) -> bool:
        """Whether it is on this machine's disk."""
        return self.place.startswith("/")

    @contextmanager
    def repository(self, name: str, watch: Watch) -> Iterator[BlobStore]:
        """The repository `name`, for one operation."""
        if self.is_layout:
            with ImageLayoutStore(Path(self.place), name, watch=watch) as store:
                yield store
            return
        yield self.registry(watch).repository(name)

    def registry(self, watch: Watch) -> Registry:
        """The registry, for one operation; only where this is no layout."""
        # Here, so that what stays on this machine does not wait for the import.
        from provider.registry.address import parse
        from provider.registry.auth import Credentials
        from provider.registry.client import Registry
        from provider.registry.slots import shared

        credentials = None
        if self.username is not None and self.password is not None:
            credentials = Credentials(self.username, self.password)
        slots = shared(parse(self.place).host, self.parallel)
        if self.port_forward is None:
            return Registry(self.place, credentials, slots=slots, ca_certificate=self.ca_certificate, watch=watch)
        from provider.registry.forwarded import PATIENCE, dial

        way = dial(self.port_forward)
        return Registry(self.place, credentials, slots=slots, patience=PATIENCE, watch=watch, dial=way)

    def gone(self, watch: Watch) -> str | None:
        """Why there is no registry any more where there was one on this machine, or in a cluster that says so; None
        elsewhere, and where there is.

        What runs here comes and goes with its stack, which may have given it another port or TLS; what it held is its
        own matter. A registry elsewhere that does not answer may come back with all that it holds."""
        if self.is_layout:
            return None
        if self.port_forward is not None:
            from provider.registry.forwarded import missing

            return missing(self.port_forward)
        from provider.registry.address import parse
        from provider.registry.errors import RegistryDeniedError, RegistryError

        if not parse(self.place).is_of_this_machine:
            return None
        try:
            self.registry(watch).check()
        except RegistryDeniedError:
            return None
        except RegistryError as error:
            return str(error)
        return None

    def reference(self, repository: str, digest: str) -> str:
        """The image as a container runtime names it; of a layout, within it."""
        if self.is_layout:
            return f"{repository}@{digest}"
        from provider.registry.address import parse

        address = parse(self.place)
        return f"{address.host}/{f'{address.prefix}/' if address.prefix else ''}{repository}@{digest}"


def way_problems(inputs: Properties, name: str = "portForward") -> list[Failure]:
    """What is wrong with the input that says how a registry in a cluster is reached."""
    way = inputs.get(name)
    if way is None or way is UNKNOWN:
        return []
    from provider.registry.forwarded import check

    return check(name, way)


def place_problem(place: str) -> str | None:
    """Why `place` is neither a layout's path nor a registry's address; None where it is one."""
    if place.startswith("/"):
        return None
    host = place.partition("/")[0]
    # As Docker tells a registry from a folder: a relative path has none of these.
    if "://" not in place and not ("." in host.strip(".") or ":" in host or host == "localhost"):
        return (
            f"must be a registry's address (HOST[:PORT][/PATH], where HOST has a dot, a port or is localhost) or an "
            f"absolute path, for an image layout on this machine, not {place!r}"
        )
    from provider.registry.address import parse
    from provider.registry.errors import RegistryError

    try:
        parse(place)
    except RegistryError as error:
        return f"{error}; or an absolute path, for an image layout on this machine"
    return None
