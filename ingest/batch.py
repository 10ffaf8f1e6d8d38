"""Messages on their way from a socket to the pipeline: gathered into batches, handed over, then answered.

Both edges (the consumer of an external broker and the embedded broker) put what they receive into a
``Gatherer``. It decides when a batch is due, lets a bounded number of batches be processed at once, and calls
back in the order of reception, so that nothing is acknowledged before it, and all before it, is durable.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import numpy as np

from ingest.publisher import Outgoing
from kernel import clock
from telemetry.readings import Int64s

if TYPE_CHECKING:
    from ingest.fates import Fates

Handle = TypeVar("Handle")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Messages in order of reception, as columns of one length.

    ``received_ms``: int64, server time in milliseconds since 1970. ``retained`` holds the indexes of messages
    that the broker had kept and replayed when we subscribed: they are not news. ``fates``, where there are any, are
    told what became of each message; a broker needs none, an HTTP answer does.
    """

    topics: list[str]
    payloads: list[bytes]
    received_ms: Int64s
    retained: frozenset[int] = frozenset()
    fates: "Fates | None" = None

    @classmethod
    def of(
        cls,
        messages: Iterable[tuple[str, bytes]],
        *,
        received_ms: int | None = None,
        retained: Iterable[int] = (),
    ) -> Self:
        """Return a batch of (topic, payload), all received at one instant, now unless given."""
        topics, payloads = [], []
        for topic, payload in messages:
            topics.append(topic)
            payloads.append(payload)
        instant = clock.now_ms() if received_ms is None else received_ms
        return cls(topics, payloads, np.full(len(topics), instant, np.int64), frozenset(retained))

    def __len__(self) -> int:
        return len(self.topics)

    def part(self, begin: int, end: int) -> "Batch":
        """Return some of its messages, in a row, as a batch of their own."""
        return Batch(
            self.topics[begin:end],
            self.payloads[begin:end],
            self.received_ms[begin:end],
            frozenset(row - begin for row in self.retained if begin <= row < end),
            None if self.fates is None else self.fates.part(begin, end),
        )


Process = Callable[[Batch], Awaitable[Sequence[Outgoing]]]
"""Makes a batch durable and returns what to publish once it is, or raises when it cannot be made durable.

It retries in place what retrying can mend. Called on the event loop; the work itself belongs in a thread.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is due, and how much may wait.

    A batch is due when it holds ``messages`` or ``size`` bytes of payload, or ``wait_ms`` after its first
    message. Reading stops while more than that waits behind ``overlap`` batches in process.
    """

    messages: int = 10_000
    size: int = 8 * 2**20
    wait_ms: int = 20
    overlap: int = 1


@dataclass(slots=True)
class IntakeCounters:
    """What passed through an edge since it started. Counts only grow; the last three fields are gauges."""

    received: int = 0
    received_bytes: int = 0
    acknowledged: int = 0
    batches: int = 0
    failed_batches: int = 0
    forgotten: int = 0
    """QoS 0 messages lost with a batch that could not be made durable: nobody sends those again."""
    waiting: int = 0
    """Messages received and not yet durable."""
    lag_ms: float = 0.0
    """From the reception of the oldest message of the latest batch until it was durable."""
    largest_batch: int = 0


