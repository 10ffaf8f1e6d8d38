"""A dispatcher: a board that moves by itself, why this person, somebody else for a reason, what is done."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import expect

from tests.journeys import plant
from tests.journeys.person import Enter


@pytest.mark.parametrize(("width", "language"), [(1440, "zh"), (360, "en")])
def test_a_dispatcher_sees_an_order_come_gives_it_to_somebody_else_and_verifies_it(
    enter: Enter, office: httpx.Client, width: int, language: str
) -> None:
    machine = plant.machine(office, kind="pump", site="Ningbo Plant")
    title = f"Coupling of {machine.code} rattles"
    me = enter("dispatcher", width=width, language=language)
    assert me.heading() == me.word("Now")
    me.page.evaluate("window.neverLeft = true")

    soon = (datetime.now(UTC) + timedelta(minutes=40)).isoformat()
    order = plant.order(office, machine, title, due_at=soon, priority=2)
    there = me.page.get_by_role("main").get_by_role("link", name=title).first
    expect(there).to_be_visible()
    assert me.page.evaluate("window.neverLeft"), "the board changed by itself, without being loaded again"

    plant.order_of(office, machine)
    there.click()
    assert me.heading() == title
    me.open_up("Why this person?")
    me.sees("Points out of 100.")

    me.link("Reassign").click()
    unfit = me.card("Who does not fit, and why").get_by_role("row").filter(has_text=me.word("All the same …")).first
    name = unfit.get_by_role("cell").first.inner_text().strip().splitlines()[-1]
    unfit.get_by_text(me.word("All the same …")).click()
    me.field("Reason", within=unfit).fill("Knows this pump best")
    me.button("Assign", within=unfit).click()
    expect(me.card("Who").get_by_text(name, exact=True).first).to_be_visible()
    me.reads("Knows this pump best")
    assert office.get(f"/orders/{order['id']}").json()["assignee"]["name"] == name

    plant.step(office, order["id"], "accept", "depart", "arrive", "start")
    plant.step(office, order["id"], "finish", finding="real", resolution="Element replaced")
    me.button("Verify").first.click()
    me.stands_at("Verified")
    assert office.get(f"/orders/{order['id']}").json()["phase"] == "verified"


@pytest.mark.parametrize(("width", "language"), [(360, "zh"), (1440, "en")])
def test_a_dispatcher_opens_an_order_and_cancels_it_with_a_reason(
    enter: Enter, office: httpx.Client, width: int, language: str
) -> None:
    machine = plant.machine(office, kind="chiller")
    me = enter("dispatcher", width=width, language=language)

    me.place("Orders")
    me.link("New order").click()
    me.choose("Asset", machine.code)
    me.field("What is to be done?").fill("Clean the condenser")
    me.button("Open the order").click()
    assert me.heading() == "Clean the condenser"

    me.open_up("Cancel the order")
    me.field("Reason").fill("Opened twice by mistake")
    me.button("Cancel the order").click()
    me.sees("Cancelled")
    me.reads("Opened twice by mistake")
    assert [one["phase"] for one in plant.items(office, "/orders", asset=machine.id)] == ["cancelled"]
