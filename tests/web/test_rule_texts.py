"""Rules as text and many edited at once, on the real application."""

from collections.abc import Callable
from copy import deepcopy
from html import unescape
from typing import Any

import httpx
import pytest
import yaml
from playwright.sync_api import Browser
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from kernel import db
from kernel.models import AuditEntry
from rules.models import AlarmType, RuleOverride, RuleVersion
from tests import factories
from tests.browser import faults
from tests.factories import Company
from tests.web.test_alarms_pages import DEFINITION

ClientOf = Callable[..., httpx.Client]


@pytest.fixture(autouse=True)
def machines(database: sessionmaker[Session], company: Company) -> None:
    with db.transaction(database) as session:
        factories.asset(session, company, "harbour", code="C-1")
        factories.asset(session, company, "quarry", code="C-2")
        factories.team(session, company)
        factories.asset_type(session, company, "blower")


def file_of(*rules: dict[str, Any]) -> str:
    return yaml.safe_dump({"schema": 1, "rules": list(rules)}, sort_keys=False)


def rule(key: str = "hot", **change: Any) -> dict[str, Any]:
    return {"key": key, "name": f"Rule {key}", "asset_type": "compressor", "definition": deepcopy(DEFINITION)} | change


def sent(client: httpx.Client, text: str, where: str = "text", **more: Any) -> httpx.Response:
    return client.post(f"/api/v1/rules/{where}", json={"text": text, **more})


def count(database: sessionmaker[Session], table: Any) -> int:
    with database() as session:
        return int(session.scalar(select(func.count()).select_from(table)) or 0)


def test_RUL_14_200_rules_imported_twice_are_200_and_nothing_is_versioned_anew(
    client: httpx.Client, database: sessionmaker[Session]
) -> None:
    text = file_of(*(rule(f"r-{place:03}") for place in range(200)))
    assert sent(client, text).json()["changed"] == 200
    before = count(database, AuditEntry)
    assert sent(client, text).json()["changed"] == 0
    assert (count(database, AlarmType), count(database, RuleVersion)) == (200, 200)
    assert count(database, AuditEntry) == before
    shown = sent(client, text, "text/preview").json()
    assert (shown["counts"], shown["changes"], shown["is_possible"]) == ({"unchanged": 200}, 0, True)


