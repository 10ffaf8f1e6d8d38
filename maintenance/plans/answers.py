"""What was found at the items of a checklist, the verdict on it, and the repair that a fault opens (PM-8).

One fault found at one item of one order has at most one open order, however often it is answered. An answer that
is taken back takes the repair back too, as long as nobody has set out for it.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kernel import audit
from kernel.db import Json
from kernel.errors import Conflict, Invalid, NotFound
from kernel.models import File
from maintenance.orders import desk, faults, opening, timeline, urgency
from maintenance.orders.models import Entry, Order
from maintenance.plans import checklists
from maintenance.plans.models import CheckResult

WORKED_IN = frozenset({"accepted", "travelling", "on_site", "working", "paused"})
NOT_BEGUN = frozenset({"new", "assigned", "accepted"})
LONGEST_NOTE = 500
LARGEST = 2**63
TAKEN_BACK = "Checked again: good 复检合格"
"""Why a repair was cancelled whose fault turned out to be none; in both languages because it is stored as a text."""


def verdict(item: Mapping[str, Any], value: Any) -> str:  # noqa: ANN401 - as the phone sent it
    """Return ``pass``, ``flag`` or ``fail`` for an answer.

    A number passes within its limits; a choice as the item's ``pass`` and ``flag`` lists say, any other fails, and
    without lists every choice passes; a photo that is there passes.

    Raises:
        Invalid: the answer is not of the item's kind.
    """
    if item["kind"] == "tick":
        if not isinstance(value, bool):
            raise Invalid("Please answer with yes or no.", field=item["key"])
        return "pass" if value else "fail"
    if item["kind"] == "number":
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Invalid("Please enter a number.", field=item["key"])
        low, high = item.get("low"), item.get("high")
        return "pass" if (low is None or value >= low) and (high is None or value <= high) else "fail"
    if item["kind"] == "photo":
        return "pass"
    if value not in item["choices"]:
        raise Invalid("Please choose one of the answers.", field=item["key"])
    if "pass" not in item and "flag" not in item:
        return "pass"
    return "pass" if value in item.get("pass", ()) else "flag" if value in item.get("flag", ()) else "fail"


def answer(
    session: Session,
    order: Order,
    item_key: str,
    value: Any,  # noqa: ANN401 - as the phone sent it
    *,
    note: str = "",
    photos: Sequence[File] = (),
    actor: str,
    now: datetime,
) -> CheckResult:
    """Write down what was found at an item of a locked order; the last answer counts, the timeline keeps all.

    A fault opens a repair of the asset, with the note and the photos. The answer to an item of kind ``photo`` is
    the photos, or the identity of a timeline entry of this order that has one.

    Raises:
        NotFound: the order has no such item.
        Conflict: the order is not being worked on.
        Invalid: the answer is not of the item's kind.
    """
    item = next((one for one in checklists.items_of(session, order) if one["key"] == item_key), None)
    if item is None:
        raise NotFound("The checklist of this order has no such item.")
    if order.phase not in WORKED_IN:
        raise Conflict("The checklist can be filled while the order is being worked on.")
    note = note.strip()[:LONGEST_NOTE]
    taken = [timeline.photo(session, order, file, actor=actor, now=now, text=item["name"]) for file in photos]
    if item["kind"] == "photo":
        value = taken[0].id if taken else _photo_of(session, order, item, value)
    found = verdict(item, value)
    row = insert(CheckResult).values(
        order_id=order.id, item_key=item_key, value={"value": value}, verdict=found, note=note, at=now, by=actor
    )
    session.execute(
        row.on_conflict_do_update(
            index_elements=[CheckResult.order_id, CheckResult.item_key],
            set_={name: getattr(row.excluded, name) for name in ("value", "verdict", "note", "at", "by")},
        )
    )
    detail: Json = {
        "item": item_key,
        "name": item["name"],
        "name_zh": item.get("name_zh"),
        "value": value,
        "unit": item.get("unit"),
        "verdict": found,
    }
    timeline.write(session, order, "check", actor=actor, now=now, text=note, detail=detail)
    audit.record(
        session,
        "order.check",
        subject=f"order:{order.id}",
        actor=actor,
        at=now,
        after={"item": item_key, "value": value, "verdict": found},
        company_id=order.company_id,
    )
    if found == "fail":
        _repair(session, order, item, value, note=note, photos=photos, actor=actor, now=now)
    else:
        _take_back(session, order, item_key, now)
    return session.get_one(CheckResult, (order.id, item_key), populate_existing=True)


def _photo_of(session: Session, order: Order, item: Mapping[str, Any], value: Any) -> int:  # noqa: ANN401 - as sent
    """Return the identity of a photo that is on this order's timeline already."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 < value < LARGEST
    entry = session.get(Entry, value) if is_number else None
    if entry is None or entry.order_id != order.id or entry.kind != "photo":
        raise Invalid("Please add a photo.", field=item["key"])
    return entry.id


