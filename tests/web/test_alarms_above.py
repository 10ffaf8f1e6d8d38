"""ALM-11: the sum of customers over JSON holds what its reader may see, and pages."""

from collections.abc import Callable

import httpx
from sqlalchemy.orm import Session, sessionmaker

from kernel import db
from people.models import Customer
from tests import factories
from tests.factories import Company

ADDRESS = "/api/v1/alarms/customers"


def owned(session: Session, company: Company, name: str, where: str, *severities: str) -> None:
    """Write a customer with one machine and its alarms."""
    customer = Customer(name=name, company_id=company.id, unit_id=company.units["company"].id)
    session.add(customer)
    session.flush()
    machine = factories.asset(session, company, where, customer_id=customer.id)
    for severity in severities:
        factories.alarm(session, machine, severity=severity)


def test_ALM_11_customers_are_told_of_as_far_as_their_alarms_are_in_sight(
    client_of: Callable[..., httpx.Client], company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        owned(session, company, "Bakery", "mill", "minor", "major")
        owned(session, company, "Airport", "quarry", "critical")
        owned(session, company, "Calm", "mill")
        other = factories.company(session, "other", "Other Works")
    boss = client_of("dispatcher")
    items = boss.get(ADDRESS).json()["items"]
    told = [(one["name"], one["severity"], one["open_alarms"]) for one in items]
    assert told == [("Airport", "critical", 1), ("Bakery", "major", 2)]
    first = boss.get(ADDRESS, params={"limit": 1}).json()
    second = boss.get(ADDRESS, params={"limit": 1, "cursor": first["next"]}).json()
    assert [one["name"] for one in first["items"] + second["items"]] == ["Airport", "Bakery"]
    assert second["next"] is None
    assert [one["name"] for one in client_of("dispatcher", "mill").get(ADDRESS).json()["items"]] == ["Bakery"]
    assert client_of("administrator", of=other).get(ADDRESS).json()["items"] == []
    assert client_of("storekeeper").get(ADDRESS).status_code == 403
