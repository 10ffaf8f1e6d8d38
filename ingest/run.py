"""Ingest as it runs in a process: an edge to MQTT, the data path behind it, and time passing beside.

It lives in a thread of its own with its own event loop, so that pages of the same process do not slow it. The path
runs on a belt of two threads, on which batches and ticks take turns; the loop keeps the sockets alive meanwhile.

Of several processes on one broker one leads and the others stand by, with devices and rules read: ``ingest.life``. A
life ends when the process is stopped, or when another has taken over: then the next one begins, standing by.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

import uvloop
from sqlalchemy.orm import Session, sessionmaker

from assets.identity import Login
from ingest.batch import Batch, IntakeCounters
from ingest.consumer import Consumer
from ingest.decoded import Source
from ingest.fates import Fates
from ingest.life import Life
from ingest.patience import Patience
from ingest.publisher import Outgoing
from ingest.registry import Refusal
from kernel import log
from kernel.errors import Misconfigured, Unavailable
from kernel.settings import Settings
from telemetry.store import TelemetryStore

START_S: Final = 60.0
STOP_S: Final = 40.0

_log = log.of(__name__)


class Ingest:
    """The ingest part of a process. ``start`` returns when it receives, ``stop`` when all it took is done."""

    def __init__(
        self,
        settings: Settings,
        sessions: sessionmaker[Session],
        store: TelemetryStore | Callable[[], TelemetryStore],
    ) -> None:
        """Take the parts. A store that must not be open before this process leads is given as what opens it.

        Raises:
            Misconfigured: a group is to share a broker or a store that belong to one process.
        """
        if settings.ingest_group and not (settings.mqtt_url and settings.telemetry_url):
            raise Misconfigured(
                "FIXWRIGHT_INGEST_GROUP needs an external broker and a telemetry server that several can use."
            )
        self._settings = settings
        self._sessions = sessions
        self._store = store
        self._patience = Patience()
        self._thread = threading.Thread(target=self._main, name="ingest", daemon=True)
        self._started: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._failure: str | None = None
        self._life = self._new_life()

    # For the process --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load what there is and begin to receive, or stand by where another process does.

        Raises:
            Misconfigured: the address of the broker cannot be used.
            Unavailable: the database did not answer in time.
        """
        self._thread.start()
        try:
            self._started.result(timeout=START_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Take no more, finish and acknowledge what was received, write the books, and return."""
        self._patience.hurry()
        if self._loop is not None and self._stopping is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_S)
        self._life.belt.close()

    def trouble(self) -> str | None:
        """Return what is wrong, or None: the readiness question of this part."""
        if self._failure is not None:
            return self._failure
        if not self._thread.is_alive():
            return self._patience.trouble or "ingest is not running"
        return self._life.trouble()

    def lag_s(self) -> float:
        """Return how long messages wait to be stored, in seconds; 0 when none waits."""
        return self._life.lag_s()

    @property
    def waiting(self) -> int:
        """How many messages were received, over MQTT and HTTP, and are not yet durable."""
        handed = 0 if self._life.submissions is None else self._life.submissions.waiting
        return self.counters.waiting + handed

    @property
    def over_limit(self) -> int:
        """How many messages were over a limit since the start."""
        return self._life.pipeline.over_limit

    @property
    def came_late(self) -> tuple[int, int]:
        """How many readings for rules came late since the start, and how many of them so late that none judges them."""
        rules = self._life.pipeline.rules
        return rules.late, rules.too_late

    def healthy(self) -> bool:
        """Return whether nothing is wrong."""
        return self.trouble() is None

    @property
    def stands_by(self) -> bool:
        """Whether another process reads, and this one waits for its time."""
        return self._life.stands_by

    @property
    def counters(self) -> IntakeCounters:
        """What passed through the edge since the start."""
        return self._life.counters

    @property
    def tls_port(self) -> int:
        """The port of the embedded broker's TLS listener.

        Raises:
            Unavailable: there is none, or it does not run.
        """
        if self._life.edge is None or isinstance(self._life.edge, Consumer):
            raise Unavailable("The embedded MQTT broker is not running.")
        return self._life.edge.tls_port

    @property
    def port(self) -> int:
        """The port of the embedded broker.

        Raises:
            Unavailable: there is none, or it does not run.
        """
        if self._life.edge is None or isinstance(self._life.edge, Consumer):
            raise Unavailable("The embedded MQTT broker is not running.")
        return self._life.edge.port

    def publish(self, message: Outgoing) -> "Future[None]":
        """Send a message to a device, from any thread.

        The future fails with ``Unavailable`` when there is no connection.
        """
        if self._loop is None or self._life.edge is None:
            raise Unavailable("Ingest is not running.")
        return asyncio.run_coroutine_threadsafe(self._publish(message), self._loop)

    async def _publish(self, message: Outgoing) -> None:
        if self._life.edge is not None:
            await self._life.edge.publish(message)

    def submit(self, batch: Batch) -> "Future[Fates]":
        """Hand over a batch from any thread; the future is done when it is durable, and says what became of it.

        Raises:
            Unavailable: too much waits, or ingest does not run.
        """
        if self._life.submissions is None:
            raise Unavailable("Ingest is not running.")
        return self._life.submissions.submit(batch)

    def recognise(self, login: Login) -> "Future[str | None]":
        """Answer with the key of the device that shows itself so, or None; from any thread."""
        if self._loop is None or not self._thread.is_alive():
            raise Unavailable("Ingest is not running.")
        return asyncio.run_coroutine_threadsafe(self._recognised(login), self._loop)

    async def _recognised(self, login: Login) -> str | None:
        admitted = self._life.doorway.recognise(login)
        return None if admitted is None else admitted.device

    def stands_behind(self, device: str, gateway: str) -> bool:
        """Return whether a gateway may speak for a device."""
        return not isinstance(self._life.pipeline.registry.speaker(Source(device, gateway)), Refusal)

    # The thread -------------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._run())
        except Exception as error:  # noqa: BLE001 - the edge of the thread: said at start, or seen by readiness
            self._failure = f"ingest ended: {type(error).__name__}: {error}"
            if self._started.done():
                _log.error("ingest ended", exc_info=error)
            else:
                self._started.set_exception(error)

    async def _run(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        while True:
            try:
                await self._life.live(self._stopping)
            finally:
                await self._life.end()
            if self._stopping.is_set():
                return
            self._life = self._new_life()

    def _new_life(self) -> Life:
        return Life(self._settings, self._sessions, self._store, self._patience, self._started)
