"""Opens a registry, with one limit on parallel transfers for everything that goes through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from provider.content.watch import Watch
from provider.registry.address import parse
from provider.registry.auth import Credentials
from provider.registry.patience import Patience
from provider.registry.repository import InFlight, RegistryRepository
from provider.registry.slots import Slots
from provider.registry.transport import Dial, Transport

_T = TypeVar("_T")
_R = TypeVar("_R")
_SMALL_REQUESTS = 2  # connections for requests that are no transfers


class Registry:
    """A registry, reached at `address` (HOST[:PORT][/PATH]; http on loopback or with http://, else https).

    `parallel`: how many blobs go up or come down at once (the tier's number); `slots` in its place: those of several
    clients together. `ca_certificate`: the authorities (PEM)
    to trust in place of the system's. `piece_bytes`: the size of upload requests, for a registry that takes no large
    ones (that is found out from a 413 as well). `dial`: makes the connections, where the address is not reached from
    here. Safe for several threads."""

    def __init__(
        self,
        address: str,
        credentials: Credentials | None = None,
        *,
        parallel: int = 2,
        slots: Slots | None = None,
        ca_certificate: str | None = None,
        patience: Patience | None = None,
        watch: Watch | None = None,
        piece_bytes: int | None = None,
        dial: Dial | None = None,
    ) -> None:
        self.address = parse(address)
        self._slots = Slots(parallel) if slots is None else slots
        self._in_flight = InFlight()
        self._piece_bytes = piece_bytes
        self._transport = Transport(
            self.address,
            credentials,
            ca_certificate=ca_certificate,
            patience=patience or Patience(),
            watch=watch or Watch(),
            connections=self._slots.count + _SMALL_REQUESTS,
            dial=dial,
        )

    def repository(self, name: str) -> RegistryRepository:
        """The repository `name`, below the address's path. It comes into being with its first manifest."""
        return RegistryRepository(self._transport, name, self._slots, self._in_flight, self._piece_bytes)

    def check(self) -> None:
        """Raises `RegistryError` where this is no registry, cannot be reached, or refuses the credentials."""
        self._transport.call("GET", "/v2/", scope="", doing="reach it", expect=(200,))

    def each(self, work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
        """`work` for each item, as many at once as there are transfers; the first error ends the rest."""
        with ThreadPoolExecutor(self._slots.count, thread_name_prefix="registry") as threads:
            futures = [threads.submit(work, item) for item in items]
            try:
                return [future.result() for future in futures]
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
