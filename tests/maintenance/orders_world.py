"""What the tests of orders and dispatch share: the subscriptions at work, and a harbour with people on shift."""

from dataclasses import dataclass
from datetime import date, datetime, time

from sqlalchemy.orm import Session, sessionmaker

from assets.models import Asset
from kernel import courier, db, events
from maintenance.dispatch import assign
from maintenance.orders import alarm_orders, isolation, recovery
from maintenance.orders.events import AlarmOutlasted, OrderMoved, OrderNeedsDispatch, OrderOpened
from people import scope
from people.models import Account
from people.scope import Viewer
from rules.events import AlarmAnnounced, AlarmCleared, AlarmRepeated
from rules.models import Alarm
from tests import factories
from tests.factories import NOW, Company

SUBSCRIPTIONS: events.Subscriptions = {
    AlarmAnnounced: (alarm_orders.on_announced,),
    AlarmRepeated: (alarm_orders.on_repeated,),
    AlarmCleared: (alarm_orders.on_cleared,),
    AlarmOutlasted: (alarm_orders.on_outlasted,),
    OrderMoved: (isolation.on_moved, recovery.on_moved),
    OrderOpened: (assign.on_opened,),
    OrderNeedsDispatch: (assign.on_needs_dispatch,),
}


@dataclass(frozen=True, slots=True)
class World:
    """A company with one technician around the clock, one dispatcher, and a machine at the harbour."""

    company: Company
    asset: Asset
    technician: Account
    dispatcher: Account


def build(session: Session) -> World:
    acme = factories.company(session)
    technician = factories.account(session, acme, "technician", "harbour", name="Li Wei")
    around_the_clock(session, technician)
    return World(
        company=acme,
        asset=factories.asset(session, acme, "harbour", criticality=3),
        technician=technician,
        dispatcher=factories.account(session, acme, "dispatcher", "company"),
    )


def around_the_clock(session: Session, account: Account) -> None:
    every_day = {"weekdays": [0, 1, 2, 3, 4, 5, 6], "starts": time(0), "ends": time(0), "valid_from": date(2026, 1, 1)}
    factories.shift(session, account, **every_day)


def viewer(session: Session, account: Account) -> Viewer:
    return scope.viewer_of(session, session.merge(account))


def deliver(database: sessionmaker[Session], now: datetime = NOW) -> list[str]:
    """Deliver everything that waits; return the errors, which should be none."""
    errors = []
    while True:
        with db.transaction(database) as session:
            taken = events.fan_out(session, SUBSCRIPTIONS, now)
        delivered = 0
        while outcomes := courier.deliver_many(database, SUBSCRIPTIONS, now):
            delivered += len(outcomes)
            errors += [one.error for one in outcomes if one.error is not None]
        if not taken and not delivered:
            return errors


def tell(session: Session, happening: object, alarm: Alarm, now: datetime = NOW) -> None:
    """Emit an alarm event as the rules do."""
    events.emit(session, happening, subject=f"alarm:{alarm.id}", at=now, actor="system", unit_id=alarm.unit_id)
