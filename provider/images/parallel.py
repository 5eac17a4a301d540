"""Does several things at once, so many and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor


def run_all(work: Sequence[Callable[[], object]], threads: int) -> None:
    """Does all of it, `threads` at once; the first error ends the rest."""
    with ThreadPoolExecutor(threads, thread_name_prefix="layers") as pool:
        futures = [pool.submit(item) for item in work]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
