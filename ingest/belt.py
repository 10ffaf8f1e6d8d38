"""The data path on two threads: one reads the next batch while the other makes the one before durable.

For the edges, whose loop must stay awake. Batches are made durable one after the other, in their order. When one
fails, those that follow it on the belt fail with it: they may not become durable before it, or rules would see the
later readings first and take the earlier ones for late.
"""

import asyncio
import ctypes
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from ingest.batch import Batch
from ingest.decoded import Decoded
from ingest.pipeline import Pipeline
from ingest.publisher import Outgoing
from kernel.errors import Unavailable

OVERLAP: Final = 2
"""How many batches may be on the belt; see ``ingest.batch.Limits``."""

_SWITCH_S: Final = 0.0001
_TRIM, _MAP = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's ``mallopt``."""
_KEPT: Final = 64 * 2**20
_MAPPED: Final = 32 * 2**20
Answer = TypeVar("Answer")


class Belt:
    """Carries batches through a pipeline; call it with a batch, on the loop of the edge."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="ingest-read")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="ingest-write")
        self._failures = 0
        # The path gives the interpreter away at each array operation, and with Python's own 5 ms would wait that
        # long, a hundred times a batch, for the loop that reads the socket. The price is a few per cent.
        sys.setswitchinterval(_SWITCH_S)
        _keep_memory()

    async def __call__(self, batch: Batch) -> Sequence[Outgoing]:
        """Make a batch durable and return what to publish once it is; see ``ingest.batch.Process``.

        Raises:
            Unavailable: it, or one before it, could not be made durable.
        """
        failures = self._failures
        loop = asyncio.get_running_loop()
        try:
            decoded = await loop.run_in_executor(self._reading, self._pipeline.decode, batch)
        except BaseException:
            self._failures += 1
            raise
        return await loop.run_in_executor(self._writing, self._finish, batch, decoded, failures)

    async def between(self, work: Callable[[], Answer]) -> Answer:
        """Run something between two batches, in the thread that makes them durable."""
        return await asyncio.get_running_loop().run_in_executor(self._writing, work)

    def close(self) -> None:
        """Take nothing more."""
        for threads in (self._reading, self._writing):
            threads.shutdown(wait=False, cancel_futures=True)

    def _finish(self, batch: Batch, decoded: Decoded, failures: int) -> list[Outgoing]:
        if failures != self._failures:
            raise Unavailable("A batch before this one could not be stored.")
        try:
            return self._pipeline.finish(batch, decoded)
        except BaseException:
            self._failures += 1
            raise


def _keep_memory() -> None:
    """Let the allocator keep what one batch frees for the next one, where it is glibc's.

    The columns of a batch are a few MB each. Given back and asked for again they cost a page fault every 4 KB, which
    more than doubled the time of the rules. The price is up to ``_KEPT`` bytes that stay with the process.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM, _KEPT)
        mallopt(_MAP, _MAPPED)
