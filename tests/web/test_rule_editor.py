"""The rule editor: what a draft says and would have done, and conditions that a person builds by hand in a browser."""

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, expect
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.runtime import Runtime
from assets.models import Asset
from kernel import clock, db
from rules import library
from rules.models import AlarmType
from telemetry.models import Series
from telemetry.readings import Readings
from tests import factories
from tests.factories import Company
from tests.waiting import until

MINUTE_MS = 60_000


@pytest.fixture
def pump(database: sessionmaker[Session], company: Company, runtime: Runtime) -> Asset:
    """Return a compressor that was above 80 °C twice within the last day, a quarter of an hour each."""
    with db.transaction(database) as session:
        asset = factories.asset(session, company, "harbour", code="C-1", name="Compressor one")
        factories.asset(session, company, "harbour", code="C-2", name="Compressor two")
        device = factories.device(session, company, "harbour", on=asset)
        query = select(Series.id).where(Series.device_id == device.id, Series.metric == "temperature")
        [series] = session.scalars(query)
    end_ms = clock.now_ms()
    ts_ms = np.arange(end_ms - 1440 * MINUTE_MS, end_ms, MINUTE_MS, dtype=np.int64)
    value = np.full(len(ts_ms), 60.0)
    value[300:315] = value[900:915] = 85.0
    runtime.store.write(Readings.of([series] * len(ts_ms), ts_ms, value))
    return asset


def definition(limit: float = 80.0) -> str:
    compare = f'{{"type": "compare", "metric": "temperature", "operator": ">=", "limit": {limit}}}'
    return f'{{"schema": 1, "create": {{"major": {{"condition": {compare}}}}}, "clear": {{"type": "automatic"}}}}'


def tried(client: httpx.Client, **form: Any) -> str:
    answer = client.post("/rules/try", data=form)
    assert answer.status_code == 200
    return answer.text


def test_a_draft_is_said_and_tried_on_a_real_machine(client: httpx.Client, pump: Asset) -> None:
    said = tried(client, type=pump.type_id, text=definition(), order_from="major")
    assert "Temperature ≥ 80 °C" in said
    assert "Compressor one" in said
    assert "<dt>Alarms</dt><dd>2</dd>" in said
    assert "about 4 alarms and 2 orders a week" in said or "about 4 alarms and 4 orders a week" in said
    assert '"from"' in said
    quiet = tried(client, type=pump.type_id, text=definition(90), on="C-1")
    assert "stayed silent" in quiet
    assert "sent nothing" in tried(client, type=pump.type_id, text=definition(), on="C-2")
    assert "Choose what the rule is for" in tried(client, text=definition())


def test_what_is_wrong_with_a_draft_is_said_with_its_place(client: httpx.Client, pump: Asset) -> None:
    said = tried(client, type=pump.type_id, text=definition().replace("temperature", "humidity"))
    assert "There is no numeric metric humidity" in said
    assert "create.major.condition.metric" in said
    assert "cannot be saved" in tried(client, type=pump.type_id, text="{")
    assert "cannot be saved" in tried(client, type=pump.type_id, text='{"schema": 1, "create": {}}')


def test_no_machine_from_elsewhere_is_tried_on(client_of: Any, pump: Asset) -> None:
    there = client_of("planner", "quarry")
    said = there.post("/rules/try", data={"type": pump.type_id, "text": definition()})
    assert said.status_code in {200, 403}
    assert "Compressor one" not in said.text


@pytest.fixture
def page(browser: Browser, client: httpx.Client, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, locale="en")
    context.add_cookies([{"name": name, "value": value, "url": address} for name, value in client.cookies.items()])
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def test_a_rule_of_two_conditions_is_built_by_hand_seen_and_saved(
    page: Page, address: str, pump: Asset, database: sessionmaker[Session]
) -> None:
    page.goto(f"{address}/rules/new?type={pump.type_id}")
    page.get_by_label("Name", exact=False).first.fill("Hot while running")
    page.get_by_label("Key").fill("hot-running")
    page.get_by_label("Metric").first.select_option("temperature")
    page.get_by_label("Limit", exact=True).fill("80")
    page.get_by_role("button", name="and …").click()
    second = page.locator("[data-ask$='of.1']")
    second.get_by_label("Metric").select_option("temperature")
    second.get_by_label("what of it is looked at").select_option("avg")
    second.get_by_label("Limit", exact=True).fill("70")
    page.get_by_role("combobox", name="how long or how often", exact=True).select_option("duration")
    said = page.locator("#rule-trial")
    expect(said).to_contain_text("Temperature ≥ 80 °C and mean of Temperature over 10 min ≥ 70 °C for 1 min")
    expect(said).to_contain_text("Tried on the last 7 days of")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/rules/*")
    with database() as session:
        [kind] = session.scalars(select(AlarmType).where(AlarmType.key == "hot-running"))
        stored = library.in_force(session, kind).definition
    condition = stored["create"]["major"]["condition"]
    assert [one["limit"] for one in condition["of"]] == [80, 70]
    assert stored["create"]["major"]["kind"] == {"type": "duration", "seconds": 60}


def test_no_form_is_offered_that_the_editor_would_empty(
    browser: Browser, client: httpx.Client, address: str, pump: Asset
) -> None:
    context = browser.new_context(locale="en")
    context.add_cookies([{"name": name, "value": value, "url": address} for name, value in client.cookies.items()])
    page = context.new_page()
    on_its_way: list[Route] = []

    def hold(route: Route) -> None:
        on_its_way.append(route)

    page.route("**/rule-editor*.js*", hold)
    with page.expect_request("**/rule-editor*.js*"):
        page.goto(f"{address}/rules/new?type={pump.type_id}", wait_until="domcontentloaded")
    plain = page.locator(".fw-rule-plain select[name=metric]")
    expect(plain).to_be_attached()
    expect(plain).to_be_hidden()
    on_its_way[0].abort()
    expect(plain).to_be_visible()
    context.close()


