"""Ingest as it runs in a process: an edge to MQTT, the data path behind it, and time passing beside.

It lives in a thread of its own with its own event loop, so that pages of the same process do not slow it. The path
runs on a belt of two threads, on which batches and ticks take turns; the loop keeps the sockets alive meanwhile.

Of several processes on one broker one leads and the others stand by, with devices and rules read: ``ingest.workers``.
A life ends when the process is stopped, or when another has taken over: then the next one begins, standing by.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import uvloop
from sqlalchemy.orm import Session, sessionmaker

from assets.identity import Login
from ingest import belt, deriving, edges, fairuse, housekeeping, latecomers, verdict
from ingest.batch import Batch, IntakeCounters
from ingest.consumer import Consumer
from ingest.decoded import Source
from ingest.doorway import Doorway
from ingest.fates import Fates
from ingest.licence import Deposed
from ingest.patience import TRANSIENT, Patience
from ingest.pipeline import Pipeline
from ingest.publisher import Outgoing
from ingest.registry import Refusal
from ingest.submissions import Submissions
from ingest.tending import Tending
from ingest.ticking import Ticking
from ingest.workers import Gauges, Member
from kernel import clock, log
from kernel.errors import Misconfigured, Unavailable
from kernel.settings import Settings
from rules import marks
from rules.marks import Marks
from telemetry.store import TelemetryStore

if TYPE_CHECKING:
    from ingest.broker import EmbeddedBroker

BEAT_S: Final = 1.0
STAND_BY_S: Final = 0.5
"""How often one that stands by looks whether its time has come."""
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
        self._opens = store if callable(store) else None
        self._open_store = None if callable(store) else store
        self._patience = Patience()
        self._ticking: Ticking | None = None
        self._thread = threading.Thread(target=self._main, name="ingest", daemon=True)
        self._started: Future[None] = Future()
        self._edge: Consumer | EmbeddedBroker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._failure: str | None = None
        self._waits_for: str | None = None
        self._submissions: Submissions | None = None
        self._begin_life()

    def _begin_life(self) -> None:
        self._member = Member(self._sessions, self._settings.ingest_group or "")
        self._pipeline = Pipeline(
            self._sessions,
            patience=self._patience,
            terms=fairuse.Terms.of(self._settings),
            late_limit=timedelta(hours=self._settings.late_limit_h),
            marks=Marks(self._settings.data_dir / marks.NAME),
        )
        self._doorway = Doorway(self._pipeline.registry, self._sessions, self._settings)
        self._belt = belt.Belt(self._pipeline)

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
        self._belt.close()

    def trouble(self) -> str | None:
        """Return what is wrong, or None: the readiness question of this part."""
        if self._failure is not None:
            return self._failure
        if self._patience.trouble is not None:
            return self._patience.trouble
        if not self._thread.is_alive():
            return "ingest is not running"
        if self.stands_by:
            return None
        return self._edge_trouble() or (self._waits_for if self._ticking is None else self._ticking.trouble)

    def _edge_trouble(self) -> str | None:
        if isinstance(self._edge, Consumer) and not self._edge.counters.is_connected:
            return f"the MQTT broker is not connected: {self._edge.counters.last_error or 'not yet'}"
        lag_s = self.lag_s()
        if lag_s > self._settings.lag_alarm_s:
            return f"ingest is behind: messages wait {lag_s:.0f} s to be stored"
        return None

    def lag_s(self) -> float:
        """Return how long messages wait to be stored, in seconds; 0 when none waits."""
        counters = self.counters
        return counters.lag_ms / 1000 if counters.waiting else 0.0

    @property
    def waiting(self) -> int:
        """How many messages were received, over MQTT and HTTP, and are not yet durable."""
        handed = 0 if self._submissions is None else self._submissions.waiting
        return self.counters.waiting + handed

    @property
    def over_limit(self) -> int:
        """How many messages were over a limit since the start."""
        return self._pipeline.over_limit

    @property
    def came_late(self) -> tuple[int, int]:
        """How many readings for rules came late since the start, and how many of them so late that none judges them."""
        rules = self._pipeline.rules
        return rules.late, rules.too_late

    def healthy(self) -> bool:
        """Return whether nothing is wrong."""
        return self.trouble() is None

    @property
    def stands_by(self) -> bool:
        """Whether another process reads, and this one waits for its time."""
        return self._started.done() and self._edge is None

    @property
    def counters(self) -> IntakeCounters:
        """What passed through the edge since the start."""
        return IntakeCounters() if self._edge is None else self._edge.counters

    @property
    def tls_port(self) -> int:
        """The port of the embedded broker's TLS listener.

        Raises:
            Unavailable: there is none, or it does not run.
        """
        if self._edge is None or isinstance(self._edge, Consumer):
            raise Unavailable("The embedded MQTT broker is not running.")
        return self._edge.tls_port

    @property
    def port(self) -> int:
        """The port of the embedded broker.

        Raises:
            Unavailable: there is none, or it does not run.
        """
        if self._edge is None or isinstance(self._edge, Consumer):
            raise Unavailable("The embedded MQTT broker is not running.")
        return self._edge.port

    def publish(self, message: Outgoing) -> "Future[None]":
        """Send a message to a device, from any thread.

        The future fails with ``Unavailable`` when there is no connection.
        """
        if self._loop is None or self._edge is None:
            raise Unavailable("Ingest is not running.")
        return asyncio.run_coroutine_threadsafe(self._publish(message), self._loop)

    async def _publish(self, message: Outgoing) -> None:
        if self._edge is not None:
            await self._edge.publish(message)

    def submit(self, batch: Batch) -> "Future[Fates]":
        """Hand over a batch from any thread; the future is done when it is durable, and says what became of it.

        Raises:
            Unavailable: too much waits, or ingest does not run.
        """
        if self._submissions is None:
            raise Unavailable("Ingest is not running.")
        return self._submissions.submit(batch)

    def recognise(self, login: Login) -> "Future[str | None]":
        """Answer with the key of the device that shows itself so, or None; from any thread."""
        if self._loop is None or not self._thread.is_alive():
            raise Unavailable("Ingest is not running.")
        return asyncio.run_coroutine_threadsafe(self._recognised(login), self._loop)

    async def _recognised(self, login: Login) -> str | None:
        admitted = self._doorway.recognise(login)
        return None if admitted is None else admitted.device

    def stands_behind(self, device: str, gateway: str) -> bool:
        """Return whether a gateway may speak for a device."""
        return not isinstance(self._pipeline.registry.speaker(Source(device, gateway)), Refusal)

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
                await self._live(self._stopping)
            finally:
                self._edge = self._submissions = self._ticking = None
                await asyncio.to_thread(self._member.leave)
                self._belt.close()
                self._close_store()
            if self._stopping.is_set():
                return
            self._begin_life()

    async def _live(self, stopping: asyncio.Event) -> None:
        """Stand by until this process may lead, and lead until it is stopped or deposed."""
        member = self._member
        await self._belt.between(lambda: self._patience.until_done(member.join, "database"))
        # From the first moment: reading a large installation takes longer than the others wait for a sign of life.
        beating = asyncio.create_task(self._beat_until_deposed(member))
        try:
            await self._stand_by_and_lead(stopping, beating)
        finally:
            beating.cancel()

    async def _stand_by_and_lead(self, stopping: asyncio.Event, beating: "asyncio.Task[None]") -> None:
        member, pipeline = self._member, self._pipeline
        pipeline.bind(member.licence)
        if member.share:
            pipeline.share()
        await self._belt.between(pipeline.prepare)
        while not await self._belt.between(self._come_to_lead):
            self._say_started()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), STAND_BY_S)
            if stopping.is_set() or member.licence.is_lost:
                return
            await self._belt.between(self._stand_by)
        await self._belt.between(pipeline.resume)
        await self._lead(stopping, beating)

    def _come_to_lead(self) -> bool:
        """Take the lead and the store, if nobody has them."""
        try:
            if self._member.rivals():
                return False
            # Before the lead is taken: a file that a paused process still holds leaves that one in its place.
            store = self._open_store or self._the_store()
            if not self._member.lead():
                self._close_store()
                return False
        except TRANSIENT as error:
            self._waits_for = f"waiting to lead: {type(error).__name__}"
            return False
        except Misconfigured as error:
            if not self._started.done():
                raise
            self._waits_for = f"waiting for the telemetry store: {error}"
            return False
        self._waits_for = None
        self._pipeline.open(store)
        return True

    def _the_store(self) -> TelemetryStore:
        assert self._opens is not None  # noqa: S101 - a store or what opens it was given
        self._open_store = self._opens()
        return self._open_store

    def _close_store(self) -> None:
        """Let go of a store that this process opened only to lead."""
        if self._opens is not None and self._open_store is not None:
            self._open_store.close()
            self._open_store = None

    def _stand_by(self) -> None:
        try:
            self._pipeline.keep_warm()
        except TRANSIENT as error:
            self._waits_for = f"database: {type(error).__name__}"

    def _say_started(self) -> None:
        if not self._started.done():
            self._started.set_result(None)

    async def _lead(self, stopping: asyncio.Event, deposed: "asyncio.Task[None]") -> None:
        edge = self._new_edge()
        receiving = await self._open(edge)
        self._edge = edge
        self._ticking = self._ticking_for(edge)
        self._submissions = Submissions(self._belt, edge.publish, at_once=self._settings.batch_messages)
        handed = asyncio.create_task(self._submissions.run())
        late = latecomers.for_ever(self._pipeline, self._belt.between)
        works = (self._ticking.for_ever(), late, self._keep_house(), self._derive())
        beside = [asyncio.create_task(some) for some in works]
        stopped = asyncio.create_task(stopping.wait())
        self._say_started()
        await asyncio.wait((receiving, stopped, deposed), return_when=asyncio.FIRST_COMPLETED)
        for task in beside:
            task.cancel()
        self._submissions.close()
        if isinstance(edge, Consumer):
            await edge.stop(leaves_nobody=await asyncio.to_thread(self._member.is_last))
        else:
            await edge.stop()
        for task in (stopped, *((receiving,) if not isinstance(edge, Consumer) else ())):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving
        await handed
        await self._write_last_books()

    async def _beat_until_deposed(self, member: Member) -> None:
        """Tell that this process lives, about once a second, until it hears that it does not."""
        loop = asyncio.get_running_loop()
        before, before_s = 0, loop.time()
        while not member.licence.is_lost:
            counters, now_s = self.counters, loop.time()
            pace = max(0, counters.received - before) / max(now_s - before_s, BEAT_S / 10)
            before, before_s = counters.received, now_s
            trouble = None if self._edge is None else self.trouble()
            assets = self._pipeline.ground.assets
            found = verdict.as_json([] if self._ticking is None else self._ticking.findings)
            gauges = Gauges(pace, counters.lag_ms, counters.waiting, assets, (trouble or "")[:400], found)
            await asyncio.to_thread(member.beat, gauges)
            if self._edge is not None:
                await self._look_around(member)
            if isinstance(self._edge, Consumer):
                self._edge.speak(is_spoken_here=member.is_eldest)
            await asyncio.sleep(BEAT_S)
        _log.error("another ingest worker has taken over; this one stands by", life=member.licence.life)

    async def _look_around(self, member: Member) -> None:
        """End the lives of workers that have ended, and take up what they left behind."""
        try:
            if await asyncio.to_thread(member.sweep):
                while await self._belt.between(self._pipeline.ground.adopt_orphans):
                    pass
        except TRANSIENT as error:
            _log.warning("the other ingest workers cannot be seen", reason=type(error).__name__)
        except Deposed:
            pass  # The licence says so.

    async def _may_connect(self) -> None:
        """Refuse a connection to the broker once another process has taken over."""
        await asyncio.to_thread(self._member.licence.require)

    def _new_edge(self) -> "Consumer | EmbeddedBroker":
        mapper, settings = self._pipeline.mapper, self._settings
        if settings.mqtt_url:
            speaks = self._member.is_eldest
            return edges.consumer(settings, self._belt, mapper, may_connect=self._may_connect, speaks=speaks)
        return edges.broker(settings, self._belt, mapper, self._doorway.recognise)

    async def _open(self, edge: "Consumer | EmbeddedBroker") -> "asyncio.Task[None]":
        """Begin to receive; return what runs until the edge has stopped."""
        if isinstance(edge, Consumer):
            return asyncio.create_task(edge.run())
        await edge.start()
        return asyncio.create_task(_for_ever())

    # Beside the path --------------------------------------------------------------------------------------------

    def _ticking_for(self, edge: "Consumer | EmbeddedBroker") -> Ticking:
        pipeline, between, member = self._pipeline, self._belt.between, self._member
        lag_alarm_s = self._settings.lag_alarm_s
        tending = Tending(
            self._sessions, pipeline.registry, edge, between, lambda: member.is_eldest, lag_alarm_s=lag_alarm_s
        )
        return Ticking(pipeline, edge, between, self._doorway, tending, lambda: member.is_eldest)

    async def _keep_house(self) -> None:
        assert self._open_store is not None  # noqa: S101 - whoever leads has one
        await housekeeping.for_ever(self._sessions, self._open_store, self._settings)

    async def _derive(self) -> None:
        assert self._open_store is not None  # noqa: S101 - whoever leads has one
        works = deriving.Deriving(self._sessions, self._open_store, self._settings)
        await deriving.for_ever(works, self._belt.between, self._pipeline.judging.judge, lambda: self._member.is_eldest)

    async def _write_last_books(self) -> None:
        try:
            await self._belt.between(lambda: self._pipeline.books.close(clock.now()))
        except (*TRANSIENT, Deposed) as error:
            _log.warning("the last counts could not be written", reason=type(error).__name__)


async def _for_ever() -> None:
    await asyncio.Event().wait()
