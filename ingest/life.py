"""One life of an ingest process among the workers: it stands by, leads, and ends when stopped or deposed.

While it leads it has an edge to MQTT, the data path behind it, and what comes round beside; ``ingest.run`` keeps it in
a thread and begins the next one.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy.orm import Session, sessionmaker

from ingest import belt, deriving, edges, fairuse, housekeeping, latecomers, verdict
from ingest.batch import IntakeCounters
from ingest.consumer import Consumer
from ingest.doorway import Doorway
from ingest.licence import Deposed
from ingest.patience import TRANSIENT, Patience
from ingest.pipeline import Pipeline
from ingest.submissions import Submissions
from ingest.tending import Tending
from ingest.ticking import Ticking
from ingest.workers import Gauges, Member
from kernel import clock, log
from kernel.errors import Misconfigured
from kernel.settings import Settings
from rules import marks
from rules.marks import Marks
from telemetry.store import TelemetryStore

if TYPE_CHECKING:
    from ingest.broker import EmbeddedBroker

BEAT_S: Final = 1.0
STAND_BY_S: Final = 0.5
"""How often one that stands by looks whether its time has come."""

_log = log.of(__name__)


class Life:
    """One life. On the loop of its thread; what it says of itself may be asked from any thread."""

    def __init__(
        self,
        settings: Settings,
        sessions: sessionmaker[Session],
        store: TelemetryStore | Callable[[], TelemetryStore],
        patience: Patience,
        started: Future[None],
    ) -> None:
        """Take the parts. ``started`` is done once the process receives, or stands by, for the first time."""
        self._settings = settings
        self._sessions = sessions
        self._opens = store if callable(store) else None
        self._open_store = None if callable(store) else store
        self._patience = patience
        self._started = started
        self._waits_for: str | None = None
        self.edge: Consumer | EmbeddedBroker | None = None
        self.submissions: Submissions | None = None
        self.ticking: Ticking | None = None
        self.member = Member(sessions, settings.ingest_group or "")
        self.pipeline = Pipeline(
            sessions,
            patience=patience,
            terms=fairuse.Terms.of(settings),
            late_limit=timedelta(hours=settings.late_limit_h),
            marks=Marks(settings.data_dir / marks.NAME),
        )
        self.doorway = Doorway(self.pipeline.registry, sessions, settings)
        self.belt = belt.Belt(self.pipeline)

    # What it says of itself --------------------------------------------------------------------------------------

    @property
    def stands_by(self) -> bool:
        """Whether another process reads, and this one waits for its time."""
        return self._started.done() and self.edge is None

    def trouble(self) -> str | None:
        """Return what is wrong, or None."""
        if self._patience.trouble is not None:
            return self._patience.trouble
        if self.stands_by:
            return None
        return self._edge_trouble() or (self._waits_for if self.ticking is None else self.ticking.trouble)

    def _edge_trouble(self) -> str | None:
        if isinstance(self.edge, Consumer) and not self.edge.counters.is_connected:
            return f"the MQTT broker is not connected: {self.edge.counters.last_error or 'not yet'}"
        lag_s = self.lag_s()
        if lag_s > self._settings.lag_alarm_s:
            return f"ingest is behind: messages wait {lag_s:.0f} s to be stored"
        return None

    def lag_s(self) -> float:
        """Return how long messages wait to be stored, in seconds; 0 when none waits."""
        counters = self.counters
        return counters.lag_ms / 1000 if counters.waiting else 0.0

    @property
    def counters(self) -> IntakeCounters:
        """What passed through the edge since the start."""
        return IntakeCounters() if self.edge is None else self.edge.counters

    # From its beginning to its end -------------------------------------------------------------------------------

    async def live(self, stopping: asyncio.Event) -> None:
        """Stand by until this process may lead, and lead until it is stopped or deposed."""
        member = self.member
        await self.belt.between(lambda: self._patience.until_done(member.join, "database"))
        # From the first moment: reading a large installation takes longer than the others wait for a sign of life.
        beating = asyncio.create_task(self._beat_until_deposed(member))
        try:
            await self._stand_by_and_lead(stopping, beating)
        finally:
            beating.cancel()

    async def end(self) -> None:
        """Leave the workers, and let go of what this life has opened."""
        self.edge = self.submissions = self.ticking = None
        await asyncio.to_thread(self.member.leave)
        self.belt.close()
        self._close_store()

    async def _stand_by_and_lead(self, stopping: asyncio.Event, beating: "asyncio.Task[None]") -> None:
        member, pipeline = self.member, self.pipeline
        pipeline.bind(member.licence)
        if member.share:
            pipeline.share()
        await self.belt.between(pipeline.prepare)
        while not await self.belt.between(self._come_to_lead):
            self._say_started()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), STAND_BY_S)
            if stopping.is_set() or member.licence.is_lost:
                return
            await self.belt.between(self._stand_by)
        await self.belt.between(pipeline.resume)
        await self._lead(stopping, beating)

    def _come_to_lead(self) -> bool:
        """Take the lead and the store, if nobody has them."""
        try:
            if self.member.rivals():
                return False
            # Before the lead is taken: a file that a paused process still holds leaves that one in its place.
            store = self._open_store or self._the_store()
            if not self.member.lead():
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
        self.pipeline.open(store)
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
            self.pipeline.keep_warm()
        except TRANSIENT as error:
            self._waits_for = f"database: {type(error).__name__}"

    def _say_started(self) -> None:
        if not self._started.done():
            self._started.set_result(None)

    async def _lead(self, stopping: asyncio.Event, deposed: "asyncio.Task[None]") -> None:
        edge = self._new_edge()
        receiving = await self._open(edge)
        self.edge = edge
        self.ticking = self._ticking_for(edge)
        self.submissions = Submissions(self.belt, edge.publish, at_once=self._settings.batch_messages)
        handed = asyncio.create_task(self.submissions.run())
        late = latecomers.for_ever(self.pipeline, self.belt.between)
        works = (self.ticking.for_ever(), late, self._keep_house(), self._derive())
        beside = [asyncio.create_task(some) for some in works]
        stopped = asyncio.create_task(stopping.wait())
        self._say_started()
        await asyncio.wait((receiving, stopped, deposed), return_when=asyncio.FIRST_COMPLETED)
        for task in beside:
            task.cancel()
        self.submissions.close()
        if isinstance(edge, Consumer):
            await edge.stop(leaves_nobody=await asyncio.to_thread(self.member.is_last))
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
            trouble = None if self.edge is None else self.trouble()
            assets = self.pipeline.ground.assets
            found = verdict.as_json([] if self.ticking is None else self.ticking.findings)
            gauges = Gauges(pace, counters.lag_ms, counters.waiting, assets, (trouble or "")[:400], found)
            await asyncio.to_thread(member.beat, gauges)
            if self.edge is not None:
                await self._look_around(member)
            if isinstance(self.edge, Consumer):
                self.edge.speak(is_spoken_here=member.is_eldest)
            await asyncio.sleep(BEAT_S)
        _log.error("another ingest worker has taken over; this one stands by", life=member.licence.life)

    async def _look_around(self, member: Member) -> None:
        """End the lives of workers that have ended, and take up what they left behind."""
        try:
            if await asyncio.to_thread(member.sweep):
                while await self.belt.between(self.pipeline.ground.adopt_orphans):
                    pass
        except TRANSIENT as error:
            _log.warning("the other ingest workers cannot be seen", reason=type(error).__name__)
        except Deposed:
            pass  # The licence says so.

    async def _may_connect(self) -> None:
        """Refuse a connection to the broker once another process has taken over."""
        await asyncio.to_thread(self.member.licence.require)

    def _new_edge(self) -> "Consumer | EmbeddedBroker":
        mapper, settings = self.pipeline.mapper, self._settings
        if settings.mqtt_url:
            speaks = self.member.is_eldest
            return edges.consumer(settings, self.belt, mapper, may_connect=self._may_connect, speaks=speaks)
        return edges.broker(settings, self.belt, mapper, self.doorway.recognise)

    async def _open(self, edge: "Consumer | EmbeddedBroker") -> "asyncio.Task[None]":
        """Begin to receive; return what runs until the edge has stopped."""
        if isinstance(edge, Consumer):
            return asyncio.create_task(edge.run())
        await edge.start()
        return asyncio.create_task(_for_ever())

    # Beside the path --------------------------------------------------------------------------------------------

    def _ticking_for(self, edge: "Consumer | EmbeddedBroker") -> Ticking:
        pipeline, between, member = self.pipeline, self.belt.between, self.member
        lag_alarm_s = self._settings.lag_alarm_s
        tending = Tending(
            self._sessions, pipeline.registry, edge, between, lambda: member.is_eldest, lag_alarm_s=lag_alarm_s
        )
        return Ticking(pipeline, edge, between, self.doorway, tending, lambda: member.is_eldest)

    async def _keep_house(self) -> None:
        assert self._open_store is not None  # noqa: S101 - whoever leads has one
        await housekeeping.for_ever(self._sessions, self._open_store, self._settings)

    async def _derive(self) -> None:
        assert self._open_store is not None  # noqa: S101 - whoever leads has one
        works = deriving.Deriving(self._sessions, self._open_store, self._settings)
        await deriving.for_ever(works, self.belt.between, self.pipeline.judging.judge, lambda: self.member.is_eldest)

    async def _write_last_books(self) -> None:
        try:
            await self.belt.between(lambda: self.pipeline.books.close(clock.now()))
        except (*TRANSIENT, Deposed) as error:
            _log.warning("the last counts could not be written", reason=type(error).__name__)


async def _for_ever() -> None:
    await asyncio.Event().wait()
