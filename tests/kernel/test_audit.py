"""The audit trail cannot be altered unnoticed (P6, SE-3, D20), and never loses or invents an entry by itself."""

import random
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from kernel import audit, db
from kernel.models import AuditEntry, AuditHead, Counter
from tests.conftest import SECRET
from tests.factories import NOW

Database = sessionmaker[Session]


def write(database: Database, count: int, *, each: int = 1) -> None:
    """Write ``count`` entries, ``each`` a transaction."""
    for first in range(0, count, each):
        with db.transaction(database) as session:
            for n in range(first, min(first + each, count)):
                note(session, n)


def note(session: Session, n: int) -> None:
    audit.record(
        session,
        "order.accept",
        subject=f"order:{n}",
        actor=f"account:{n % 7}",
        at=NOW + timedelta(seconds=n),
        before={"phase": "assigned", "price": 12.5},
        after={"phase": "accepted", "by": "李伟", "at": NOW},
        company_id=1,
    )


def refused_within_a_savepoint(session: Session) -> None:
    with session.begin_nested():
        note(session, 2)
        session.execute(insert(Counter), [{"name": "twice", "value": 1}, {"name": "twice", "value": 2}])


def interrupted(database: Database) -> None:
    with db.transaction(database) as session:
        note(session, 98)
        raise InterruptedError


def breaks(database: Database) -> list[tuple[int, str]]:
    with database() as session:
        return [(place.seq, place.reason) for place in audit.verify(session)]


def as_owner(database: Database, *statements: str, **values: Any) -> None:
    """Do what the owner of the tables can: switch the triggers off and write whatever they like."""
    with db.transaction(database) as session:
        session.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER ALL"))
        for statement in statements:
            session.execute(text(statement), values)
        session.execute(text("ALTER TABLE audit_entry ENABLE TRIGGER ALL"))


def test_a_trail_nobody_touched_is_whole(database: Database) -> None:
    assert breaks(database) == []
    write(database, 30, each=7)
    assert breaks(database) == []
    with database() as session:
        assert list(session.scalars(select(AuditEntry.seq).order_by(AuditEntry.id))) == list(range(1, 31))


def test_the_database_refuses_to_change_or_delete_an_entry(database: Database) -> None:
    write(database, 2)
    for statement in ("UPDATE audit_entry SET actor = 'account:1'", "DELETE FROM audit_entry"):
        with pytest.raises(IntegrityError, match="append-only"), db.transaction(database) as session:
            session.execute(text(statement))


def edits(random_: random.Random, count: int) -> list[tuple[int, str, dict[str, Any]]]:
    """Return ``count`` different ways in which an owner falsifies one entry of 200."""
    ways = [
        "actor = 'account:99'",
        "action = 'order.cancel'",
        "subject = 'order:99999'",
        "at = at - interval '1 second'",
        "company_id = 2",
        "company_id = NULL",
        """after = '{"phase": "closed"}'""",
        "before = NULL",
        """after = jsonb_set(after, '{phase}', '"accepte"')""",
        "seal = decode(md5(random()::text), 'hex') || decode(md5(random()::text), 'hex')",
        "seq = NULL, seal = NULL",
        "seal = NULL",
        "id = id + 100000",
    ]
    return [(random_.randint(1, 200), ways[n % len(ways)], {}) for n in range(count)]


def test_SE_3_each_of_200_random_edits_by_the_owner_of_the_tables_is_found(database: Database) -> None:
    write(database, 200, each=9)
    assert breaks(database) == []
    with database() as session:
        original = {row.seq: row._mapping for row in session.execute(select(*AuditEntry.__table__.columns))}
    missed = []
    for seq, way, _ in edits(random.Random(20), 200):
        kept = dict(original[seq])
        as_owner(database, f"UPDATE audit_entry SET {way} WHERE seq = :seq", seq=seq)  # noqa: S608 - ways of ours
        if not breaks(database):
            missed.append((seq, way))
        with db.transaction(database) as session:
            session.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER ALL"))
            session.execute(text("DELETE FROM audit_entry WHERE id IN (:one, :two)"),
                            {"one": kept["id"], "two": kept["id"] + 100000})  # fmt: skip
            session.execute(AuditEntry.__table__.insert(), [kept])
            session.execute(text("ALTER TABLE audit_entry ENABLE TRIGGER ALL"))
    assert missed == []
    assert breaks(database) == []


