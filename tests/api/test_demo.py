"""The demo company as a newcomer finds it: there is something to do for everybody."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from api.demo import catalogue, company
from api.runtime import Runtime
from kernel import clock, db, settings
from maintenance.orders import faults
from maintenance.orders.models import Order, Request
from maintenance.parts.models import Part, Stock
from people import accounts, roles
from telemetry.duckdb import DuckDbStore


@pytest.fixture
def seeded(database: sessionmaker[Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sessionmaker[Session]:
    monkeypatch.setattr(company, "BEHIND", timedelta(days=3))
    store = DuckDbStore(tmp_path / "telemetry.duckdb")
    runtime = Runtime(settings.load(data_dir=tmp_path), database.kw["bind"], database, store, b"secret", is_demo=True)
    with db.transaction(database) as session:
        roles.sync_builtin(session)
        accounts.first_administrator(session, clock.now())
    company.seed(runtime, say=lambda _: None)
    store.close()
    return database


def test_OPS_1_the_demo_has_work_in_every_hand_and_is_made_once(seeded: sessionmaker[Session], tmp_path: Path) -> None:
    with seeded() as session:
        open_orders = session.scalars(select(Order).where(faults.is_open())).all()
        assert {order.phase for order in open_orders} == {"new", "accepted", "working", "paused", "done"}
        assert [order.number for order in open_orders if order.phase == "new" and order.assignee_id is None]
        assert [order.number for order in open_orders if order.due_at is not None and order.due_at < clock.now()]
        assert session.scalar(select(func.count()).select_from(Request).where(Request.state == "new")) == 1
        scarce = select(Part.id).join(Stock).group_by(Part.id).having(func.min(Stock.on_hand) <= 1)
        assert session.scalars(scarce).all()
        orders = session.scalar(select(func.count()).select_from(Order))
    store = DuckDbStore(tmp_path / "again.duckdb")
    runtime = Runtime(settings.load(data_dir=tmp_path), seeded.kw["bind"], seeded, store, b"secret", is_demo=True)
    company.seed(runtime, say=lambda _: None)
    store.close()
    with seeded() as session:
        assert session.scalar(select(func.count()).select_from(Order)) == orders


def test_OPS_1_for_every_machine_of_the_demo_somebody_who_can_mend_it_is_on_shift_at_any_hour() -> None:
    """Else a newcomer who reports a fault in the evening waits for nobody."""
    skill_of = {kind.key: kind.skill for kind in catalogue.KINDS}
    needed = {(site, skill_of[kind]) for site, _, kind, *_ in catalogue.FLEET}
    covered = {
        (one.where, skill, hour)
        for one in catalogue.PEOPLE
        if one.shift is not None
        for skill in one.skills
        for hour in range(24)
        if (hour - one.shift[0].hour) % 24 < ((one.shift[1].hour - one.shift[0].hour) % 24 or 24)
    }
    assert {(*need, hour) for need in needed for hour in range(24)} - covered == set()
