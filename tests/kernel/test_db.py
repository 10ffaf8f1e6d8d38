"""The database: durable or refused, always in UTC, and silent about what was being stored when it fails."""

from collections.abc import Iterator
from typing import Self

import pytest
from sqlalchemy import Engine, text
from sqlalchemy import event as hooks
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from kernel import db, numbering
from kernel.errors import Misconfigured
from maintenance.orders import opening
from tests import factories
from tests.maintenance import orders_world as world


@pytest.mark.parametrize("url", ["sqlite://", "mysql://x", "postgresql+asyncpg://x/y", ""])
def test_any_other_database_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="FIXWRIGHT_DATABASE_URL"):
        db.connect(url)


def test_every_connection_speaks_utc_and_commits_durably(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.execute(text("SHOW timezone")).scalar_one() == "UTC"
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
    db.require_durable(engine)


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_D04_a_server_that_may_lose_what_it_acknowledged_is_refused(setting: str) -> None:
    class Careless:
        """The same server, as if it had been started with the setting off."""

        def connect(self) -> "Careless":
            return self

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def execute(self, statement: object) -> "Careless":
            self.answer = "off" if setting in str(statement) else "on"
            return self

        def scalar_one(self) -> str:
            return self.answer

    with pytest.raises(Misconfigured, match=setting):
        db.require_durable(Careless())  # type: ignore[arg-type]  # answers what a careless server answers


def test_an_error_does_not_repeat_what_was_being_stored(database: sessionmaker[Session]) -> None:
    with database() as session:
        session.execute(text("INSERT INTO counter VALUES (:name, 1)"), {"name": "one"})
        with pytest.raises(IntegrityError) as refused:
            session.execute(text("INSERT INTO counter SELECT 'one', :secret"), {"secret": 138_1234_5678})
    assert "13812345678" not in str(refused.value)


def test_a_transaction_is_all_or_nothing(database: sessionmaker[Session]) -> None:
    def fail() -> None:
        with db.transaction(database) as session:
            numbering.draw(session, "orders")
            raise InterruptedError

    with db.transaction(database) as session:
        assert numbering.draw(session, "orders") == 1
    with pytest.raises(InterruptedError):
        fail()
    with db.transaction(database) as session:
        assert numbering.draw(session, "orders") == 2, "a number that was not used is drawn again: no gap"


def test_many_rows_are_written_by_one_statement_a_table_and_have_their_identities_in_their_order(
    session: Session, statements: list[str]
) -> None:
    made = world.build(session)
    alarms = [factories.alarm(session, made.asset, type_key=f"E{n}") for n in range(5)]
    drafts = [opening.about(made.asset, origin="alarm", title=f"Fault {n}", alarm_id=alarms[n].id) for n in range(5)]
    orders = opening.open_all(session, drafts, actor="system", now=factories.NOW)
    assert [order.title for order in sorted(orders, key=lambda order: order.id)] == [f"Fault {n}" for n in range(5)]

    for number, order in enumerate(orders):
        order.occurrences, order.resolution = 10 + number, f"Mended {number}"
    orders[4].recovered_at = factories.NOW
    versions = [order.version for order in orders]
    statements.clear()
    db.write_together(session, [*orders, orders[0]])
    session.flush()
    assert len([one for one in statements if one.startswith("UPDATE work_order")]) == 2, "what changed alike together"
    assert [order.version for order in orders] == [version + 1 for version in versions]

    session.expire_all()
    assert [(order.occurrences, order.resolution, order.version) for order in orders] == [
        (10 + number, f"Mended {number}", version + 1) for number, version in enumerate(versions)
    ]
    assert orders[4].recovered_at == factories.NOW
    statements.clear()
    db.write_together(session, orders)
    assert not [one for one in statements if one.startswith("UPDATE")], "nothing has changed"


@pytest.fixture
def statements(session: Session) -> Iterator[list[str]]:
    """Return what is asked of the database, as it is asked."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        asked.append(statement)

    engine = session.get_bind()
    hooks.listen(engine, "before_cursor_execute", note)
    yield asked
    hooks.remove(engine, "before_cursor_execute", note)
