"""A customer: scans a label, reports a fault, follows the repair, accepts and rates it. No account anywhere."""

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.journeys import plant
from tests.journeys.person import Enter


@pytest.mark.parametrize(("width", "language"), [(360, "zh"), (1440, "en")])
def test_CP_4_a_customer_reports_follows_accepts_and_rates_once(
    enter: Enter, office: httpx.Client, photos: list[Path], width: int, language: str
) -> None:
    machine = plant.machine(office, kind="moulding")
    customer = enter(width=width, language=language)

    customer.go(plant.label(office, machine))
    assert customer.heading() == machine.called(language)
    customer.tile("It leaks").click()
    customer.field("In your words").fill("Oil drips below the hopper since this morning")
    customer.attach("Of the fault or the display", photos)
    customer.field("Your name").fill("Mrs. Hopper")
    customer.field("Phone or e-mail").fill("+49 40 123456")
    customer.button("Send report").click()

    customer.page.wait_for_url(re.compile(r"/t/[\w-]+$"))
    followed = customer.page.url
    assert customer.heading() == machine.called(language)
    expect(customer.page.get_by_role("img", name=customer.word("Photo"))).to_have_count(2)

    order = plant.order_of(office, machine, origin="scan")
    customer.stands_at("Technician found")
    plant.step(office, order["id"], "accept", "depart")
    customer.stands_at("On the way")
    plant.step(office, order["id"], "arrive", "start")
    customer.stands_at("Being repaired")
    plant.step(office, order["id"], "finish", finding="real", resolution="Gasket of the hopper replaced")

    customer.sees("Is everything all right?")
    customer.reads("Gasket of the hopper replaced")
    customer.button("Yes, it works").click()
    customer.page.locator("label").filter(
        has_text=customer.word("{given} of {out_of} stars", given=5, out_of=5)
    ).click()
    customer.field("Anything to add?").fill("Quick and friendly")
    customer.button("Send rating").click()

    customer.sees("Your rating")
    expect(customer.button("Send rating")).to_have_count(0)
    assert office.get(f"/orders/{order['id']}").json()["rating"] == 5

    again = customer.context.request.post(f"{followed}/rate", form={"stars": "1", "remark": "no"})
    assert again.status < 500
    assert office.get(f"/orders/{order['id']}").json()["rating"] == 5
    customer.go(followed)
    customer.reads("Quick and friendly")