def test_SE_3_a_deleted_entry_is_found(database: Database) -> None:
    write(database, 20)
    as_owner(database, "DELETE FROM audit_entry WHERE seq = 11")
    assert (11, audit.ENTRY_MISSING) in breaks(database)


def test_SE_3_two_entries_that_changed_places_are_found(database: Database) -> None:
    write(database, 20)
    as_owner(
        database,
        "UPDATE audit_entry SET seq = -1 WHERE seq = 5",
        "UPDATE audit_entry SET seq = 5 WHERE seq = 6",
        "UPDATE audit_entry SET seq = 6 WHERE seq = -1",
    )
    assert breaks(database)


def test_SE_3_an_entry_put_in_by_hand_is_found_and_is_never_sealed_by_us(database: Database) -> None:
    write(database, 3)
    as_owner(
        database,
        "INSERT INTO audit_entry (at, actor, action, subject) VALUES (now(), 'account:1', 'role.grant', 'account:2')",
    )
    write(database, 3)
    assert breaks(database) == [(6, audit.NEVER_SEALED)]


def test_SE_3_a_cut_tail_is_found_also_when_the_head_was_set_back(database: Database) -> None:
    write(database, 20)
    as_owner(database, "DELETE FROM audit_entry WHERE seq > 15")
    assert breaks(database) == [(15, audit.TAIL_CUT)]

    as_owner(database, "UPDATE audit_head SET seq = 15")
    assert breaks(database) == [(15, audit.HEAD_ALTERED)]


def test_SE_3_work_that_goes_on_after_a_cut_does_not_heal_it(database: Database) -> None:
    write(database, 20)
    as_owner(database, "DELETE FROM audit_entry WHERE seq > 15", "UPDATE audit_head SET seq = 15")
    write(database, 5)
    assert (16, audit.ENTRY_ALTERED) in breaks(database)


def test_SE_3_a_chain_rewritten_with_another_key_is_found(database: Database) -> None:
    write(database, 20)
    with db.transaction(database) as session:
        session.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER ALL"))
        session.execute(text("UPDATE audit_entry SET seq = NULL, seal = NULL, actor = 'account:1'"))
        session.execute(text("UPDATE audit_head SET seq = 0, seal = ''"))
        identities = list(session.scalars(select(AuditEntry.id).order_by(AuditEntry.id)))
        # The forger has this very code, and everything but the installation's secret.
        audit._seal(session, b"a key of the forger's own", identities)
    assert len(breaks(database)) >= 20


def test_a_missing_head_is_found(database: Database) -> None:
    write(database, 3)
    as_owner(database, "DELETE FROM audit_head")
    assert breaks(database) == [(0, audit.HEAD_MISSING)]


def test_what_is_rolled_back_leaves_no_entry_and_no_gap(database: Database) -> None:
    write(database, 2)
    with database() as session:
        note(session, 99)
        session.rollback()
        note(session, 3)
        session.commit()
    with pytest.raises(InterruptedError):
        interrupted(database)
    assert breaks(database) == []
    with database() as session:
        assert session.query(AuditEntry).count() == 3


def test_a_savepoint_that_is_rolled_back_takes_only_its_own_entries(database: Database) -> None:
    with db.transaction(database) as session:
        note(session, 1)
        with pytest.raises(IntegrityError):
            refused_within_a_savepoint(session)
        note(session, 3)
        with session.begin_nested():
            note(session, 4)
    assert breaks(database) == []
    with database() as session:
        subjects = list(session.scalars(select(AuditEntry.subject).order_by(AuditEntry.seq)))
    assert subjects == ["order:1", "order:3", "order:4"]


