"""The outbox: every effect once, whatever fails, whoever is killed; and nothing stuck without being seen (D05)."""

import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event as hooks
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, sessionmaker

from kernel import audit, courier, db, events, numbering
from kernel.errors import Invalid
from kernel.models import Counter, Delivery, Event
from tests.factories import NOW
from tests.kernel import worker_process
from tests.kernel.worker_process import Happened
from tests.waiting import until

Database = sessionmaker[Session]
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class NobodyListens:
    """An event without a subscriber."""

    at: datetime


def emit(database: Database, *happenings: Any) -> None:
    with db.transaction(database) as session:
        for happening in happenings:
            events.emit(session, happening, subject="thing:1", at=NOW, actor="system")


def fan_out(database: Database, subscriptions: events.Subscriptions) -> int:
    with db.transaction(database) as session:
        return events.fan_out(session, subscriptions, NOW)


def deliveries(database: Database) -> list[Delivery]:
    with database() as session:
        return list(session.scalars(select(Delivery).order_by(Delivery.id)))


def effects(database: Database) -> dict[str, int]:
    with database() as session:
        rows = session.execute(select(Counter.name, Counter.value)).all()
    return {name: value for name, value in rows if name.startswith("effect of ")}


def first(session: Session, event: Happened, _now: datetime) -> None:
    numbering.draw(session, f"effect of first {event.number}")


def second(session: Session, event: Happened, _now: datetime) -> None:
    numbering.draw(session, f"effect of second {event.number}")


def test_each_subscriber_hears_of_each_event_once(database: Database) -> None:
    table = {Happened: [first, second]}
    emit(database, Happened(1), NobodyListens(NOW), Happened(2))

    assert fan_out(database, table) == 3
    assert fan_out(database, table) == 0
    while courier.deliver_one(database, table, NOW):
        pass

    assert effects(database) == {f"effect of {who} {n}": 1 for who in ("first", "second") for n in (1, 2)}
    assert {row.state for row in deliveries(database)} == {"done"}
    with database() as session:
        assert events.is_idle(session)


def test_what_waits_is_found_through_its_index_however_many_deliveries_are_done(database: Database) -> None:
    """A prepared statement may be planned without its parameters; the partial index has to serve that plan too."""
    emit(database, Happened(1))
    fan_out(database, {Happened: [first]})
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        asked.append(statement)

    with database() as session:
        hooks.listen(session.get_bind(), "before_cursor_execute", note)
        assert courier.deliver_one(database, {Happened: [first]}, NOW, besides=["someone.else"]) is not None
        hooks.remove(session.get_bind(), "before_cursor_execute", note)
        [claim] = [one for one in asked if "FROM delivery" in one and "SKIP LOCKED" in one]
        places = iter(range(1, 100))
        generic = re.sub(r"%\(\w+\)s", lambda _name: f"${next(places)}", claim)
        session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = session.connection().exec_driver_sql(f"EXPLAIN (GENERIC_PLAN) {generic}").scalars().all()
    assert any("ix_delivery_due" in line for line in plan), plan


def test_an_event_of_a_transaction_that_is_rolled_back_never_happened(database: Database) -> None:
    with database() as session:
        events.emit(session, Happened(1), subject="thing:1", at=NOW, actor="system")
        session.flush()
        session.rollback()
        events.emit(session, Happened(2), subject="thing:1", at=NOW, actor="system")
        session.commit()
    with database() as session:
        assert [row.payload for row in session.scalars(select(Event))] == [{"number": 2}]


def test_what_fails_leaves_nothing_behind_backs_off_and_is_stuck_in_the_end(database: Database) -> None:
    def fails(session: Session, _event: Happened, now: datetime) -> None:
        numbering.draw(session, "effect of a failure")
        audit.record(session, "effect.fail", subject="effect:1", actor="system", at=now)
        events.emit(session, Happened(99), subject="thing:1", at=now, actor="system")
        raise Invalid("The reader has no paper.")

    table: events.Subscriptions = {Happened: [fails]}
    emit(database, Happened(1))
    fan_out(database, table)

    now, pauses = NOW, []
    for attempt in range(1, courier.ATTEMPTS + 1):
        outcome = courier.deliver_one(database, table, now)
        assert outcome is not None
        assert outcome.error == "kernel.errors.Invalid: The reader has no paper."
        [row] = deliveries(database)
        assert row.attempts == attempt
        pauses.append(row.next_at - now)
        assert courier.deliver_one(database, table, row.next_at - timedelta(milliseconds=1)) is None
        now = row.next_at

    assert pauses[:4] == [timedelta(seconds=s) for s in (1, 2, 4, 8)]
    assert max(pauses) <= courier.LONGEST_PAUSE
    assert (row.state, row.last_error) == ("stuck", outcome.error)
    assert effects(database) == {}
    with database() as session:
        assert session.scalar(select(func.count()).select_from(Event)) == 1
        assert list(audit.verify(session)) == []
        assert events.is_idle(session), "a stuck delivery waits for a person, not for a worker"


