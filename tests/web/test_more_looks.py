"""Pages with data on them that no other module looks at: accessible, and within their window, desk and phone."""

from datetime import timedelta

import httpx
import pytest
from playwright.sync_api import Browser
from sqlalchemy.orm import Session, sessionmaker

from assets.keeping_tables import Export
from kernel import clock, db
from people.models import Account
from rules import actions
from rules.actions import ActionDraft
from tests import factories
from tests.browser import faults, visit
from tests.factories import Company
from tests.web import test_alarm_runs

alarm = test_alarm_runs.alarm
"""An alarm that set off three actions, of which one failed."""


@pytest.fixture
def pages(
    alarm: int,
    client: httpx.Client,
    company: Company,
    database: sessionmaker[Session],
) -> list[str]:
    """The addresses of pages that show an export, a hold, commands, wanted settings, actions and handling."""
    now = clock.now()
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "harbour", code="C-17", name="Screw compressor 3")
        here = {"connection": "online", "is_online": True, "online_changed_at": now}
        device = factories.device(session, company, "harbour", on=machine, key="line-4-press-controller-07", **here).id
        rule = factories.alarm_type(session, company)
        for draft in (
            ActionDraft("message", {"role": "dispatcher"}, severity="major"),
            ActionDraft("webhook", {"url": f"https://maintenance.example.com/hooks/{'long-' * 12}path"}, "clear"),
            ActionDraft("command", {"method": "slow_down", "params": {"percent": 50}, "device_id": device}),
            ActionDraft("attribute", {"name": "tripped", "value": True}),
        ):
            actions.add(session, actions.of_rule(rule), draft, actor="account:1", now=now)
        whose = session.query(Account).filter_by(username="administrator.company.acme").one().id
        wanted = {"format": "csv", "assets": [machine.id], "start_ms": 0, "end_ms": 1, "zone": "UTC", "metrics": []}
        for state, trouble in (("failed", "There is no room on the disk."), ("done", None)):
            session.add(
                Export(
                    company_id=company.id, account_id=whose, actor=f"account:{whose}", state=state, trouble=trouble,
                    wanted=wanted, file_name="readings-compressor-hall-2026-11.csv", rows=120_000, size=4_200_000,
                    percent=100, asked_at=now - timedelta(minutes=5), ended_at=now, expires_at=now + timedelta(days=7),
                )
            )  # fmt: skip
        session.flush()
        export = session.query(Export).filter_by(state="failed").one().id
        asset, kind, rule_id = machine.id, machine.type_id, rule.id
    code = client.post("/api/v1/codes", json={"code": "E42", "name": "Motor overload", "name_zh": "电机过载"}).json()[
        "id"
    ]
    for role in ("dispatcher", "technician"):
        client.post(f"/codes/{code}/actions", data={"kind": "message", "role": role})
    client.post(f"/devices/{device}/commands", data={"method": "restart", "params": "", "how": "kept"})
    client.put(f"/api/v1/devices/{device}/desired", json={"settings": {"interval_s": 5, "mode": "quiet"}})
    client.post(f"/assets/{asset}/keeping", data={"reason": "Insurance claim 17 of November"})
    client.post(f"/rules/{rule_id}/handling", data={"latches": "1", "attribute": "state", "values": "stopped, 3"})
    return [
        "/exports", f"/exports?asset={asset}", f"/exports/{export}", f"/assets/{asset}/keeping", f"/types/{kind}",
        f"/devices/{device}", f"/devices/{device}/commands", "/rules/orders", f"/rules/{rule_id}/orders",
        *(f"/rules/{rule_id}/actions?kind={one}" for one in ("webhook", "command")), f"/rules/{rule_id}/handling",
        f"/codes/{code}", f"/codes/{code}/actions", f"/alarms/{alarm}", "/deliveries",
    ]  # fmt: skip


def test_pages_with_data_are_accessible_and_fit_their_window(
    pages: list[str], client: httpx.Client, address: str, browser: Browser
) -> None:
    found: list[str] = []
    with visit(browser):
        for language, width in (("en", 1440), ("zh", 360)):
            context = browser.new_context(viewport={"width": width, "height": 900})
            cookies = [{"name": name, "value": value, "url": address} for name, value in client.cookies.items()]
            context.add_cookies([*cookies, {"name": "lang", "value": language, "url": address}])
            page = context.new_page()
            for path in pages:
                answer = page.goto(address + path)
                assert answer is not None, path
                assert answer.ok, path
                found += [f"{language} {path}: {fault}" for fault in faults(page)]
                if page.evaluate("document.documentElement.scrollWidth") > width:
                    found.append(f"{language} {path}: wider than {width}")
    assert found == []
