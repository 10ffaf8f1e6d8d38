"""A storekeeper: a new part, received, moved and counted; every movement is written down; low stock is marked."""

import re

import httpx
import pytest
from playwright.sync_api import expect

from tests.journeys import plant
from tests.journeys.person import Enter, Person


def holds(person: Person, store: str, quantity: int) -> None:
    """Wait until a store holds so much, as the page of the part says."""
    row = person.card("Where it lies").get_by_role("row").filter(has_text=store)
    expect(row.get_by_role("cell").nth(1)).to_have_text(re.compile(rf"^{quantity}\D*$"))


@pytest.mark.parametrize(("width", "language"), [(1440, "zh"), (360, "en")])
def test_a_storekeeper_receives_moves_and_counts_a_part(
    enter: Enter, office: httpx.Client, width: int, language: str
) -> None:
    me = enter("storekeeper", width=width, language=language)
    number = f"TST-{width}"

    me.place("Parts")
    me.link("New part").click()
    me.field("Part number").fill(number)
    me.field("Name").fill(f"Test gasket {width}")
    me.field("Reorder level").fill("5")
    me.button("Save").click()
    assert me.heading() == f"Test gasket {width}"

    me.open_up("Receive")
    me.choose("Into", "WH-SU")
    me.field("Quantity").fill("12")
    me.field("Cost of one").fill("3.50")
    me.field("Reference").fill("DN-4711")
    me.button("Receive").click()
    holds(me, "WH-SU", 12)
    expect(me.card("Movements").get_by_role("row").filter(has_text="DN-4711")).to_contain_text("+12")

    me.open_up("Move to another place")
    me.choose("Out of", "WH-SU")
    me.choose("Into", "WH-NI")
    me.field("Quantity").fill("9")
    me.button("Move").click()
    holds(me, "WH-SU", 3)
    holds(me, "WH-NI", 9)

    me.open_up("Correct by a count")
    me.choose("Counted in", "WH-NI")
    me.field("Really there").fill("1")
    me.field("Why it differs").fill("Eight were damp")
    me.button("Correct").click()
    holds(me, "WH-NI", 1)
    expect(me.card("Movements").get_by_role("row").filter(has_text=me.word("Counted"))).to_contain_text("8")

    me.sees("At or below the reorder level")
    me.place("Parts")
    me.field("Search").last.fill(number)
    me.field("Search").last.press("Enter")
    row = me.page.get_by_role("row").filter(has_text=number)
    expect(row.get_by_text(me.word("Low stock"), exact=True)).to_be_visible()
    (part,) = plant.items(office, "/parts", q=number)
    moved = plant.items(office, "/movements", part_id=part["id"])
    assert sum(float(one["quantity"]) for one in moved) == 4
