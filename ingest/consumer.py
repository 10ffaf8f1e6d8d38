"""The intake from an external broker: receive in bulk, acknowledge only what the pipeline made durable.

An MQTT 5 client with a persistent session. What it receives it hands over in batches and acknowledges when
the batch is durable, in order, in one write. A batch that cannot be made durable ends the connection on
purpose: the broker keeps what was not acknowledged and sends it again after the reconnect.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from ingest.batch import Limits, Process
from ingest.connection import Connection
from ingest.endpoint import Endpoint
from ingest.licence import Deposed
from ingest.publisher import Outgoing
from ingest.sparkplug.host import Statement
from ingest.terms import ConsumerCounters, Terms
from kernel import log
from kernel.errors import Unavailable

_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 30.0

_log = log.of(__name__)


class Consumer:
    """Receives from one broker until stopped, through however many connections that takes."""

    def __init__(
        self,
        endpoint: Endpoint,
        process: Process,
        *,
        terms: Terms | None = None,
        limits: Limits | None = None,
        may_connect: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.counters = ConsumerCounters()
        self._endpoint = endpoint
        self._process = process
        self._may_connect = may_connect or _freely
        self._terms = terms or Terms()
        self._limits = limits or Limits()
        self._more = frozenset(self._terms.more)
        self._statement = (
            Statement(self._terms.host_id, is_spoken_here=self._terms.speaks) if self._terms.host_id else None
        )
        self._leaves_nobody = True
        self._stopping = asyncio.Event()
        self._connection: Connection | None = None
        self._unreleased: set[int] = set()

    @property
    def broker(self) -> str:
        """The broker's name for people and books: host and port."""
        return f"{self._endpoint.host}:{self._endpoint.port}"

    async def run(self) -> None:
        """Receive until ``stop``. Whatever ends a connection, the next one follows, later and later apart."""
        failures = 0
        while not self._stopping.is_set():
            batches = self.counters.batches
            try:
                # Whoever was deposed would take the session at the broker away from the worker that leads now.
                await self._may_connect()
                await self._one_connection()
            except Deposed as error:
                self.counters.last_error = str(error)
                return
            except Exception as error:  # noqa: BLE001 - the edge: one connection ends, the next one follows
                self.counters.last_error = str(error) or type(error).__name__
                _log.warning("mqtt connection ended", host=self._endpoint.host, reason=self.counters.last_error)
            else:
                # It ended of our own will: to stop, or to speak for the host from now on, or no longer.
                continue
            failures = 0 if self.counters.batches > batches else failures + 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _delay(failures))

    async def stop(self, *, leaves_nobody: bool = True) -> None:
        """Ask ``run`` to finish what was received, take leave of the broker, and return.

        ``leaves_nobody``: no other intake goes on for the host, so that edge nodes are to know that it is gone.
        """
        self._leaves_nobody = leaves_nobody
        self._stopping.set()

    def speak(self, *, is_spoken_here: bool) -> None:
        """Say from now on whether the host is there, or leave it to another intake; with a new connection."""
        if self._statement is None or self._statement.is_spoken_here is is_spoken_here:
            return
        self._statement.is_spoken_here = is_spoken_here
        if self._connection is not None:
            self._connection.turn()

    def follow(self, more: Iterable[str]) -> None:
        """Subscribe to these filters beside those of the contract, and no longer to the others it had beside them."""
        before, self._more = self._more, frozenset(more)
        if self._connection is not None:
            self._connection.follow(before, self._more)

    def publish(self, message: Outgoing) -> asyncio.Future[None]:
        """Send a message on the connection of the intake; see ``ingest.publisher.Publisher``."""
        if self._connection is not None:
            return self._connection.sender.publish(message)
        future = asyncio.get_running_loop().create_future()
        future.set_exception(Unavailable("The MQTT broker is not connected."))
        future.exception()  # seen: nobody needs to await it
        return future

    async def _one_connection(self) -> None:
        connection = Connection(
            self._terms, self._limits, self._process, self.counters, self._unreleased, self._statement
        )
        try:
            await connection.open(self._endpoint)
            self._connection = connection
            self.counters.connects += 1
            self.counters.is_connected = True
            await connection.serve(self._stopping, self._more)
            connection.leave(says_so=self._stopping.is_set() and self._leaves_nobody)
        finally:
            self._connection = None
            self.counters.is_connected = False
            connection.abort()


async def _freely() -> None:
    pass


def _delay(failures: int) -> float:
    """Return how long to wait before connecting again, spread so that many intakes do not come at once."""
    longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** min(failures, 10))
    return random.uniform(longest / 2, longest) if failures else random.uniform(0, _FIRST_DELAY_S)
