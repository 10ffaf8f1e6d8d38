"""The worker: ticks with much to do run in small transactions; what goes first keeps nothing waiting for ever."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from api.worker import FIRST_IN_A_ROW, LOOK_EVERY_S, Patience, Tick, Worker
from kernel import clock, courier, db, events
from tests.waiting import until

AN_HOUR_S = 3600
LONGEST_S = 2.0


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


@given(st.lists(st.tuples(st.sampled_from(("first", "rest", "busy")), st.floats(0.01, LONGEST_S)), max_size=300))
def test_however_much_goes_first_the_rest_is_never_put_off_for_long(found: list[tuple[str, float]]) -> None:
    patience, at, in_a_row, since = Patience(), 0.0, 0, 0.0
    for what, took in found:
        at += took
        if patience.first_goes_on and what == "busy" and patience.holds_back(at):
            assert at - since < LOOK_EVERY_S + LONGEST_S, "who keeps out of the way looks again"
            continue
        is_first = patience.first_goes_on and what == "first"
        patience.saw(first=is_first)
        in_a_row, since = in_a_row + 1 if is_first else 0, at
        assert in_a_row <= FIRST_IN_A_ROW


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


def test_what_trickles_in_first_keeps_what_comes_second_waiting_no_longer_than_a_batch(
    database: sessionmaker[Session], database_url: str
) -> None:
    heard: list[str] = []

    def second(_session: Session, _event: SomethingHappened, _now: datetime) -> None:
        heard.append("second")

    def first(session: Session, event: SomethingHappened, now: datetime) -> None:
        heard.append("first")
        events.emit(session, event, subject="test:1", at=now, actor="test")

    with db.transaction(database) as session:
        events.emit(session, SomethingHappened(), subject="test:1", at=clock.now(), actor="test")
    table: events.Subscriptions = {SomethingHappened: [second, first]}
    names = [events.name_of(first), events.name_of(second)]
    worker = Worker(database, database_url, table, (), threads=1, first=names)
    worker.start()
    try:
        until(lambda: heard.count("first") > FIRST_IN_A_ROW, what="the first is heard again and again")
    finally:
        worker.stop()
    assert heard[:2] == ["first", "second"]
    assert heard.count("second") >= heard.count("first") - 1


def test_while_another_carries_what_goes_first_the_rest_has_its_turn_all_the_same(
    database: sessionmaker[Session], database_url: str
) -> None:
    heard: list[str] = []

    def patient(_session: Session, _event: SomethingHappened, _now: datetime) -> None:
        heard.append("patient")

    def urgent(_session: Session, _event: SomethingHappened, _now: datetime) -> None:
        heard.append("urgent")

    table: events.Subscriptions = {SomethingHappened: [events.Listener(urgent, in_turn=True), patient]}
    name = events.name_of(urgent)
    with db.transaction(database) as session:
        events.emit(session, SomethingHappened(), subject="test:1", at=clock.now(), actor="test")
    with database() as other:
        assert courier._has_turn(other, table, name)
        worker = Worker(database, database_url, table, (), first=[name])
        worker.start()
        try:
            until(lambda: heard == ["patient"], what="the rest has its turn")
            other.rollback()
            until(lambda: heard == ["patient", "urgent"], what="what goes first comes as soon as it can")
        finally:
            worker.stop()