def test_an_entry_written_only_before_a_failed_savepoint_is_sealed_too(database: Database) -> None:
    with db.transaction(database) as session:
        note(session, 1)
        with pytest.raises(IntegrityError):
            refused_within_a_savepoint(session)
    assert breaks(database) == []


def test_many_writers_at_once_make_one_line(database: Database) -> None:
    threads = [threading.Thread(target=write, args=(database, 25), kwargs={"each": 3}) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert breaks(database) == []
    with database() as session:
        assert session.scalar(select(AuditHead.seq)) == 200


def test_a_trail_that_grows_while_it_is_verified_is_not_called_broken(database: Database) -> None:
    write(database, 50)
    stop = threading.Event()

    def keep_writing() -> None:
        while not stop.is_set():
            write(database, 5)

    thread = threading.Thread(target=keep_writing)
    thread.start()
    try:
        assert [found for _ in range(30) if (found := breaks(database))] == []
    finally:
        stop.set()
        thread.join()


def test_verifying_within_the_transaction_that_writes_does_not_count_its_own_entries(database: Database) -> None:
    write(database, 3)
    with db.transaction(database) as session:
        note(session, 4)
        assert list(audit.verify(session)) == []


def test_many_entries_of_one_batch_are_one_statement_and_all_sealed(database: Database) -> None:
    acts = [audit.Act("alarm.raise", f"alarm:{n}", "rule:1", None, {"n": n}, 1) for n in range(3000)]
    with db.transaction(database) as session:
        audit.record_all(session, acts, at=NOW)
        audit.record_all(session, [], at=NOW)
    assert breaks(database) == []
    with database() as session:
        ordered = list(session.scalars(select(AuditEntry.subject).order_by(AuditEntry.seq)))
    assert ordered == [f"alarm:{n}" for n in range(3000)]


def test_SE_3_an_old_copy_put_in_place_is_found_by_the_witness(
    database: Database, engine: Engine, tmp_path: Path
) -> None:
    watched = db.sessions(engine, secret=SECRET, witness=tmp_path / "witness")

    def look() -> None:
        with watched() as session:
            audit.witness(session)

    def found() -> list[tuple[int, str]]:
        with watched() as session:
            return [(place.seq, place.reason) for place in audit.verify(session)]

    look()
    assert not (tmp_path / "witness").exists(), "nothing has happened yet"
    write(database, 10)
    with database() as session:
        old = session.execute(select(AuditHead.seq, AuditHead.seal)).one()
    write(database, 10)
    look()
    assert found() == []

    # The head of an earlier day is genuine, and nothing behind it is left.
    as_owner(database, "DELETE FROM audit_entry WHERE seq > 10")
    as_owner(database, "UPDATE audit_head SET seq = :seq, seal = :seal", seq=old.seq, seal=old.seal)
    assert breaks(database) == [], "within the database it looks whole"
    assert found() == [(10, audit.SET_BACK)]
    write(database, 30)
    assert (20, audit.SET_BACK) in found(), "and still when it has grown past the place"
    look()
    assert (20, audit.SET_BACK) in found(), "what the witness saw is not forgotten"


def test_SE_3_a_trail_that_was_emptied_is_found_by_the_witness(
    database: Database, engine: Engine, tmp_path: Path
) -> None:
    watched = db.sessions(engine, secret=SECRET, witness=tmp_path / "witness")
    write(database, 3)
    with watched() as session:
        audit.witness(session)
    as_owner(database, "DELETE FROM audit_entry", "UPDATE audit_head SET seq = 0, seal = ''")
    with watched() as session:
        assert [place.reason for place in audit.verify(session)] == [audit.SET_BACK]


@pytest.mark.parametrize("seq", [0, -5, 3, 99])
def test_a_head_that_points_nowhere_stops_no_work_and_stays_found(database: Database, seq: int) -> None:
    write(database, 10)
    as_owner(database, "UPDATE audit_head SET seq = :seq", seq=seq)
    write(database, 5)
    assert breaks(database)
