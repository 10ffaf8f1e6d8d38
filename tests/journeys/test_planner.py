"""A planner: the calendar, a weekly round with a checklist, its first order at once, and the technician who does it."""

import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import Locator, expect

from tests.journeys import plant
from tests.journeys.person import Enter

OIL = {"en": "Oil level within marks", "zh": "油位在刻度内"}
NOISE = {"en": "No unusual noise", "zh": "无异常声响"}
OUTLET = {"en": "Outlet temperature", "zh": "排气温度"}
FILTER = {"en": "Intake filter", "zh": "进气滤芯"}
DRAIN = {"en": "Condensate drain works", "zh": "冷凝水排放正常"}


@pytest.mark.parametrize(("width", "language"), [(1440, "en"), (360, "zh")])
def test_a_planner_makes_a_weekly_round_and_a_technician_answers_its_checklist(
    enter: Enter, office: httpx.Client, width: int, language: str
) -> None:
    machine = plant.machine(office)
    begins = {1440: "12:30", 360: "13:30"}[width]  # The technician on day shift is free then.
    planner = enter("planner", width=width, language=language)

    planner.place("Plan")
    calendar = planner.page.get_by_role("region", name=planner.word("What is coming"))
    expect(calendar.get_by_role("button", name=planner.word("Today"))).to_be_visible()
    planner.link("New plan").click()
    planner.choose("Asset", machine.code)
    planner.field("Name").fill(f"Weekly round {machine.code}")
    planner.field("Name in Chinese").fill(f"周点检 {machine.code}")
    planner.field("Comes every").fill("1")
    planner.choose("Unit of time", planner.word("weeks"))
    planner.field("First date").fill((datetime.now(UTC) + timedelta(days=1)).date().isoformat())
    planner.field("At (time at the site)").fill(begins)
    planner.choose("Checklist", {"en": "Compressor weekly round", "zh": "空压机周点检"}[language])
    planner.field("Expected time").fill("30")
    planner.button("Save").click()

    name = {"en": "Weekly round", "zh": "周点检"}[language] + f" {machine.code}"
    assert planner.heading() == name
    planner.sees("Next dates")
    expect(planner.page.get_by_text(begins).first).to_be_visible()
    expect(planner.card("What it made").get_by_role("link", name=re.compile("^WO-"))).to_be_visible()
    order = plant.order_of(office, machine, origin="plan")
    planner.place("Plan")
    if width > 600:
        planner.button("List", within=calendar).click()
    expect(calendar.get_by_text(name).first).to_be_visible()
    expect(calendar.get_by_text(begins).first).to_be_visible()

    technician = enter(order["assignee"]["username"], width=360, language=language)
    plant.step(office, order["id"], "accept", "depart", "arrive", "start")
    technician.go(f"/jobs/{order['id']}")
    checks = technician.page.get_by_role("region")

    def item(names: dict[str, str]) -> Locator:
        return checks.and_(technician.page.get_by_role("region", name=names[language], exact=True))

    for one in (OIL, NOISE, DRAIN):
        technician.button("Yes", within=item(one)).click()
        expect(item(one).get_by_text(technician.word("OK"), exact=True)).to_be_visible()
    item(OUTLET).get_by_role("textbox").fill("97")
    technician.button("Save", within=item(OUTLET)).click()
    expect(item(OUTLET).get_by_text(technician.word("Not OK"), exact=True)).to_be_visible()
    item(FILTER).get_by_role("button", name={"en": "dusty", "zh": "积尘"}[language]).click()
    expect(item(FILTER).get_by_text(technician.word("Remark"), exact=True)).to_be_visible()
    technician.sees("{n} of {all} answered", n=5, all=5)