def fault_key(order: Order, item_key: str) -> str:
    """Return the identity of the fault that an item of an order found."""
    return f"check:{order.id}/{item_key}"


def repairs_of(session: Session, order: Order) -> dict[str, Order]:
    """Return the newest order that each item of an order's checklist opened, by item."""
    rows = session.scalars(
        select(Order).where(Order.fault_key.startswith(fault_key(order, ""), autoescape=True)).order_by(Order.id)
    )
    return {(row.fault_key or "").partition("/")[2]: row for row in rows}


def _repair(
    session: Session,
    order: Order,
    item: Mapping[str, Any],
    value: Any,  # noqa: ANN401 - judged already
    *,
    note: str,
    photos: Sequence[File],
    actor: str,
    now: datetime,
) -> None:
    """Open the repair of what an item found, or add to the one that is open."""
    repair = faults.open_of_fault(session, fault_key(order, item["key"]))
    if repair is None:
        asset = order.asset
        draft = opening.Draft(
            company_id=order.company_id,
            unit_id=order.unit_id,
            origin="check",
            title=f"{item['name']}: {_shown(item, value, 'en')}",
            title_zh=f"{item.get('name_zh') or item['name']}：{_shown(item, value, 'zh')}",
            description=note,
            priority=urgency.of_report(asset.criticality) if asset is not None else order.priority,
            asset=asset,
            fault_key=fault_key(order, item["key"]),
        )
        repair = opening.open_order(session, draft, actor=actor, now=now)
        _link(session, order, "check_failed", repair, actor, now)
        _link(session, repair, "found_by", order, actor, now)
    elif note:
        timeline.comment(session, repair, note, actor=actor, now=now)
    for file in photos:
        timeline.photo(session, repair, file, actor=actor, now=now, text=item["name"])


def _take_back(session: Session, order: Order, item_key: str, now: datetime) -> None:
    """Cancel the repair of a fault that turned out to be none, unless somebody has set out or reported it too."""
    repair = faults.open_of_fault(session, fault_key(order, item_key))
    if repair is not None and repair.phase in NOT_BEGUN and not repair.requests:
        desk.move(session, repair, "cancel", actor="system", now=now, reason=TAKEN_BACK)


def _shown(item: Mapping[str, Any], value: Any, language: str) -> str:  # noqa: ANN401 - judged already
    """Return an answer in words for a title."""
    if item["kind"] == "number":
        low, high = (item.get(limit, "…") for limit in ("low", "high"))
        return f"{value:g} {item.get('unit', '')}".strip() + f" ({low}–{high})"
    if item["kind"] == "choice":
        in_chinese = item.get("choices_zh") if language == "zh" else None
        return str(in_chinese[item["choices"].index(value)] if in_chinese else value)
    return "不合格" if language == "zh" else "not OK"


def _link(session: Session, on: Order, what: str, other: Order, actor: str, now: datetime) -> None:
    detail: Json = {"what": what, "order_id": other.id, "number": other.number}
    timeline.write(session, on, "link", actor=actor, now=now, detail=detail)


def results_of(session: Session, order: Order) -> dict[str, CheckResult]:
    """Return what was found so far, by item."""
    rows = session.scalars(select(CheckResult).where(CheckResult.order_id == order.id))
    return {row.item_key: row for row in rows}
