"""Checklists: what is looked at, kept in versions, so that an order is worked by the one it was made with (PM-8)."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel import audit, ids
from kernel.db import Json
from kernel.errors import Invalid
from maintenance.orders.models import Order
from maintenance.plans.models import Checklist, ChecklistVersion, OrderChecklist
from people.models import OrgUnit

KINDS = ("tick", "number", "choice", "photo")
MOST_ITEMS = 200
MOST_CHOICES = 20
LONGEST_KEY, LONGEST_NAME, LONGEST_CHOICE = 60, 200, 60


def make(
    session: Session,
    unit: OrgUnit,
    *,
    name: str,
    name_zh: str | None,
    actor: str,
    now: datetime,
    key: str | None = None,
) -> Checklist:
    """Make a checklist without items yet; ``save`` gives it its first version.

    Raises:
        Invalid: it has no name.
    """
    made = Checklist(company_id=unit.company_id or unit.id, unit_id=unit.id, key=key or ids.code(), version=0)
    name_it(made, name=name, name_zh=name_zh)
    session.add(made)
    session.flush()
    audit.record(
        session,
        "checklist.make",
        subject=f"checklist:{made.id}",
        actor=actor,
        at=now,
        after={"name": made.name},
        company_id=made.company_id,
    )
    return made


def name_it(checklist: Checklist, *, name: str, name_zh: str | None) -> None:
    """Give a checklist its names.

    Raises:
        Invalid: there is no name, or it is too long.
    """
    if not name.strip() or len(name.strip()) > LONGEST_NAME:
        raise Invalid("Please write between 1 and {most} characters.", field="name", most=LONGEST_NAME)
    checklist.name, checklist.name_zh = name.strip(), (name_zh or "").strip()[:LONGEST_NAME] or None


def save(
    session: Session, checklist: Checklist, items: Sequence[Mapping[str, Any]], *, actor: str, now: datetime
) -> ChecklistVersion:
    """Give a checklist a new version; orders that exist keep theirs.

    Raises:
        Invalid: an item has no key or name, a key twice, an unknown kind, or limits the wrong way round.
    """
    if not 1 <= len(items) <= MOST_ITEMS:
        raise Invalid("A checklist has between 1 and {most} items.", field="items", most=MOST_ITEMS)
    checked = [_checked(item, position) for position, item in enumerate(items, 1)]
    if len({item["key"] for item in checked}) < len(checked):
        raise Invalid("Two items of the checklist have the same key.", field="items")
    newest = session.scalar(
        select(ChecklistVersion.number)
        .where(ChecklistVersion.checklist_id == checklist.id)
        .order_by(ChecklistVersion.number.desc())
        .limit(1)
    )
    checklist.version = (newest or 0) + 1
    version = ChecklistVersion(checklist_id=checklist.id, number=checklist.version, items=checked, at=now, author=actor)
    session.add(version)
    session.flush()
    audit.record(
        session,
        "checklist.save",
        subject=f"checklist:{checklist.id}",
        actor=actor,
        at=now,
        after={"version": version.number},
        company_id=checklist.company_id,
    )
    return version


def _checked(item: Mapping[str, Any], position: int) -> Json:
    """Return an item as it is kept, or refuse it by its place in the list."""
    key, name, kind = (str(item.get(field) or "").strip() for field in ("key", "name", "kind"))
    if not key or not name or kind not in KINDS or len(key) > LONGEST_KEY or len(name) > LONGEST_NAME:
        raise Invalid("Item {position} needs a key, a name and a kind.", field="items", position=position)
    kept: Json = {"key": key, "name": name, "kind": kind}
    if item.get("name_zh"):
        kept["name_zh"] = str(item["name_zh"]).strip()[:LONGEST_NAME]
    if kind == "number":
        kept |= _limits(item, position)
    if kind == "choice":
        kept |= _choices(item, position)
    return kept


def _limits(item: Mapping[str, Any], position: int) -> Json:
    low, high = item.get("low"), item.get("high")
    for limit in (low, high):
        is_number = isinstance(limit, int | float) and not isinstance(limit, bool) and math.isfinite(limit)
        if limit is not None and not is_number:
            raise Invalid("Item {position}: a limit is a number.", field="items", position=position)
    if low is not None and high is not None and low > high:
        raise Invalid("Item {position}: the lower limit is above the upper.", field="items", position=position)
    unit = str(item.get("unit") or "").strip()[:20]
    return {name: value for name, value in (("unit", unit), ("low", low), ("high", high)) if value not in (None, "")}


def _choices(item: Mapping[str, Any], position: int) -> Json:
    """Return the answers of a choice; ``pass`` and ``flag`` name those that are good and those worth a remark."""
    lists = {name: [str(one).strip() for one in item.get(name) or ()] for name in ("choices", "pass", "flag")}
    choices = lists["choices"]
    is_good = 1 <= len(choices) <= MOST_CHOICES and len(set(choices)) == len(choices) and all(choices)
    if not is_good or any(len(one) > LONGEST_CHOICE for one in choices):
        raise Invalid("Item {position} needs its choices, each once.", field="items", position=position)
    if not {*lists["pass"], *lists["flag"]} <= set(choices):
        raise Invalid("Item {position} judges an answer that is none of its choices.", field="items", position=position)
    kept: Json = {"choices": choices}
    if "pass" in item or "flag" in item:
        kept |= {"pass": lists["pass"], "flag": lists["flag"]}
    in_chinese = [str(one).strip() for one in item.get("choices_zh") or ()]
    if len(in_chinese) == len(choices):
        kept["choices_zh"] = in_chinese
    return kept


def attach(session: Session, order: Order, checklist_id: int) -> None:
    """Let an order be worked by the newest version of a checklist."""
    version_id = session.scalar(
        select(ChecklistVersion.id)
        .where(ChecklistVersion.checklist_id == checklist_id)
        .order_by(ChecklistVersion.number.desc())
        .limit(1)
    )
    if version_id is not None:
        session.add(OrderChecklist(order_id=order.id, version_id=version_id))
        session.flush()


def items_of(session: Session, order: Order) -> list[Json]:
    """Return the items of the checklist version an order is worked by; empty without one."""
    items = session.scalar(
        select(ChecklistVersion.items)
        .join(OrderChecklist, OrderChecklist.version_id == ChecklistVersion.id)
        .where(OrderChecklist.order_id == order.id)
    )
    return list(items or ())


def newest_items(session: Session, checklist: Checklist) -> list[Json]:
    """Return the items of the newest version of a checklist; empty when it has none yet."""
    items = session.scalar(
        select(ChecklistVersion.items)
        .where(ChecklistVersion.checklist_id == checklist.id)
        .order_by(ChecklistVersion.number.desc())
        .limit(1)
    )
    return list(items or ())
