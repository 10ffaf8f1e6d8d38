"""Messages that another thread hands to the data path, and waits until they are durable: the way in for HTTP.

They go the way of MQTT batches, one commit for all that came while the one before became durable, so that many
small requests cost no more than a few large ones. How much may wait is bounded; beyond it the sender is told to
come back, because nothing here would survive a restart.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ingest.batch import Batch, Process
from ingest.fates import Fates
from ingest.publisher import Outgoing
from kernel.errors import Unavailable

MOST_MESSAGES: Final = 500_000
MOST_BYTES: Final = 64 * 2**20
"""How much may wait; a single submission that finds nothing waiting is taken whatever its size."""


@dataclass(frozen=True, slots=True, eq=False)
class _Submission:
    batch: Batch
    done: Future[Fates]

    @property
    def size(self) -> int:
        return sum(map(len, self.batch.payloads))


class Submissions:
    """Takes batches from any thread and processes them on the loop of the edge, in the order of their coming.

    ``publish`` sends what the path wants sent once a batch is durable. ``at_once``: about how many messages go
    into one commit.
    """

    def __init__(self, process: Process, publish: Callable[[Outgoing], object], *, at_once: int) -> None:
        self._process = process
        self._publish = publish
        self._at_once = at_once
        self._loop = asyncio.get_running_loop()
        self._due = asyncio.Event()
        self._lock = threading.Lock()
        self._queue: deque[_Submission] = deque()
        self._waiting = 0
        self._waiting_bytes = 0
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """How many messages were handed over and are not yet durable."""
        return self._waiting

    def submit(self, batch: Batch) -> "Future[Fates]":
        """Take a batch; the future is done when it is durable, or failed and may be handed over again.

        Raises:
            Unavailable: too much waits already, or ingest is stopping.
        """
        submission = _Submission(batch, Future())
        with self._lock:
            if self._is_closed:
                raise Unavailable("Ingest is stopping. Please send this again in a moment.")
            most = self._waiting + len(batch) > MOST_MESSAGES or self._waiting_bytes + submission.size > MOST_BYTES
            if self._waiting and most:
                raise Unavailable("Too much is waiting to be stored. Please send this again in a moment.")
            self._queue.append(submission)
            self._waiting += len(batch)
            self._waiting_bytes += submission.size
            # Under the lock, so that the loop cannot be closed between the look and the call.
            self._loop.call_soon_threadsafe(self._due.set)
        return submission.done

    def close(self) -> None:
        """Take nothing more; ``run`` returns when all that was taken is done. Call it on the loop."""
        with self._lock:
            self._is_closed = True
        self._due.set()

    async def run(self) -> None:
        """Process what comes until closed."""
        while not (self._is_closed and not self._queue):
            await self._due.wait()
            self._due.clear()
            while self._queue:
                await self._together(self._take())

    def _take(self) -> list[_Submission]:
        taken: list[_Submission] = []
        messages = 0
        with self._lock:
            while self._queue and (not taken or messages + len(self._queue[0].batch) <= self._at_once):
                taken.append(self._queue.popleft())
                taken[-1].done.set_running_or_notify_cancel()
                messages += len(taken[-1].batch)
        return taken

    async def _together(self, submissions: list[_Submission]) -> None:
        fates = Fates.of(sum(len(one.batch) for one in submissions))
        try:
            outgoing = await self._process(replace(_joined([one.batch for one in submissions]), fates=fates))
        except Exception as error:  # noqa: BLE001 - the edge of a batch: its senders are told, and may send it again
            for one in submissions:
                one.done.set_exception(_failure(error))
        else:
            for message in outgoing:
                self._publish(message)
            begin = 0
            for one in submissions:
                one.done.set_result(fates.part(begin, begin + len(one.batch)))
                begin += len(one.batch)
        finally:
            with self._lock:
                self._waiting -= len(fates)
                self._waiting_bytes -= sum(one.size for one in submissions)


def _failure(error: Exception) -> Unavailable:
    if isinstance(error, Unavailable):
        return error
    return Unavailable("This could not be stored. Please send it again in a moment.")


def _joined(batches: list[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    return Batch(
        [topic for batch in batches for topic in batch.topics],
        [payload for batch in batches for payload in batch.payloads],
        np.concatenate([batch.received_ms for batch in batches]),
    )
