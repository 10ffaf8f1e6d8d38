"""How a work order comes to be: from a draft to a numbered row that dispatch hears of, one or many at once.

Whoever opens an order of a fault holds its subject first (``faults.hold_subject``), so that no fault gets two.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from assets.models import Asset, AssetType
from kernel import audit, db, events, numbering
from kernel.db import Json
from kernel.errors import Invalid
from maintenance.orders import kinds, timeline, urgency
from maintenance.orders.events import OrderOpened
from maintenance.orders.models import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An order to be opened. What is None is taken from the asset, or from the priority (``due_at``)."""

    company_id: int
    unit_id: int
    origin: str
    title: str
    kind: str = "corrective"
    priority: int = 3
    title_zh: str | None = None
    description: str = ""
    asset: Asset | None = None
    alarm_id: int | None = None
    fault_key: str | None = None
    previous_id: int | None = None
    skill: str | None = None
    team_id: int | None = None
    due_at: datetime | None = None
    planned_at: datetime | None = None
    estimated_minutes: int = 60
    last_seen_at: datetime | None = None
    """When its fault was last seen; None: as it is opened."""


def about(asset: Asset, *, origin: str, title: str, **more: Any) -> Draft:  # noqa: ANN401 - any field of a Draft
    """Return the draft of an order on an asset; further fields of ``Draft`` as keywords."""
    return Draft(company_id=asset.company_id, unit_id=asset.unit_id, origin=origin, title=title, asset=asset, **more)


def open_order(session: Session, draft: Draft, *, actor: str, now: datetime, occurrences: int = 1) -> Order:
    """Open a work order, give it its number, and let dispatch know.

    Raises:
        Invalid: there is no title, or the priority is not one of 1 to 4.
    """
    return open_all(session, [draft], actor=actor, now=now, occurrences=occurrences)[0]


def open_all(
    session: Session, drafts: Sequence[Draft], *, actor: str, now: datetime, occurrences: int = 1
) -> list[Order]:
    """Open work orders, numbered in the order of their drafts, in as many statements as one needs.

    Raises:
        Invalid: there is no title, or the priority is not one of 1 to 4.
    """
    for draft in drafts:
        if not draft.title.strip():
            raise Invalid("Please say what is to be done.", field="title")
        if draft.priority not in urgency.PRIORITIES:
            raise Invalid("The priority is a number from 1 to 4.", field="priority")
    types = {key: kinds.of(session, *key) for key in {(draft.company_id, draft.kind): None for draft in drafts}}
    of_type = {draft.asset.type_id: draft.asset for draft in drafts if draft.asset is not None}
    skills = {type_id: skill_of(session, asset) for type_id, asset in of_type.items()}
    numbers = _numbers(session, [draft.company_id for draft in drafts], now)
    orders = [
        Order(
            company_id=draft.company_id,
            unit_id=draft.unit_id,
            number=f"WO-{now.year}-{number:06}",
            type=types[draft.company_id, draft.kind],
            origin=draft.origin,
            priority=draft.priority,
            title=draft.title.strip()[:200],
            title_zh=draft.title_zh,
            description=draft.description[:4000],
            asset=draft.asset,
            site_id=draft.asset.site_id if draft.asset else None,
            customer_id=draft.asset.customer_id if draft.asset else None,
            alarm_id=draft.alarm_id,
            fault_key=draft.fault_key,
            previous_id=draft.previous_id,
            occurrences=occurrences,
            last_seen_at=draft.last_seen_at or now,
            skill=draft.skill or (skills[draft.asset.type_id] if draft.asset else None),
            team_id=draft.team_id,
            estimated_minutes=draft.estimated_minutes,
            planned_at=draft.planned_at,
            created_at=now,
            created_by=actor,
            due_at=draft.due_at or urgency.due(draft.priority, now),
        )
        for draft, number in zip(drafts, numbers, strict=True)
    ]
    db.add_many(session, orders)
    session.flush()
    said: Json = {"verb": "open", "after": "new"}
    lines = [timeline.Line(order, "move", detail=said, is_public=True) for order in orders]
    timeline.write_all(session, lines, actor=actor, now=now)
    audit.record_all(session, [_act(order, actor) for order in orders], at=now)
    opened = [events.Emission(OrderOpened(one.id), f"order:{one.id}", actor, one.unit_id) for one in orders]
    events.emit_all(session, opened, at=now)
    return orders


def _act(order: Order, actor: str) -> audit.Act:
    after: Json = {"number": order.number, "origin": order.origin}
    return audit.Act("order.open", f"order:{order.id}", actor, None, after, order.company_id)


def _numbers(session: Session, company_ids: Sequence[int], now: datetime) -> list[int]:
    """Return the number of each new order within its company and year."""
    following = {
        company_id: itertools.count(numbering.draw_many(session, f"order/{company_id}/{now.year}", amount))
        for company_id, amount in sorted(Counter(company_ids).items())
    }
    return [next(following[company_id]) for company_id in company_ids]


def skill_of(session: Session, asset: Asset) -> str | None:
    """Return the skill that repairs of this asset need: its type's, or the nearest parent type's that names one."""
    type_id: int | None = asset.type_id
    seen: set[int] = set()
    while type_id is not None and type_id not in seen:
        seen.add(type_id)
        kind = session.get_one(AssetType, type_id)
        if kind.skill:
            return kind.skill
        type_id = kind.parent_id
    return None
