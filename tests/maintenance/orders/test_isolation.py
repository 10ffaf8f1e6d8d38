"""Work that takes its asset out of service: recorded, no message, no second order; announced when the work is over."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel.errors import Conflict, Invalid
from kernel.models import Event
from maintenance.orders import alarm_orders, desk, isolation, kinds
from maintenance.orders.events import OrderMoved
from maintenance.orders.models import Order
from rules import alarms
from rules.episodes import Fault, Seen
from rules.events import AlarmAnnounced
from rules.models import Alarm
from tests import factories
from tests.factories import NOW
from tests.maintenance import orders_world as world
from tests.maintenance.orders_world import World

MINUTE = timedelta(minutes=1)


@pytest.fixture
def made(session: Session) -> World:
    return world.build(session)


def _announced(session: Session) -> list[dict[str, object]]:
    return list(session.scalars(select(Event.payload).where(Event.kind == "AlarmAnnounced").order_by(Event.id)))


def _raise(session: Session, made: World) -> Alarm:
    asset = made.asset
    fault = Fault(
        f"asset:{asset.id}", "overheat", "rule", "rule:1", asset.company_id, asset.unit_id, asset.id, None
    )  # fmt: skip
    alarm = session.get_one(Alarm, alarms.raise_(session, Seen(fault, "major", NOW, NOW), now=NOW))
    session.refresh(alarm)
    return alarm


def test_ALM_5_a_calibration_holds_the_alarms_of_its_asset_until_it_ends(session: Session, made: World) -> None:
    kind = kinds.of(session, made.company.id, "calibration")
    order = factories.order(
        session, made.company, made.asset, type_id=kind.id, phase="working", started_at=NOW, assignee_id=None
    )
    isolation.on_moved(session, OrderMoved(order.id, "start", "on_site", "working"), NOW)
    isolation.on_moved(session, OrderMoved(order.id, "resume", "paused", "working"), NOW)
    alarm = _raise(session, made)
    assert alarm.is_out_of_service
    assert _announced(session) == []
    assert len(session.scalars(select(Order)).all()) == 1
    desk.move(session, order, "finish", actor="system", now=NOW + MINUTE, resolution="Done", reason="–")
    isolation.on_moved(session, OrderMoved(order.id, "finish", "working", "done"), NOW + MINUTE)
    assert _announced(session) == [{"alarm_id": alarm.id, "why": "released"}]
    alarm_orders.on_announced(session, AlarmAnnounced(alarm.id, "released"), NOW + MINUTE)
    assert len(session.scalars(select(Order)).all()) == 2
    alarm_orders.on_announced(session, AlarmAnnounced(alarm.id, "released"), NOW + MINUTE)
    assert len(session.scalars(select(Order)).all()) == 2


def test_ALM_5_any_order_can_be_isolated_by_hand_while_its_work_is_not_over(session: Session, made: World) -> None:
    order = factories.order(session, made.company, made.asset)
    with pytest.raises(Invalid):
        isolation.hold(session, order, "boredom", by="account:1", now=NOW)
    isolation.hold(session, order, "isolation", by="account:1", now=NOW)
    assert _raise(session, made).is_out_of_service
    desk.move(session, order, "cancel", actor="system", now=NOW, reason="Not needed")
    isolation.on_moved(session, OrderMoved(order.id, "cancel", "new", "cancelled"), NOW)
    assert [one["why"] for one in _announced(session)] == ["released"]
    with pytest.raises(Conflict):
        isolation.hold(session, order, "isolation", by="account:1", now=NOW)


def test_a_kind_without_the_setting_holds_nothing(session: Session, made: World) -> None:
    order = factories.order(session, made.company, made.asset, phase="working", started_at=NOW)
    isolation.on_moved(session, OrderMoved(order.id, "start", "on_site", "working"), NOW)
    assert not _raise(session, made).is_held
