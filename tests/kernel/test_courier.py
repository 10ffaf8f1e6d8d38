"""Deliveries that commit together (ADR 0022): each effect once, one that fails alone, nobody waited for with locks."""

import random
from collections.abc import Sequence
from datetime import datetime

import pytest
from sqlalchemy import Connection, text
from sqlalchemy import event as hooks
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from kernel import audit, courier, db, events, numbering
from kernel.errors import Invalid
from tests.factories import NOW
from tests.kernel.test_events import deliveries, effects, emit, fan_out, run_together
from tests.kernel.worker_process import Happened
from tests.waiting import until

Database = sessionmaker[Session]


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "LONGEST_S", 60.0)


def count(session: Session, event: Happened, _now: datetime) -> None:
    numbering.draw(session, f"effect of {event.number}")


def note(session: Session, event: Happened, now: datetime) -> None:
    """Leave an entry in the audit trail that names the transaction."""
    within = session.execute(text("SELECT pg_current_xact_id()::text")).scalar_one()
    audit.record(session, "note", subject=f"thing:{event.number}", actor="system", at=now, after={"within": within})


def noted(database: Database) -> list[tuple[str, str]]:
    with database() as session:
        assert list(audit.verify(session)) == []
        rows = session.execute(text("SELECT subject, after->>'within' FROM audit_entry ORDER BY seq"))
        return [(subject, within) for subject, within in rows]


def numbers(outcomes: list[courier.Outcome]) -> list[int]:
    return [one.delivery_id for one in outcomes]


def test_what_waits_for_one_subscriber_commits_together_in_the_order_of_waiting(database: Database) -> None:
    table: events.Subscriptions = {Happened: [note, count]}
    emit(database, *(Happened(n) for n in range(courier.MOST_AT_ONCE + 3)))
    fan_out(database, table)

    sizes = []
    while outcomes := courier.deliver_many(database, table, NOW):
        assert len({one.subscriber for one in outcomes}) == 1
        assert numbers(outcomes) == sorted(numbers(outcomes))
        sizes.append(len(outcomes))

    assert sorted(sizes) == [3, 3, courier.MOST_AT_ONCE, courier.MOST_AT_ONCE]
    entries = noted(database)
    assert [subject for subject, _ in entries] == [f"thing:{n}" for n in range(courier.MOST_AT_ONCE + 3)]
    assert len({within for _, within in entries}) == 2
    assert effects(database) == {f"effect of {n}": 1 for n in range(courier.MOST_AT_ONCE + 3)}
    assert {row.state for row in deliveries(database)} == {"done"}


def test_no_delivery_is_begun_when_time_is_up_and_the_rest_is_anyones(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "LONGEST_S", 0.0)
    table: events.Subscriptions = {Happened: [count]}
    emit(database, Happened(1), Happened(2))
    fan_out(database, table)
    assert len(courier.deliver_many(database, table, NOW)) == 1
    assert effects(database) == {"effect of 1": 1}
    assert len(courier.deliver_many(database, table, NOW)) == 1
    assert courier.deliver_many(database, table, NOW) == []


def test_one_that_fails_among_many_is_put_off_alone_and_leaves_nothing(database: Database) -> None:
    def fails_for_three(session: Session, event: Happened, now: datetime) -> None:
        count(session, event, now)
        note(session, event, now)
        events.emit(session, Happened(100 + event.number), subject="thing:1", at=now, actor="system")
        if event.number % 3 == 0:
            raise Invalid("Not this one.")

    table: events.Subscriptions = {Happened: [fails_for_three]}
    emit(database, *(Happened(n) for n in range(10)))
    fan_out(database, table)
    outcomes = courier.deliver_many(database, table, NOW)

    well = [n for n in range(10) if n % 3]
    assert [one.error is None for one in outcomes] == [n % 3 != 0 for n in range(10)]
    assert effects(database) == {f"effect of {n}": 1 for n in well}
    assert [subject for subject, _ in noted(database)] == [f"thing:{n}" for n in well]
    rows = deliveries(database)
    assert [(row.state, row.attempts) for row in rows] == [("done", 0) if n % 3 else ("waiting", 1) for n in range(10)]
    assert {row.next_at - NOW for row in rows if row.state == "waiting"} == {courier.FIRST_PAUSE}
    assert fan_out(database, table) == len(well), "what the others emitted is there"