class Gatherer(Generic[Handle]):
    """Gathers messages into batches and runs ``process`` on them, bounded and in order.

    A handle is what the edge needs to acknowledge its message. ``done(handles, outgoing)`` is called in order
    of reception when a batch is durable. ``is_full`` asks the edge to stop reading, ``room()`` tells it to go on.
    All of it happens on one event loop.
    """

    def __init__(
        self,
        process: Process,
        done: Callable[[list[Handle], Sequence[Outgoing]], None],
        *,
        limits: Limits,
        counters: IntakeCounters,
        room: Callable[[], None] = lambda: None,
    ) -> None:
        self._process = process
        self._done = done
        self._limits = limits
        self._counters = counters
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False
        self._size = 0
        self._pending = _Pending[Handle]()

    @property
    def is_full(self) -> bool:
        """Whether more waits than the next batch may hold."""
        return len(self._pending.topics) >= self._limits.messages or self._size >= self._limits.size

    def add(
        self,
        topics: Sequence[str],
        payloads: Sequence[bytes],
        handles: Sequence[Handle],
        *,
        retained: Sequence[int] = (),
    ) -> None:
        """Take messages received together; ``retained`` are offsets into them."""
        pending = self._pending
        size = sum(map(len, payloads))
        first = len(pending.topics)
        pending.topics.extend(topics)
        pending.payloads.extend(payloads)
        pending.handles.extend(handles)
        pending.retained.extend(first + offset for offset in retained)
        pending.arrivals.append((len(topics), clock.now_ms()))
        self._size += size
        self._counters.received += len(topics)
        self._counters.received_bytes += size
        self._counters.waiting += len(topics)
        if self.is_full or self._limits.wait_ms == 0:
            self._due.set()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._limits.wait_ms / 1000, self._due.set)

    async def run(self) -> None:
        """Process batches until ``drain`` is called and all is done.

        Raises:
            Exception: whatever ``process`` raised; later batches are then neither finished nor acknowledged.
        """
        slots = asyncio.Semaphore(self._limits.overlap)
        try:
            async with asyncio.TaskGroup() as batches:
                before: asyncio.Task[None] | None = None
                while not self._draining or self._pending.topics:
                    await slots.acquire()
                    await self._due.wait()
                    if not self._pending.topics:
                        self._due.clear()
                        slots.release()
                        continue
                    before = batches.create_task(self._one(*self._take(), before, slots))
        except BaseExceptionGroup as group:
            raise _first(group) from None

    def drain(self) -> None:
        """Let ``run`` finish what was taken and return; nothing may be added afterwards."""
        self._draining = True
        self._due.set()

    def forget(self) -> list[Handle]:
        """Drop what waits and return its handles."""
        handles = self._pending.handles
        self._counters.waiting -= len(handles)
        self._pending, self._size = _Pending[Handle](), 0
        self._due.clear()
        return handles

    def _take(self) -> tuple[Batch, list[Handle]]:
        batch, handles, taken = self._pending.take(self._limits.messages)
        self._size -= taken
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not (self.is_full or self._draining):
            self._due.clear()
            if self._pending.topics:
                self._timer = self._loop.call_later(self._limits.wait_ms / 1000, self._due.set)
            self._room()
        return batch, handles

    async def _one(
        self, batch: Batch, handles: list[Handle], before: asyncio.Task[None] | None, slots: asyncio.Semaphore
    ) -> None:
        try:
            outgoing = await self._process(batch)
        except Exception:
            self._counters.failed_batches += 1
            raise
        finally:
            slots.release()
            self._counters.waiting -= len(batch)
        if before is not None:
            await before
        self._done(handles, outgoing)
        self._counters.batches += 1
        self._counters.lag_ms = clock.now_ms() - float(batch.received_ms[0])
        self._counters.largest_batch = max(self._counters.largest_batch, len(batch))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first plain exception of a group: batches behind a failed one fail of its consequences."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


@dataclass(slots=True)
class _Pending(Generic[Handle]):
    topics: list[str] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    handles: list[Handle] = field(default_factory=list)
    retained: list[int] = field(default_factory=list)
    arrivals: list[tuple[int, int]] = field(default_factory=list)
    """(number of messages, milliseconds since 1970), one entry for each read of the socket."""

    def take(self, most: int) -> tuple[Batch, list[Handle], int]:
        """Remove up to ``most`` messages; return them with their handles and the bytes of their payloads."""
        counts, instants = zip(*self.arrivals, strict=True)
        received_ms = np.repeat(np.array(instants, np.int64), counts)
        rest = _Pending(self.topics[most:], self.payloads[most:], self.handles[most:])
        rest.retained = [index - most for index in self.retained if index >= most]
        rest.arrivals = [(1, int(instant)) for instant in received_ms[most:]]
        batch = Batch(
            self.topics[:most],
            self.payloads[:most],
            received_ms[:most],
            frozenset(index for index in self.retained if index < most),
        )
        handles = self.handles[:most]
        self.topics, self.payloads, self.handles = rest.topics, rest.payloads, rest.handles
        self.retained, self.arrivals = rest.retained, rest.arrivals
        return batch, handles, sum(map(len, batch.payloads))
