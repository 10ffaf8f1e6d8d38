"""A technician: My day on the phone, an order that an alarm opened, the way there, the work, a part, the end."""

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.journeys import plant
from tests.journeys.person import Enter, Person
from tests.running import Product


def on_hand(person: Person, part: str) -> float:
    """Read how much of a part there is, on its page, as a technician finds it."""
    person.place("Parts")
    person.field("Search").fill(part)
    person.field("Search").press("Enter")
    person.page.get_by_role("link", name=re.compile("SPA-1250")).first.click()
    row = person.card("Where it lies").get_by_role("row").filter(has_text="WH-SU")
    return float(re.sub(r"[^\d.]", "", row.get_by_role("cell").nth(1).inner_text()))


@pytest.mark.parametrize(("width", "language"), [(360, "zh"), (1440, "en")])
def test_a_technician_carries_the_order_of_an_alarm_to_its_end(
    product: Product, enter: Enter, office: httpx.Client, photos: list[Path], width: int, language: str
) -> None:
    machine = plant.machine(office)
    controller = plant.Controller.on(product, office, machine)
    controller.overheat()
    order = plant.order_of(office, machine, origin="alarm")

    me = enter(order["assignee"]["username"], width=width, language=language)
    before = on_hand(me, "BLT-001")

    me.go("/my")
    assert me.heading() == me.word("My day")
    day = me.page.get_by_role("main")
    mine = day.locator("section, a").filter(has_text=machine.called(language)).filter(visible=True).first
    (mine if mine.get_attribute("href") else mine.get_by_role("link").first).click()
    me.reads(order["number"])
    for press, after in (
        ("Accept the order", "Accepted"),
        ("Set off", "On the way"),
        ("I am there", "On site"),
        ("Start work", "Working"),
    ):
        me.button(press).filter(visible=True).first.click()
        me.sees(after)

    me.choose("Part", "BLT-001 · WH-SU")
    me.field("Quantity").fill("2")
    me.button("Use").first.click()
    expect(me.card("Parts").get_by_role("link", name=re.compile("SPA-1250"))).to_be_visible()

    me.field("Note for colleagues").fill("Belt was worn through, tension set to 80 N")
    me.button("Add note").click()
    me.reads("Belt was worn through")
    me.attach("Photos", photos[:1])
    me.button("Send photos").click()
    expect(me.page.get_by_role("img", name=me.word("Photo"))).to_have_count(1)

    controller.cool_down()
    controller.leave()
    expect(me.field("Why is it finished although the alarm is active?")).to_have_count(0)
    me.sees("back to normal")
    me.tile("The fault was real").click()
    me.field("What was done?").fill("V-belt replaced")
    me.button("Finish").filter(visible=True).first.click()

    me.page.wait_for_url("**/my")
    finished = office.get(f"/orders/{order['id']}").json()
    assert (finished["phase"], finished["finding"], finished["resolution"]) == ("done", "real", "V-belt replaced")
    assert on_hand(me, "BLT-001") == before - 2
