"""The factories stand on the real tables: each makes a row the database accepts."""

from sqlalchemy.orm import Session

from people import scope
from tests import factories


def test_every_factory_makes_a_row_the_database_accepts(session: Session) -> None:
    acme = factories.company(session)
    technician = factories.account(session, acme, "technician", "mill")
    pump = factories.asset(session, acme, "mill", location_id=factories.location(session, acme, "mill").id)
    device = factories.device(session, acme, "mill", on=pump)
    order = factories.order(session, acme, pump, customer_id=factories.customer(session, acme, "mill").id)
    stock = factories.stock(session, factories.part(session, acme), factories.place(session, acme, "mill"))
    factories.reservation(session, stock, order, 2)
    factories.entry(session, order)
    factories.request(session, pump)
    factories.alarm(session, pump, alarm_type_id=factories.alarm_type(session, acme, "mill").id)
    factories.occurrence(session, factories.plan(session, acme, pump), order_id=order.id)
    factories.checklist(session, acme, "mill")
    factories.tag(session, acme, "mill", on=pump)
    factories.file(session, acme)
    factories.team(session, acme, "mill", (technician,))
    factories.skilled(session, technician, factories.skill(session, acme))
    factories.shift(session, technician)
    factories.token(session, technician, now=factories.NOW)

    assert pump.path == f"/{pump.id}/"
    assert device.bindings[0].asset is pump
    assert stock.on_hand == 10
    assert stock.committed == 2
    assert acme.units["mill"].path == f"/{acme.id}/{acme.units['north'].id}/{acme.units['mill'].id}/"
    assert scope.viewer_of(session, technician).reach["orders.work"] == (acme.units["mill"].path,)


def test_two_companies_stand_beside_each_other(session: Session) -> None:
    acme, other = factories.company(session), factories.company(session, "other", "Other Works")

    assert acme.id != other.id
    assert factories.account(session, acme) is factories.account(session, acme)
    assert factories.account(session, acme) is not factories.account(session, other)
