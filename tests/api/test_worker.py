"""The worker: ticks with much to do run in small transactions; what goes first keeps nothing waiting for ever."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from api.worker import Tick, Worker
from kernel import clock, db, events
from tests.waiting import until

AN_HOUR_S = 3600


def test_a_tick_with_much_to_do_runs_again_at_once_in_transactions_of_its_own(
    database: sessionmaker[Session], database_url: str
) -> None:
    seen: dict[str, list[str]] = {"once": [], "thrice": [], "until done": []}

    def noting(name: str, left: int) -> Callable[[Session, datetime], bool]:
        def run(session: Session, _now: datetime) -> bool:
            seen[name].append(session.execute(text("SELECT pg_current_xact_id()::text")).scalar_one())
            return len(seen[name]) <= left

        return run

    ticks = [
        Tick("once", AN_HOUR_S, noting("once", 9)),
        Tick("thrice", AN_HOUR_S, noting("thrice", 9), in_a_row=3),
        Tick("until done", AN_HOUR_S, noting("until done", 1), in_a_row=9),
    ]
    worker = Worker(database, database_url, {}, ticks)
    worker.start()
    try:
        until(lambda: [len(one) >= most for one, most in zip(seen.values(), (1, 3, 2), strict=True)] == [True] * 3)
    finally:
        worker.stop()
    assert [len(set(one)) for one in seen.values()] == [1, 3, 2]
    assert [len(one) for one in seen.values()] == [1, 3, 2]


@dataclass(frozen=True)
class SomethingHappened:
    """What the subscribers below hear of."""


def test_what_goes_first_is_delivered_first_and_what_is_oldest_in_its_turn_however_much_goes_first(
    database: sessionmaker[Session], database_url: str
) -> None:
    heard: list[str] = []

    def patient(_session: Session, _event: SomethingHappened, _now: datetime) -> None:
        heard.append("patient")

    def urgent(session: Session, event: SomethingHappened, now: datetime) -> None:
        heard.append("urgent")
        events.emit(session, event, subject="test:1", at=now, actor="test")

    with db.transaction(database) as session:
        events.emit(session, SomethingHappened(), subject="test:1", at=clock.now(), actor="test")
    table: events.Subscriptions = {SomethingHappened: [patient, urgent]}
    worker = Worker(database, database_url, table, (), threads=1, first=[events.name_of(urgent)])
    worker.start()
    try:
        until(lambda: "patient" in heard, what="what is patient has its turn")
    finally:
        worker.stop()
    assert heard[0] == "urgent"