def test_a_person_puts_what_is_stuck_back_in_line(database: Database) -> None:
    is_mended = False

    def fails_until_mended(session: Session, _event: Happened, _now: datetime) -> None:
        if not is_mended:
            raise Invalid("Not yet.")
        numbering.draw(session, "effect of patience")

    table: events.Subscriptions = {Happened: [fails_until_mended]}
    emit(database, Happened(1))
    fan_out(database, table)
    late = NOW + timedelta(days=1)
    while courier.deliver_one(database, table, late):
        late += timedelta(hours=1)
    [row] = deliveries(database)
    assert row.state == "stuck"

    is_mended = True
    with db.transaction(database) as session:
        assert events.retry(session, [row.id, 12345], late) == 1
        assert events.retry(session, [row.id], late) == 0, "it is no longer stuck"
    courier.deliver_one(database, table, late)

    [row] = deliveries(database)
    assert (row.state, row.attempts, row.last_error) == ("done", 0, None)
    assert effects(database) == {"effect of patience": 1}


def test_an_effect_that_the_commit_refuses_is_rolled_back_and_tried_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    table: events.Subscriptions = {Happened: [first]}
    emit(database, Happened(1))
    fan_out(database, table)
    commit, refused = Session.commit, []

    def refuse_once(session: Session) -> None:
        if not refused:
            refused.append(session)
            raise OSError("the line was cut")
        commit(session)

    monkeypatch.setattr(Session, "commit", refuse_once)
    outcome = courier.deliver_one(database, table, NOW)
    assert outcome is not None
    assert outcome.error == "OSError: the line was cut"
    [row] = deliveries(database)
    assert (row.state, row.attempts) == ("waiting", 1)
    assert effects(database) == {}

    courier.deliver_one(database, table, row.next_at)
    assert effects(database) == {"effect of first 1": 1}


def test_a_failure_holds_its_claim_until_it_is_written_down(database: Database) -> None:
    """No second worker may try in the moment between a failure and its note."""
    reached, go_on = threading.Event(), threading.Event()

    def fails_slowly(_session: Session, _event: Happened, _now: datetime) -> None:
        reached.set()
        assert go_on.wait(20)
        raise Invalid("No.")

    table: events.Subscriptions = {Happened: [fails_slowly]}
    emit(database, Happened(1))
    fan_out(database, table)
    thread = threading.Thread(target=courier.deliver_one, args=(database, table, NOW))
    thread.start()
    assert reached.wait(20)
    assert courier.deliver_one(database, table, NOW) is None
    go_on.set()
    thread.join()
    [row] = deliveries(database)
    assert row.attempts == 1


def test_a_subscriber_that_a_new_version_no_longer_has_ends_where_it_is_seen(database: Database) -> None:
    emit(database, Happened(1))
    fan_out(database, {Happened: [first]})
    outcome = courier.deliver_one(database, {Happened: [second]}, NOW)
    assert outcome is not None
    assert outcome.error is not None
    assert "does not know" in outcome.error


def test_a_stuck_delivery_does_not_hold_up_the_others(database: Database) -> None:
    def fails_for_one(session: Session, event: Happened, _now: datetime) -> None:
        if event.number == 1:
            raise Invalid("No.")
        numbering.draw(session, f"effect of {event.number}")

    table: events.Subscriptions = {Happened: [fails_for_one]}
    emit(database, *(Happened(n) for n in range(1, 6)))
    fan_out(database, table)
    while courier.deliver_one(database, table, NOW):
        pass
    assert effects(database) == {f"effect of {n}": 1 for n in range(2, 6)}


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_two_workers_share_the_work_and_double_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(events, "FAN_OUT_LIMIT", batch)
    emit(database, *(Happened(n) for n in range(60)))
    run_together(lambda: worker_process.work(database), threads=4)
    while worker_process.work(database):
        pass
    assert effects(database) == {f"effect of {n}": 1 for n in range(60)}


def run_together(work: Callable[[], object], *, threads: int) -> None:
    """Run ``work`` in several threads and wait for all; a failure in one is a failure of the test."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    together = [threading.Thread(target=guarded) for _ in range(threads)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.torture)])
def test_D05_a_worker_killed_while_delivering_has_each_effect_once(
    database: Database, database_url: str, kills: int
) -> None:
    total, random_ = 40 * kills, random.Random(5)
    emit(database, *(Happened(n) for n in range(total)))

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "tests.kernel.worker_process", database_url], cwd=ROOT)

    for kill in range(kills):
        before = len(effects(database))
        wanted = before + random_.randint(1, (total - before) // (kills - kill + 1))
        with start() as worker:
            until(lambda wanted=wanted: len(effects(database)) >= wanted, timeout_s=60)
            worker.kill()
    assert len(effects(database)) < total, "all of the kills found the worker at work"
    with start() as worker:
        assert worker.wait(timeout=120) == 0

    assert effects(database) == {f"effect of {n}": 1 for n in range(total)}
    assert {row.state for row in deliveries(database)} == {"done"}
    with database() as session:
        assert events.is_idle(session)
        assert list(audit.verify(session)) == []
