"""What alarms ask for, as pages and as JSON, on the real application."""

from collections.abc import Callable
from html import unescape

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from kernel import db
from kernel.models import AuditEntry
from maintenance.orders.policy_tables import OrderPolicyLine
from rules.models import SEVERITIES
from tests import factories
from tests.factories import Company

ClientOf = Callable[..., httpx.Client]


@pytest.fixture
def rule(database: sessionmaker[Session], company: Company) -> int:
    with db.transaction(database) as session:
        return factories.alarm_type(session, company, "company").id


def table(**columns: list[str]) -> dict[str, list[str]]:
    """Return what the form sends: a row each severity and two for some assets, empty but for the columns given."""
    rows = len(SEVERITIES) + 2
    names = ("does", "delay", "priority", "team", "checklist", "site", "criticality")
    sent = {name: columns.get(name, []) + [""] * (rows - len(columns.get(name, []))) for name in names}
    return sent | {"severity": [*SEVERITIES, *columns.get("severity", ["", ""])]}


def test_IN_1_a_planner_writes_the_table_and_the_rule_tells_it(
    client: httpx.Client, rule: int, database: sessionmaker[Session], company: Company
) -> None:
    with db.transaction(database) as session:
        team = factories.team(session, company)
    site = company.sites["harbour"]
    sent = table(
        does=["order", "request", "", "", "", "none"],
        delay=["", "10"],
        team=[str(team.id)],
        severity=["critical", ""],
        site=["", "", "", "", "", str(site.id)],
    )
    saved = client.post(f"/rules/{rule}/orders", data=sent)
    assert saved.status_code == 303, saved.text
    page = unescape(client.get(f"/rules/{rule}").text)
    assert "Fault report if it lasts 10 min" in page
    assert team.name in page
    assert site.name in page
    assert "as delivered" in page, "what has no line does as everywhere"
    told = client.get(f"/api/v1/rules/{rule}/order-policy").json()
    assert [(one["severity"], one["does"], one["delay_s"]) for one in told["lines"]] == [
        ("critical", "order", 0), ("critical", "none", 0), ("major", "request", 600),
    ]  # fmt: skip
    assert {one["severity"]: one["level"] for one in told["in_force"]}["minor"] == "delivered"
    form = client.get(f"/rules/{rule}/orders").text
    assert 'value="10"' in form
    with database() as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "order_policy.save")).one()
        assert entry.after is not None
        assert len(entry.after["lines"]) == 3


def test_IN_1_the_company_says_what_rules_and_codes_ask_for_where_nothing_else_is_said(
    client: httpx.Client, rule: int
) -> None:
    lines = [{"severity": "critical", "does": "order", "delay_s": 300}]
    assert client.put("/api/v1/order-policy?source=device", json={"lines": lines}).status_code == 200
    sent = table(does=["order", "order", "order"]) | {"source": ["rule"]}
    assert client.post("/rules/orders", data=sent).status_code == 303
    assert 'value="5"' in client.get("/rules/orders?source=device").text
    assert client.get(f"/api/v1/rules/{rule}").json()["order_from"] == "minor"
    assert client.get("/api/v1/rules").json()["items"][0]["order_from"] == "minor"
    assert client.patch(f"/api/v1/rules/{rule}", json={"order_from": "critical"}).json()["order_from"] == "critical"


def test_a_table_that_cannot_be_meant_comes_back_as_it_was_typed(client: httpx.Client, rule: int) -> None:
    twice = table(does=["order", "", "", "", "", "none", "order"], severity=["major", "major"], delay=["abc"])
    refused = client.post(f"/rules/{rule}/orders", data=twice)
    assert refused.status_code == 422
    assert 'value="abc"' in refused.text
    twice = table(does=["order", "", "", "", "", "none", "order"], severity=["major", "major"], criticality=[""] * 5)
    assert client.post(f"/rules/{rule}/orders", data=twice).status_code == 422
    unknown = {"lines": [{"severity": "major", "does": "order", "team_id": 10_000}]}
    said = client.put(f"/api/v1/rules/{rule}/order-policy", json=unknown)
    assert (said.status_code, said.json()["errors"][0]["field"]) == (422, "team_id")


def test_the_companys_table_is_read_on_every_site_and_changed_only_from_above(
    client_of: ClientOf, rule: int, database: sessionmaker[Session]
) -> None:
    planner = client_of("planner", "harbour")
    assert planner.get("/rules/orders").status_code == 200
    assert planner.post("/rules/orders", data=table(does=["none"])).status_code == 403
    assert planner.post(f"/rules/{rule}/orders", data=table(does=["none"])).status_code == 403
    assert planner.put("/api/v1/order-policy", json={"lines": []}).status_code == 403
    with database() as session:
        assert session.scalars(select(OrderPolicyLine)).all() == []


def test_ALM_10_how_long_a_signal_must_stay_normal_is_set_where_the_orders_are(client: httpx.Client, rule: int) -> None:
    assert client.post("/rules/orders", data=table() | {"quiet": ["5"], "rework_days": ["30"]}).status_code == 303
    assert client.get("/api/v1/order-policy/recovery").json() == {"quiet_s": 300, "rework_days": 30}
    assert "must stay normal for 5 min" in client.get(f"/rules/{rule}").text
    assert client.post(f"/rules/{rule}/orders", data=table() | {"quiet": ["1,5"]}).status_code == 303
    assert client.get(f"/api/v1/rules/{rule}/order-policy/recovery").json() == {"quiet_s": 90}
    assert client.put(f"/api/v1/rules/{rule}/order-policy/recovery", json={"quiet_s": 0}).status_code == 200
    assert client.put("/api/v1/order-policy/recovery", json={"rework_days": -1}).status_code == 422
    refused = client.post("/rules/orders", data=table() | {"quiet": ["long"], "rework_days": ["30"]})
    assert refused.status_code == 422
    assert 'value="long"' in refused.text