def test_what_the_editor_does_not_know_is_left_as_it_is(
    page: Page, address: str, client: httpx.Client, pump: Asset
) -> None:
    inner = '{"type": "not", "of": {"type": "compare", "metric": "temperature", "operator": ">=", "limit": 80.0}}'
    stored = f'{{"schema": 1, "create": {{"major": {{"condition": {inner}}}}}}}'
    made = client.post(
        "/api/v1/rules",
        json={
            "key": "odd",
            "name": "Odd",
            "asset_type_id": pump.type_id,
            "definition": httpx.Response(200, text=stored).json(),
        },
    )
    number = made.json()["id"]
    page.goto(f"{address}/rules/{number}/edit")
    expect(page.locator("#rule-trial")).to_contain_text("not (Temperature ≥ 80 °C)")
    page.get_by_label("Message").fill("odd")
    page.get_by_role("button", name="Save as a new version").click()
    page.wait_for_url(f"**/rules/{number}")
    until(lambda: client.get(f"/api/v1/rules/{number}").json()["version"] == 2, what="the new version")
    after = client.get(f"/api/v1/rules/{number}/versions").json()["items"][0]["definition"]
    assert after["create"]["major"]["condition"]["type"] == "not"
    assert after["message"] == "odd"


def test_times_silence_attributes_and_expressions_are_built_by_hand(
    page: Page, address: str, pump: Asset, database: sessionmaker[Session]
) -> None:
    page.goto(f"{address}/rules/new?type={pump.type_id}")
    page.get_by_label("Name", exact=False).first.fill("Everything")
    page.get_by_label("Key").fill("everything")
    page.get_by_label("Metric").first.select_option("temperature")
    page.get_by_label("Limit: where the number comes from").select_option("attribute")
    page.locator("[data-place$='limit.attribute']").fill("max_temperature")
    page.locator("[data-place$='limit.default']").fill("80")
    page.get_by_role("button", name="or …").click()
    page.locator("[data-place$='of.1.operator']").select_option("no_data")
    page.get_by_role("button", name="+ expression").click()
    page.get_by_label("Expression").fill("temperature - pressure > 70.0")
    page.get_by_role("button", name="+ only at certain times").click()
    page.locator("[data-place='clear.type']").select_option("quiet")
    said = page.locator("#rule-trial")
    expect(said).to_contain_text("max_temperature")
    expect(said).to_contain_text("temperature - pressure > 70")
    expect(said.locator(".fw-problems")).to_have_count(0)
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/rules/*")
    with database() as session:
        [kind] = session.scalars(select(AlarmType).where(AlarmType.key == "everything"))
        stored = library.in_force(session, kind).definition
    rule = stored["create"]["major"]
    assert [one["type"] for one in rule["condition"]["of"]] == ["compare", "no_data", "expression"]
    assert rule["schedule"]["windows"] == [{"start": "08:00", "end": "18:00", "days": [1, 2, 3, 4, 5]}]
    assert stored["clear"] == {"type": "quiet", "seconds": 600}
    page.goto(f"{address}/rules/{kind.id}/edit")
    expect(page.get_by_label("Expression")).to_have_value("temperature - pressure > 70.0")


def test_RUL_10_numbers_from_attributes_and_other_metrics_are_chosen_by_hand(
    page: Page, address: str, pump: Asset, database: sessionmaker[Session]
) -> None:
    page.goto(f"{address}/rules/new?type={pump.type_id}")
    page.get_by_label("Name", exact=False).first.fill("Off its setpoint")
    page.get_by_label("Key").fill("off-setpoint")
    page.get_by_label("Metric").first.select_option("temperature")
    page.locator("[data-place$='condition.operator']").select_option("between")
    for place, kind, filled in (
        ("condition.low", "other_metric", {"metric": "pressure", "plus": "-2"}),
        ("condition.high", "attribute", {"attribute": "t_max", "default": "90"}),
        ("condition.deadband", "attribute", {"attribute": "t_band", "default": "1"}),
        ("clear.off_delay_s", "attribute", {"attribute": "t_calm", "default": "30"}),
    ):
        page.locator(f"[data-place$='{place}.mode']").select_option(kind)
        for field, value in filled.items():
            box = page.locator(f"[data-place$='{place}.{field}']")
            box.select_option(value) if field == "metric" else box.fill(value)
    page.get_by_role("combobox", name="how long or how often", exact=True).select_option("duration")
    page.locator("[data-place$='kind.seconds.mode']").select_option("attribute")
    page.locator("[data-place$='kind.seconds.attribute']").fill("t_delay")
    said = page.locator("#rule-trial")
    expect(said).to_contain_text("with a deadband of t_band (otherwise 1 °C) for t_delay (otherwise 1 min)")
    expect(said.locator(".fw-problems")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/rules/*")
    with database() as session:
        [kind_] = session.scalars(select(AlarmType).where(AlarmType.key == "off-setpoint"))
        stored = library.in_force(session, kind_).definition
    condition = stored["create"]["major"]["condition"]
    assert condition["low"] == {"metric": "pressure", "plus": -2}
    assert condition["deadband"] == {"attribute": "t_band", "default": 1}
    assert stored["clear"] == {"type": "automatic", "off_delay_s": {"attribute": "t_calm", "default": 30}}