def test_what_the_commit_refuses_together_is_delivered_one_at_a_time(database: Database) -> None:
    """The second of two equal rows is found out by the commit alone."""
    with db.transaction(database) as session:
        session.execute(text("CREATE TABLE claim (number int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))

    def claim(session: Session, event: Happened, now: datetime) -> None:
        count(session, event, now)
        session.execute(
            text("INSERT INTO claim VALUES (:number)"), {"number": 0 if event.number == 4 else event.number}
        )

    table: events.Subscriptions = {Happened: [claim]}
    emit(database, *(Happened(n) for n in range(7)))
    fan_out(database, table)
    outcomes = courier.deliver_many(database, table, NOW)

    assert [one.error is None for one in outcomes] == [n != 4 for n in range(7)]
    assert "UniqueViolation" in (outcomes[4].error or "")
    assert effects(database) == {f"effect of {n}": 1 for n in range(7) if n != 4}
    assert [(row.state, row.attempts) for row in deliveries(database)] == [
        ("waiting", 1) if n == 4 else ("done", 0) for n in range(7)
    ]


def test_a_line_that_breaks_at_the_commit_marks_nothing_and_doubles_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    table: events.Subscriptions = {Happened: [count]}
    emit(database, *(Happened(n) for n in range(5)))
    fan_out(database, table)
    commit, refused = Session.commit, []

    def refuse_once(session: Session) -> None:
        if not refused:
            refused.append(session)
            raise OSError("the line was cut")
        commit(session)

    monkeypatch.setattr(Session, "commit", refuse_once)
    outcomes = courier.deliver_many(database, table, NOW)
    assert [one.error for one in outcomes] == [None] * 5
    assert effects(database) == {f"effect of {n}": 1 for n in range(5)}
    assert {row.attempts for row in deliveries(database)} == {0}


def test_a_row_that_a_person_holds_is_not_waited_for_with_the_locks_of_others(database: Database) -> None:
    table: events.Subscriptions = {Happened: [count]}
    emit(database, *(Happened(n) for n in range(5)))
    fan_out(database, table)
    with database() as person:
        numbering.draw(person, "effect of 3")
        assert len(courier.deliver_many(database, table, NOW)) == 3
        assert effects(database) == {f"effect of {n}": 1 for n in range(3)}, "committed, and nobody's lock any more"
        assert [row.attempts for row in deliveries(database)] == [0] * 5, "waiting is no failure"
        person.rollback()
    assert len(courier.deliver_many(database, table, NOW)) == 2
    assert effects(database) == {f"effect of {n}": 1 for n in range(5)}


@pytest.mark.parametrize("seed", range(3))
def test_many_at_once_in_any_order_wait_in_no_circle(
    database: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Each delivery locks one of a few rows until its batch commits; four threads take them in whatever order."""
    chance = random.Random(seed)

    def first(session: Session, event: Happened, _now: datetime) -> None:
        numbering.draw(session, f"effect of {event.number % 5}")

    def second(session: Session, event: Happened, _now: datetime) -> None:
        numbering.draw(session, f"effect of {event.number % 7}")

    def many(session: Session, happenings: Sequence[Happened], now: datetime) -> None:
        for event in sorted(happenings, key=lambda one: one.number % 7):
            second(session, event, now)

    monkeypatch.setattr(courier, "BITE", 5)
    table: events.Subscriptions = {Happened: [first, events.Listener(second, many=many)]}
    amount = 120
    emit(database, *(Happened(n) for n in chance.sample(range(amount), amount)))
    fan_out(database, table)

    def work() -> None:
        while courier.deliver_many(database, table, NOW):
            pass

    run_together(work, threads=4)
    work()
    of_both = {n: sum(k % 5 == n for k in range(amount)) + sum(k % 7 == n for k in range(amount)) for n in range(7)}
    assert effects(database) == {f"effect of {n}": times for n, times in of_both.items()}
    assert {(row.state, row.attempts) for row in deliveries(database)} == {("done", 0)}


def test_who_takes_many_gets_them_at_once_and_one_by_one_when_that_fails(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "BITE", 4)
    bites: list[list[int]] = []

    def one(session: Session, event: Happened, now: datetime) -> None:
        if event.number == 6:
            raise Invalid("Not this one.")
        count(session, event, now)

    def many(session: Session, happenings: Sequence[Happened], now: datetime) -> None:
        bites.append([event.number for event in happenings])
        for event in happenings:
            one(session, event, now)

    table: events.Subscriptions = {Happened: [events.Listener(one, many=many)]}
    emit(database, *(Happened(n) for n in range(10)))
    fan_out(database, table)
    outcomes = courier.deliver_many(database, table, NOW)

    assert bites == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [outcome.error is None for outcome in outcomes] == [n != 6 for n in range(10)]
    assert effects(database) == {f"effect of {n}": 1 for n in range(10) if n != 6}
    assert [(row.state, row.attempts) for row in deliveries(database)] == [
        ("waiting", 1) if n == 6 else ("done", 0) for n in range(10)
    ]


def test_who_takes_many_waits_for_nobody_with_the_locks_of_others_either(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "BITE", 2)

    def many(session: Session, happenings: Sequence[Happened], now: datetime) -> None:
        for event in happenings:
            count(session, event, now)

    table: events.Subscriptions = {Happened: [events.Listener(count, many=many)]}
    emit(database, *(Happened(n) for n in range(6)))
    fan_out(database, table)
    with database() as person:
        numbering.draw(person, "effect of 3")
        assert len(courier.deliver_many(database, table, NOW)) == 2
        assert effects(database) == {"effect of 0": 1, "effect of 1": 1}
        person.rollback()
    assert len(courier.deliver_many(database, table, NOW)) == 4
    assert {(row.state, row.attempts) for row in deliveries(database)} == {("done", 0)}


def test_one_batch_at_a_time_of_what_goes_in_turn_and_what_does_not_goes_on_meanwhile(database: Database) -> None:
    table: events.Subscriptions = {Happened: [events.Listener(count, in_turn=True), note]}
    slow, quick = events.name_of(count), events.name_of(note)
    emit(database, *(Happened(n) for n in range(4)))
    fan_out(database, table)
    with database() as other:
        assert courier._has_turn(other, table, slow)
        assert courier.deliver_to(database, table, NOW, slow) is None
        assert {one.subscriber for one in courier.deliver_many(database, table, NOW)} == {quick}
        assert courier.deliver_many(database, table, NOW) == [], "it is somebody else's turn"
        assert effects(database) == {}
        other.rollback()
    outcomes = courier.deliver_to(database, table, NOW, slow)
    assert outcomes is not None
    assert numbers(outcomes) == sorted(numbers(outcomes))
    assert effects(database) == {f"effect of {n}": 1 for n in range(4)}
    assert courier.deliver_to(database, table, NOW, slow) == []


def test_what_is_claimed_is_found_by_identity_however_little_the_planner_knows_of_it(database: Database) -> None:
    table: events.Subscriptions = {Happened: [count]}
    emit(database, *(Happened(n) for n in range(40)))
    fan_out(database, table)
    asked: list[str] = []

    def note_plan(connection: Connection, _cursor: object, statement: str, parameters: object, *_more: object) -> None:
        if "LIMIT" in statement and not statement.startswith("EXPLAIN"):
            rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)  # type: ignore[arg-type]
            asked.append("\n".join(row[0] for row in rows))

    engine = database.kw["bind"]
    hooks.listen(engine, "before_cursor_execute", note_plan)
    try:
        courier.deliver_to(database, table, NOW, events.name_of(count))
    finally:
        hooks.remove(engine, "before_cursor_execute", note_plan)
    assert asked
    assert all("InitPlan" in plan and "Semi Join" not in plan for plan in asked), "what is near is looked for once"


def test_whom_an_event_does_not_concern_gets_no_delivery_and_in_doubt_everybody_does(database: Database) -> None:
    def even(_session: Session, happenings: Sequence[Happened]) -> list[bool]:
        return [event.number % 2 == 0 for event in happenings]

    def broken(session: Session, _happenings: Sequence[Happened]) -> list[bool]:
        session.execute(text("SELECT no_such_column"))
        return []

    def second(session: Session, event: Happened, _now: datetime) -> None:
        numbering.draw(session, f"effect of second {event.number}")

    table: events.Subscriptions = {
        Happened: [events.Listener(count, concerns=even), events.Listener(second, concerns=broken)]
    }
    emit(database, *(Happened(n) for n in range(5)))
    assert fan_out(database, table) == 5
    while courier.deliver_many(database, table, NOW):
        pass
    assert effects(database) == {f"effect of {n}": 1 for n in (0, 2, 4)} | {
        f"effect of second {n}": 1 for n in range(5)
    }


def test_a_holder_of_the_turn_that_is_frozen_loses_it_and_what_it_had_is_delivered_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "LONGEST_SILENCE_MS", 300)
    table: events.Subscriptions = {Happened: [events.Listener(count, in_turn=True)]}
    name = events.name_of(count)
    emit(database, Happened(1))
    fan_out(database, table)
    frozen = database()
    assert courier._has_turn(frozen, table, name)
    assert courier._claim_of(frozen, name, NOW, [name], ())
    until(lambda: courier.deliver_to(database, table, NOW, name), what="somebody else has the turn")
    assert effects(database) == {"effect of 1": 1}
    with pytest.raises(DBAPIError, match="idle-in-transaction"):
        frozen.execute(text("SELECT 1"))
    frozen.close()