def test_RUL_14_a_file_ends_every_override_that_it_leaves_out_however_many_there_are(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    assert sent(client, file_of(rule())).json()["changed"] == 1
    with db.transaction(database) as session:
        kind = session.scalars(select(AlarmType)).one()
        for _ in range(501):
            on = factories.asset(session, company)
            patch = {"limits": {"critical": 99.5}}
            session.add(
                RuleOverride(alarm_type_id=kind.id, asset_id=on.id, patch=patch, author="account:1", at=factories.NOW)
            )
    assert sent(client, file_of(rule(overrides=[]))).json()["changed"] == 1
    assert count(database, RuleOverride) == 0


def test_RUL_14_what_is_exported_is_imported_elsewhere_as_it_was(
    client: httpx.Client, client_of: ClientOf, database: sessionmaker[Session]
) -> None:
    full = rule(
        name_zh="过热", enabled=False, latches=True, suppressed_while={"attribute": "mode", "in": ["off", 2]},
        orders=[{"severity": "critical", "does": "order", "priority": 1, "team": "Team"}],
        overrides=[{"asset": "C-2", "limits": {"critical": 99.5}}],
    )  # fmt: skip
    with database() as session:
        from people.models import Team

        full["orders"][0]["team"] = session.scalars(select(Team.name)).one()
    assert sent(client, file_of(full, rule("own", asset="C-1", asset_type=None))).status_code == 200
    text = client.get("/api/v1/rules/text").text
    assert sent(client, text, "text/preview").json()["counts"] == {"unchanged": 2}

    with db.transaction(database) as session:
        other = factories.company(session, "other", "Other")
        factories.asset(session, other, "harbour", code="C-1")
        factories.asset(session, other, "harbour", code="C-2")
        team = factories.team(session, other)
        team.name = full["orders"][0]["team"]
    there = client_of(of=other)
    assert sent(there, text).json()["changed"] == 2
    assert there.get("/api/v1/rules/text").text == text


def test_RUL_14_a_fault_names_line_and_rule_and_nothing_is_changed(
    client: httpx.Client, database: sessionmaker[Session]
) -> None:
    bad = rule("bad")
    bad["definition"] = {"schema": 1, "create": {"major": {"condition": {
        "type": "compare", "metric": "colour", "operator": ">", "limit": 1}}}}  # fmt: skip
    text = file_of(rule("good"), bad, rule("lost", asset_type="spaceship"), rule("good"))
    shown = sent(client, text, "text/preview").json()
    lines = text.splitlines()
    found = {(one["rule"], lines[one["line"] - 1].strip(), one["field"]) for one in shown["faults"]}
    assert ("bad", "metric: colour", "definition.create.major.condition.metric") in found
    assert ("lost", "asset_type: spaceship", "asset_type") in found
    assert [one["what"] for one in shown["rules"]] == ["conflict", "refused", "refused", "conflict"]
    assert sent(client, text).status_code == 422
    assert count(database, AlarmType) == 0


@pytest.mark.parametrize("text", ["a: [", "- 1", "schema: 1\nrules: &a []\n", "rules: []", "schema: 1\nrules: [1]"])
def test_what_is_no_file_of_rules_is_refused_with_its_line(client: httpx.Client, text: str) -> None:
    assert sent(client, text).status_code == 422
    assert sent(client, text, "text/preview").json()["faults"][0]["line"]


def test_RUL_14_the_pages_show_what_would_change_before_it_is_done(
    client: httpx.Client, database: sessionmaker[Session]
) -> None:
    assert sent(client, file_of(rule())).status_code == 200
    warmer = client.get("/api/v1/rules/text").text.replace("95.0", "97.5")
    page = client.post("/rules/text", files={"file": ("rules.yaml", warmer)})
    assert page.status_code == 200
    assert "<del>95.0</del> → <ins>97.5</ins>" in page.text
    seen = sent(client, warmer, "text/preview").json()["seen"]
    assert seen in page.text
    assert count(database, RuleVersion) == 1
    # Somebody else switched it off meanwhile: that is shown before anything is done.
    rule_id = client.get("/api/v1/rules").json()["items"][0]["id"]
    client.patch(f"/api/v1/rules/{rule_id}", json={"is_enabled": False})
    assert client.post("/rules/text/apply", data={"text": warmer, "seen": seen}).status_code == 422
    seen = sent(client, warmer, "text/preview").json()["seen"]
    done = client.post("/rules/text/apply", data={"text": warmer.replace("\n", "\r\n"), "seen": seen})
    assert done.status_code == 303
    assert count(database, RuleVersion) == 2


def test_RUL_14_many_rules_are_edited_at_once_with_one_audit_entry_each(
    client: httpx.Client, database: sessionmaker[Session]
) -> None:
    sent(client, file_of(*(rule(f"r-{place}") for place in range(3))))
    ids = [one["id"] for one in client.get("/api/v1/rules").json()["items"]]

    def edit(**change: Any) -> list[dict[str, Any]]:
        body = {"rules": ids[:2], "change": change}
        before = count(database, AuditEntry)
        shown = client.post("/api/v1/rules/bulk/preview", json=body)
        assert shown.json()["changes"] == 2, shown.text
        assert client.post("/api/v1/rules/bulk", json=body | {"seen": shown.json()["seen"]}).json()["changed"] == 2
        assert count(database, AuditEntry) - before == 2
        return list(client.get("/api/v1/rules").json()["items"])

    limits = [one["definition"]["create"]["critical"]["condition"]["limit"] for one in edit(factor=1.1, offset=0.5)]
    assert limits == [105.0, 105.0, 95.0]
    kinds = [one["definition"]["create"]["critical"].get("kind") for one in edit(on_delay_s=30)]
    assert kinds == [{"type": "duration", "seconds": seconds} for seconds in (30.0, 30.0, 60.0)]
    assert [one["is_enabled"] for one in edit(enabled=False)] == [False, False, True]
    assert [one["order_from"] for one in edit(order_from="none")][:2] == [None, None]
    edit(schedule={"type": "weekly", "windows": [{"start": "08:00", "end": "16:00"}]})
    edit(order_from="critical")
    edit(priority=2)
    copied = client.post("/api/v1/rules/bulk", json={"rules": ids[:2], "change": {"copy_to": "blower"}})
    assert copied.json()["changed"] == 2, copied.text
    assert [one["key"] for one in client.get("/api/v1/rules").json()["items"]][1] == "r-0@blower"
    again = client.post("/api/v1/rules/bulk", json={"rules": ids[:2], "change": {"copy_to": "blower"}})
    assert again.json()["changed"] == 0


def test_RUL_14_an_edit_on_the_page_is_shown_then_done(client: httpx.Client) -> None:
    sent(client, file_of(rule()))
    rule_id = client.get("/api/v1/rules").json()["items"][0]["id"]
    assert f'value="{rule_id}" form="chosen"' in client.get("/rules").text
    assert client.post("/rules/bulk", data={"rule": rule_id, "do": "edit"}).status_code == 200
    assert client.post("/rules/bulk", data={"rule": rule_id, "do": "text"}).text.startswith(
        "schema: 1\nrules:\n- key: hot"
    )
    assert client.post("/rules/bulk", data={"rule": rule_id}).status_code == 422
    form = {"rule": rule_id, "offset": "2,5"}
    shown = client.post("/rules/bulk", data=form)
    assert "<ins>97.5</ins>" in unescape(shown.text)
    seen = client.post("/api/v1/rules/bulk/preview", json={"rules": [rule_id], "change": {"offset": 2.5}}).json()[
        "seen"
    ]
    assert client.post("/rules/bulk/apply", data=form | {"seen": seen}).status_code == 303
    stale = client.post("/rules/bulk/apply", data=form | {"seen": seen})
    assert stale.status_code == 422


def test_RUL_14_nobody_changes_rules_of_units_above_by_a_file(client: httpx.Client, client_of: ClientOf) -> None:
    sent(client, file_of(rule()))
    planner = client_of("planner", "harbour")
    text = file_of(rule(name="Mine now"), rule("new"))
    shown = sent(planner, text, "text/preview").json()
    assert [one["what"] for one in shown["rules"]] == ["conflict", "refused"]
    assert sent(planner, text).status_code == 422
    ours = file_of(rule("ours", unit="North / Harbour"))
    assert sent(planner, ours).status_code == 200, shown


@pytest.mark.parametrize(("lang", "width"), [("en", 1440), ("zh", 360)])
def test_the_pages_are_accessible_and_fit_their_window(
    client: httpx.Client, address: str, browser: Browser, lang: str, width: int
) -> None:
    sent(client, file_of(rule(name="Discharge temperature", name_zh="排气温度"), rule("cold", name="Oil too cold")))
    context = browser.new_context(viewport={"width": width, "height": 900})
    cookies = [{"name": name, "value": value, "url": address} for name, value in client.cookies.items()]
    context.add_cookies([*cookies, {"name": "lang", "value": lang, "url": address}])
    page = context.new_page()

    def judged(name: str) -> None:
        assert faults(page) == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name

    page.goto(f"{address}/rules")
    page.locator("input[name=rule]").first.check()
    judged("list")
    page.locator("button[value=edit]").click()
    judged("bulk")
    page.fill("#f-offset", "2.5")
    page.locator("form[action='/rules/bulk'] button.btn-primary").click()
    page.wait_for_selector("ins:visible")
    judged("plan")
    page.goto(f"{address}/rules/text")
    judged("text")
    page.fill("#f-text", file_of(rule("hot", asset_type="spaceship"), rule("new")))
    page.locator("form[action='/rules/text'] button.btn-primary").click()
    page.wait_for_selector("#faults")
    judged("faults")
    context.close()
