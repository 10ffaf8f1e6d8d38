"""What is found at an item of a checklist: judged, kept, and repaired where it is a fault (PM-8)."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kernel.errors import Conflict, Invalid, NotFound
from kernel.models import File
from maintenance.orders import desk, faults, timeline
from maintenance.orders.models import Entry, Order
from maintenance.plans import answers, checklists
from maintenance.plans.models import Checklist
from tests import factories
from tests.factories import NOW, Company

TICK = {"key": "oil", "name": "Oil level", "name_zh": "油位", "kind": "tick"}
NUMBER = {"key": "temp", "name": "Outlet", "name_zh": "排气温度", "kind": "number", "unit": "°C", "low": 60, "high": 95}
CHOICE = {
    "key": "filter", "name": "Filter", "name_zh": "滤芯", "kind": "choice", "choices": ["clean", "dusty", "blocked"],
    "choices_zh": ["干净", "积尘", "堵塞"], "pass": ["clean"], "flag": ["dusty"],
}  # fmt: skip
PHOTO = {"key": "plate", "name": "Name plate", "kind": "photo"}


@pytest.fixture
def company(session: Session) -> Company:
    return factories.company(session)


@pytest.fixture
def order(session: Session, company: Company) -> Order:
    """Return an inspection at work with all kinds of items."""
    asset = factories.asset(session, company, "harbour", criticality=1)
    made = checklists.make(session, company.units["harbour"], name="Round", name_zh=None, actor="account:1", now=NOW)
    checklists.save(session, made, [TICK, NUMBER, CHOICE, PHOTO], actor="account:1", now=NOW)
    order = factories.order(session, company, asset, origin="plan", phase="working")
    checklists.attach(session, order, made.id)
    return order


@pytest.fixture
def say(session: Session, order: Order) -> Callable[..., Any]:
    def say(item: str, value: object, *, note: str = "", photos: list[File] | None = None) -> str:
        given = answers.answer(session, order, item, value, note=note, photos=photos or [], actor="account:1", now=NOW)
        return given.verdict

    return say


@pytest.mark.parametrize(
    ("item", "value", "verdict"),
    [
        (TICK, True, "pass"),
        (TICK, False, "fail"),
        (NUMBER, 60, "pass"),
        (NUMBER, 95.0, "pass"),
        (NUMBER, 59.9, "fail"),
        (NUMBER, 95.1, "fail"),
        ({**NUMBER, "low": None}, -40, "pass"),
        ({**NUMBER, "high": None}, 4000, "pass"),
        (CHOICE, "clean", "pass"),
        (CHOICE, "dusty", "flag"),
        (CHOICE, "blocked", "fail"),
        ({"key": "x", "kind": "choice", "choices": ["a", "b"]}, "b", "pass"),
    ],
)
def test_PM_8_an_answer_passes_flags_or_fails(item: dict[str, Any], value: object, verdict: str) -> None:
    assert answers.verdict(item, value) == verdict


@pytest.mark.parametrize(
    ("item", "value"),
    [(TICK, "yes"), (TICK, 1), (NUMBER, True), (NUMBER, "70"), (NUMBER, float("nan")), (NUMBER, float("inf")),
     (CHOICE, "rusty"), (CHOICE, None)],
)  # fmt: skip
def test_an_answer_of_another_kind_is_refused_at_its_item(item: dict[str, Any], value: object) -> None:
    with pytest.raises(Invalid) as refused:
        answers.verdict(item, value)
    assert refused.value.field == item["key"]


def test_PM_8_a_number_out_of_limits_opens_one_repair_with_the_photo(
    session: Session, company: Company, order: Order, say: Callable[..., str]
) -> None:
    photo = factories.file(session, company)
    assert say("temp", 102, note="Cooler dusty", photos=[photo]) == "fail"
    repair = session.scalars(select(Order).where(Order.origin == "check")).one()
    assert repair.type.key == "corrective"
    assert repair.asset_id == order.asset_id
    assert (repair.title, repair.title_zh) == ("Outlet: 102 °C (60–95)", "排气温度：102 °C (60–95)")
    assert (repair.priority, repair.description) == (2, "Cooler dusty")
    shown = {one.kind: one for one in timeline.of_order(session, repair)}
    assert shown["photo"].file_id == photo.id
    assert shown["link"].detail["number"] == order.number
    assert "photo" in {one.kind for one in timeline.of_order(session, order)}
    assert answers.repairs_of(session, order)["temp"] is repair
    assert say("temp", 110) == "fail"
    assert session.scalar(select(func.count()).where(Order.origin == "check")) == 1


def test_a_fault_answered_again_adds_its_note_and_photo_to_the_same_repair(
    session: Session, company: Company, say: Callable[..., str]
) -> None:
    say("oil", False)
    say("oil", False, note="Below the mark", photos=[factories.file(session, company)])
    repair = session.scalars(select(Order).where(Order.origin == "check")).one()
    assert (repair.title, repair.title_zh) == ("Oil level: not OK", "油位：不合格")
    lines = timeline.of_order(session, repair)
    assert "Below the mark" in {one.text for one in lines}
    assert "photo" in {one.kind for one in lines}


def test_an_answer_taken_back_takes_its_repair_back_unless_somebody_set_out(
    session: Session, company: Company, say: Callable[..., str]
) -> None:
    say("filter", "blocked")
    repair = session.scalars(select(Order).where(Order.origin == "check")).one()
    assert repair.title_zh == "滤芯：堵塞"
    say("filter", "dusty")
    assert repair.phase == "cancelled"
    say("filter", "blocked")
    again = session.scalars(select(Order).where(Order.origin == "check", faults.is_open())).one()
    technician = factories.account(session, company, "technician", "harbour")
    desk.give(session, again, technician, "assign", actor="system", now=NOW)
    desk.move(session, again, "depart", actor=f"account:{technician.id}", now=NOW)
    say("filter", "clean")
    assert again.phase == "travelling"


def test_a_photo_is_an_answer_of_its_own(
    session: Session, company: Company, order: Order, say: Callable[..., str]
) -> None:
    for nothing in (None, True, 0, -1, 10**30, "12"):
        with pytest.raises(Invalid):
            say("plate", nothing)
    elsewhere = factories.entry(session, factories.order(session, company, factories.asset(session, company)))
    with pytest.raises(Invalid):
        say("plate", elsewhere.id)
    assert say("plate", None, photos=[factories.file(session, company)]) == "pass"
    entry = session.scalars(select(Entry).where(Entry.order_id == order.id, Entry.kind == "photo")).one()
    assert say("plate", entry.id) == "pass"


def test_only_work_under_way_is_answered_and_only_its_own_items(order: Order, say: Callable[..., str]) -> None:
    with pytest.raises(NotFound):
        say("nothing", True)
    for phase in ("new", "assigned", "done", "closed", "cancelled"):
        order.phase = phase
        with pytest.raises(Conflict):
            say("oil", True)


def test_an_order_keeps_the_version_of_its_checklist(session: Session, order: Order) -> None:
    row = session.scalars(select(Checklist)).one()
    checklists.save(session, row, [TICK], actor="account:1", now=NOW)
    assert row.version == 2
    assert len(checklists.items_of(session, order)) == 4
    assert len(checklists.newest_items(session, row)) == 1


@pytest.mark.parametrize(
    "items",
    [
        [],
        [TICK] * 2,
        [{"key": "a", "name": "", "kind": "tick"}],
        [{"key": "", "name": "A", "kind": "tick"}],
        [{"key": "a", "name": "A", "kind": "dance"}],
        [{"key": "a" * 61, "name": "A", "kind": "tick"}],
        [{**NUMBER, "low": 96}],
        [{**NUMBER, "low": "cold"}],
        [{**NUMBER, "high": True}],
        [{**NUMBER, "high": float("nan")}],
        [{**CHOICE, "choices": []}],
        [{**CHOICE, "choices": ["a", "a"]}],
        [{**CHOICE, "pass": ["shiny"]}],
        [{**CHOICE, "choices": ["x" * 61]}],
        [{"key": str(number), "name": "A", "kind": "tick"} for number in range(201)],
    ],
)
def test_a_checklist_that_makes_no_sense_is_refused(
    session: Session, order: Order, items: list[dict[str, Any]]
) -> None:
    row = session.scalars(select(Checklist)).one()
    with pytest.raises(Invalid):
        checklists.save(session, row, items, actor="account:1", now=NOW)
    assert order.id
