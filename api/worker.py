"""The worker: carries events to their subscribers and lets time pass (ticks). As many as you like may run.

Nothing is claimed but by row locks and unique keys, so a killed worker loses nothing and two workers double
nothing. A notification of the outbox wakes it; it also looks by itself every second.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from kernel import clock, courier, db, events, log

LOOK_EVERY_S = 1.0
PAUSE_S = 2.0
OUTWARD_THREADS = 2
FIRST_IN_A_ROW = 16
"""So many batches of what goes first are delivered before one of the oldest, so that nothing waits for ever."""
STALLED = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Tick:
    """Something that is to happen again and again: ``run`` gets a transaction of its own and the instant.

    While it says that it did something it runs again at once, up to ``in_a_row`` times, so that what has much to do
    does it in small transactions.
    """

    name: str
    every_s: float
    run: Callable[[Session, datetime], object]
    in_a_row: int = 1


@dataclass(frozen=True, slots=True)
class Lane:
    """Whose deliveries a thread carries: some subscribers, or all besides some; whose first, and in which order."""

    among: Collection[str] | None = None
    besides: Collection[str] = ()
    first: Sequence[str] = ()
    is_outward: bool = False
    """What was told to strangers cannot be rolled back, so each of these commits for itself."""


@dataclass(slots=True)
class Patience:
    """How long a thread puts off what can wait, for the sake of what goes first."""

    in_a_row: int = 0
    since: float | None = None

    @property
    def first_goes_on(self) -> bool:
        """Whether what goes first is still to be looked for before the rest."""
        return self.in_a_row < FIRST_IN_A_ROW

    def holds_back(self, at: float) -> bool:
        """Return whether a thread keeps out of the way of another that carries what goes first: a second at a time.

        Beside it, it would not bring an order sooner but later: both want the same locks, processors and interpreter.
        """
        self.since = at if self.since is None else self.since
        return at - self.since < LOOK_EVERY_S

    def saw(self, *, first: bool) -> None:
        """Note what was looked for last: something of what goes first was delivered, or the rest had its turn."""
        self.in_a_row = self.in_a_row + 1 if first else 0
        self.since = None


class Worker:
    """Delivery threads and a scheduler that only ticks."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        database_url: str,
        subscriptions: events.Subscriptions,
        ticks: Sequence[Tick],
        *,
        threads: int = 2,
        first: Sequence[str] = (),
        outward: Collection[str] = (),
    ) -> None:
        self._sessions = sessions
        self._url = database_url.replace("+psycopg", "", 1)
        self._subscriptions = subscriptions
        self._ticks = ticks
        self._stopping = threading.Event()
        self._wake = threading.Condition()
        self._round = 0
        self._well_at = clock.now()
        self._scheduler = BackgroundScheduler(timezone="UTC")
        # Subscribers that wait for strangers have threads of their own: no order waits for a target that is down.
        lanes = [Lane(besides=outward, first=first)] * threads
        lanes += [Lane(among=outward, is_outward=True)] * (OUTWARD_THREADS if outward else 0)
        self._threads = [
            threading.Thread(target=self._deliver_for_ever, args=[lane], name=f"deliver-{number}")
            for number, lane in enumerate(lanes)
        ]
        self._threads.append(threading.Thread(target=self._listen_for_ever, name="deliver-ear", daemon=True))

    def start(self) -> None:
        """Begin to deliver and to tick."""
        for tick in self._ticks:
            self._scheduler.add_job(
                self._run, "interval", args=[tick], seconds=tick.every_s, id=tick.name, max_instances=1, coalesce=True,
                misfire_grace_time=None, next_run_time=clock.now(),
            )  # fmt: skip
        self._scheduler.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is under way and stop."""
        self._stopping.set()
        self._nudge()
        self._scheduler.shutdown(wait=True)
        for thread in self._threads:
            if not thread.daemon:
                thread.join()

    def trouble(self) -> str | None:
        """Return what is wrong, or None."""
        stalled = clock.now() - self._well_at > STALLED
        return "no delivery round has ended well for 30 s" if stalled else None

    def _run(self, tick: Tick) -> None:
        try:
            for _time in range(tick.in_a_row):
                with db.transaction(self._sessions) as session:
                    did_something = tick.run(session, clock.now())
                if not did_something or self._stopping.is_set():
                    return
        except Exception as error:  # noqa: BLE001 - the edge of a tick: logged, and the next one tries again
            log.of(__name__).warning("tick failed", tick=tick.name, error=repr(error))

    def _deliver_for_ever(self, lane: Lane) -> None:
        seen, patience = -1, Patience()
        while not self._stopping.is_set():
            with self._wake:
                if self._round == seen:
                    self._wake.wait(timeout=LOOK_EVERY_S)
                seen = self._round
            try:
                self._deliver_all(lane, patience)
            except SQLAlchemyError as error:
                log.of(__name__).warning("deliveries pause: the database does not answer", error=type(error).__name__)
                self._stopping.wait(PAUSE_S)

    def _deliver_all(self, lane: Lane, patience: Patience) -> None:
        """Fan out and deliver, in turns, until nothing is due or somebody else carries what goes first."""
        while not self._stopping.is_set():
            taken = 0 if lane.is_outward else self._fan_out()
            first = None
            delivered: object = None
            if patience.first_goes_on:
                first = self._deliver_first(lane)
                if first is None and patience.holds_back(time.monotonic()):
                    return
            delivered = first or self._deliver_rest(lane)
            patience.saw(first=bool(first))
            self._well_at = clock.now()
            if not taken and not delivered and first is not None:
                return

    def _fan_out(self) -> int:
        with db.transaction(self._sessions) as session:
            taken = events.fan_out(session, self._subscriptions, clock.now())
        if taken:
            self._nudge()
        return taken

    def _deliver_first(self, lane: Lane) -> bool | None:
        """Deliver what goes first, in its order; return whether there was any, None where somebody else is about it.

        A full batch says that more waits, and is followed by the next of the same. Any other is followed by the next
        subscriber's: what trickles in without end would keep those who come after it waiting for ever.
        """
        delivered = False
        for subscriber in lane.first:
            outcomes = courier.deliver_to(self._sessions, self._subscriptions, clock.now(), subscriber)
            if outcomes is None:
                return delivered or None
            delivered = delivered or bool(outcomes)
            if len(outcomes) >= courier.MOST_AT_ONCE:
                break
        return delivered

    def _deliver_rest(self, lane: Lane) -> bool:
        now, besides = clock.now(), (*lane.besides, *lane.first)
        if lane.is_outward:
            return courier.deliver_one(self._sessions, self._subscriptions, now, among=lane.among) is not None
        return bool(courier.deliver_many(self._sessions, self._subscriptions, now, among=lane.among, besides=besides))

    def _listen_for_ever(self) -> None:
        while not self._stopping.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True) as connection:
                    connection.execute(f"LISTEN {events.CHANNEL}")
                    self._nudge()
                    while not self._stopping.is_set():
                        for _ in connection.notifies(timeout=LOOK_EVERY_S, stop_after=1):
                            self._nudge()
            except (psycopg.Error, OSError):
                self._stopping.wait(PAUSE_S)

    def _nudge(self) -> None:
        with self._wake:
            self._round += 1
            self._wake.notify_all()
