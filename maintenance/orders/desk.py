"""The desk: opens orders, joins faults to them, and moves them along their life, one locked row at a time.

``lifecycle`` decides what is possible; here rows change, the timeline and the audit trail are written and
events are sent. Nothing here commits, and nothing but ``act`` asks who may: callers that speak for a person
come through ``act``, the machine's own steps come in below it.
"""

import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, String, bindparam, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, selectinload

from assets.models import Asset, AssetType
from kernel import audit, events, numbering
from kernel.db import Json
from kernel.errors import Conflict, Invalid, NotFound, Stale
from maintenance.orders import authority, kinds, lifecycle, timeline, urgency
from maintenance.orders.events import OrderAssigned, OrderJoined, OrderMoved, OrderNeedsDispatch, OrderOpened
from maintenance.orders.models import Assignment, Entry, Order
from maintenance.plans.models import ChecklistVersion, CheckResult, OrderChecklist
from people import scope
from people.models import Account, OrgUnit
from people.scope import Viewer
from rules.models import Alarm

SETTLED_AFTER = timedelta(days=3)
"""How long verified work waits for the customer before it is closed."""
PUBLIC_VERBS = frozenset({"depart", "arrive", "start", "finish", "verify", "close", "cancel"})
"""Steps the customer is shown, with the words given: a cancellation's reason is told to who reported the fault."""


NO_FAULT = ("plan", "rating")
"""Origins of orders that are about no fault of the asset: planned work, and calls to unhappy customers."""


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
    session.add_all(orders)
    session.flush()
    said: Json = {"verb": "open", "after": "new"}
    lines = [timeline.Line(order, "move", detail=said, is_public=True) for order in orders]
    timeline.write_all(session, lines, actor=actor, now=now)
    acts = [_act(order, "open", actor, after={"number": order.number, "origin": order.origin}) for order in orders]
    audit.record_all(session, acts, at=now)
    events.emit_all(session, [_emission(order, OrderOpened(order.id), actor) for order in orders], at=now)
    return orders


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


def hold_subject(session: Session, subject: str) -> None:
    """Let one transaction at a time open or join orders about ``subject``, e.g. ``asset:12`` (promise P3).

    The unique index would refuse the second order of a fault too; queueing spares the loser an error and lets
    it see what the winner opened.
    """
    hold_subjects(session, {subject})


def hold_subjects(session: Session, subjects: Collection[str]) -> None:
    """Hold many subjects, always in the same order, so that two who want the same ones wait in no circle."""
    wanted = func.unnest(literal(sorted(f"orders of {one}" for one in subjects), ARRAY(String))).column_valued()
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(wanted, 0))))


def is_open() -> ColumnElement[bool]:
    """Return the condition that an order has not ended, written out so that the partial indexes serve it."""
    return Order.phase.not_in(bindparam("ended", lifecycle.ENDED, expanding=True, literal_execute=True))


def open_of_fault(session: Session, fault_key: str) -> Order | None:
    """Return the open order of a fault, locked, or None."""
    return session.scalars(
        select(Order)
        .where(Order.fault_key == fault_key, is_open())
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()


def open_of_asset(session: Session, asset_id: int) -> Sequence[Order]:
    """Return the open orders of an asset that are about a fault, the most urgent and newest first."""
    return session.scalars(
        select(Order)
        .where(Order.asset_id == asset_id, is_open(), Order.origin.not_in(NO_FAULT))
        .order_by(Order.priority, Order.id.desc())
    ).all()


def join(session: Session, order: Order, *, times: int, seen_at: datetime, actor: str, now: datetime) -> None:
    """Count a fault that was seen again in its open order."""
    order.occurrences += times
    order.last_seen_at = max(order.last_seen_at or seen_at, seen_at)
    session.flush()
    tell_joined(session, order, actor, now)


def tell_joined(session: Session, order: Order, actor: str, now: datetime) -> None:
    """Let others know that there is news of an order's fault."""
    _emit(session, order, OrderJoined(order.id, order.occurrences), actor, now)


def locked(session: Session, order_id: int) -> Order:
    """Return an order, locked until the transaction ends and read afresh.

    Raises:
        NotFound: there is none.
    """
    order = session.get(Order, order_id, with_for_update=True, populate_existing=True)
    if order is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return order


def all_locked(session: Session, order_ids: Sequence[int]) -> list[Order]:
    """Return orders in the order of their ids given, each as ``locked`` does; two statements for any number of them.

    Raises:
        NotFound: there is none of one of the ids.
    """
    rows = session.scalars(
        select(Order)
        .where(Order.id.in_(order_ids))
        .order_by(Order.id)
        .with_for_update(of=Order)
        .options(selectinload(Order.type), selectinload(Order.site))
        .execution_options(populate_existing=True)
    )
    found = {order.id: order for order in rows}
    if not found.keys() >= set(order_ids):
        raise NotFound("There is nothing here, or it is not yours to see.")
    return [found[one] for one in order_ids]


def path_of(session: Session, order: Order) -> str:
    """Return the path of an order's org unit."""
    return session.get_one(OrgUnit, order.unit_id).path


def act(
    session: Session,
    order_id: int,
    verb: str,
    viewer: Viewer,
    *,
    now: datetime,
    version: int | None = None,
    **words: str | None,
) -> Order:
    """Take one step for a person; ``words`` are reason, finding, resolution.

    Assigning and grabbing have more to decide and live in ``maintenance.dispatch``.

    Raises:
        NotFound: the order lies outside the viewer's sight, or there is no such step.
        Forbidden: it is not the viewer's to take.
        Stale: the order is no longer at ``version``.
        Conflict: the order's phase does not allow it.
        Invalid: something the step needs is missing.
    """
    order = locked(session, scope.find(session, Order, order_id, viewer, "orders.read").id)
    if version is not None and order.version != version:
        raise Stale("Somebody else changed this meanwhile. Load it again and repeat your change.")
    authority.require(viewer, order, verb, path_of(session, order))
    if verb == "refuse":
        return refuse(session, order, reason=words.get("reason"), actor=viewer.actor, now=now)
    if verb in {"assign", "grab"}:
        raise Invalid("Say who is to have the order.", field="account_id")
    return move(session, order, verb, actor=viewer.actor, now=now, **words)


def move(
    session: Session,
    order: Order,
    verb: str,
    *,
    actor: str,
    now: datetime,
    reason: str | None = None,
    finding: str | None = None,
    resolution: str | None = None,
) -> Order:
    """Take a step of a locked order's life: rows, times, timeline, audit and event.

    Raises:
        Conflict: the order's phase does not allow it.
        Invalid: something the step needs is missing, or the finding is none of ``lifecycle.FINDINGS``.
    """
    path = lifecycle.steps(order.phase, verb)
    reason, resolution = (reason or "").strip(), (resolution or "").strip()
    if finding and finding not in lifecycle.FINDINGS:
        raise Invalid("This is not one of the findings.", field="finding")
    is_abnormal = verb == "finish" and signal_is_active(session, order)
    needs = lifecycle.required(verb, order.type.requires, signal_is_abnormal=is_abnormal)
    given = {"reason": reason, "finding": finding, "resolution": resolution}
    lifecycle.require(needs, _present(session, order, needs, given))
    if verb == "finish":
        order.finding = finding or order.finding
        order.resolution = resolution[:4000] or order.resolution
        order.override_reason = reason[:500] if is_abnormal else None
    _walk(session, order, path, text=resolution if verb == "finish" else reason, detail={}, actor=actor, now=now)
    if verb == "finish" and reason:
        what: Json = {"what": "override"} if is_abnormal else {}
        timeline.write(session, order, "comment", actor=actor, now=now, text=reason, detail=what)
    if is_abnormal:
        _audit(session, order, "override_signal", actor, now, after={"reason": order.override_reason})
    if verb == "finish" and order.type.auto_verify and order.fault_key is None:
        _walk(session, order, ("verify",), text="", detail={}, actor="system", now=now)
    if verb == "reopen":
        _emit(session, order, OrderNeedsDispatch(order.id), actor, now)
    return order


def refuse(session: Session, order: Order, *, reason: str | None, actor: str, now: datetime) -> Order:
    """Give a locked order back; whoever refuses is passed over when dispatch looks again.

    Raises:
        Conflict: the work is on its way already.
        Invalid: no reason is given.
    """
    refuser = order.assignee_id
    move(session, order, "refuse", actor=actor, now=now, reason=reason)
    if refuser is not None and refuser not in order.refused_by:
        order.refused_by = [*order.refused_by, refuser]
    session.flush()
    _emit(session, order, OrderNeedsDispatch(order.id), actor, now)
    return order


def give(
    session: Session,
    order: Order,
    account: Account,
    verb: str,
    *,
    actor: str,
    now: datetime,
    decision_id: int | None = None,
    reason: str = "",
) -> Order:
    """Make an account the assignee of a locked order, by ``assign`` or ``grab``. Dispatch decides whom.

    Raises:
        Conflict: the order's phase does not allow it, or the account has it already.
    """
    gift = Gift(order, account, decision_id, reason)
    give_all(session, [gift], verb, actor=actor, now=now)
    return order


@dataclass(frozen=True, slots=True)
class Gift:
    """What ``give`` takes, for those who have many."""

    order: Order
    account: Account
    decision_id: int | None = None
    reason: str = ""


def give_all(session: Session, gifts: Sequence[Gift], verb: str, *, actor: str, now: datetime) -> None:
    """Give locked orders to accounts, each as ``give`` does.

    Raises:
        Conflict: a phase does not allow it, or an account has its order already.
    """
    walks = []
    for gift in gifts:
        order, account = gift.order, gift.account
        path = lifecycle.steps(order.phase, verb)
        if order.assignee_id == account.id:
            raise Conflict("{name} has this order already.", name=account.name)
        detail: Json = {"account_id": account.id, "name": account.name, "decision_id": gift.decision_id}
        walks.append(_Walk(order, path, gift.reason, detail))
    _end_assignments(session, [(gift.order.id, gift.reason) for gift in gifts], now, "moved_on")
    for gift in gifts:
        gift.order.assignee = gift.account
        gift.order.in_pool, gift.order.pool_until = False, None
        gift.account.last_assigned_at = now
        row = Assignment(
            order_id=gift.order.id, account_id=gift.account.id, at=now, by=actor, decision_id=gift.decision_id
        )
        session.add(row)
    _walk_all(session, walks, actor=actor, now=now)
    given = [_emission(gift.order, OrderAssigned(gift.order.id, gift.account.id), actor) for gift in gifts]
    events.emit_all(session, given, at=now)


def close_settled(session: Session, now: datetime, *, limit: int = 200) -> int:
    """Close verified orders that nobody objected to for three days; return how many (run by a tick)."""
    rows = session.scalars(
        select(Order)
        .where(Order.phase == "verified", Order.verified_at <= now - SETTLED_AFTER)
        .order_by(Order.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for order in rows:
        move(session, order, "close", actor="system", now=now)
    return len(rows)


@dataclass(frozen=True, slots=True)
class _Walk:
    order: Order
    path: Sequence[str]
    text: str
    detail: Json


def _walk(
    session: Session, order: Order, path: Sequence[str], *, text: str, detail: Json, actor: str, now: datetime
) -> None:
    """Take single steps one after the other; together they are one move with one line and one event."""
    _walk_all(session, [_Walk(order, path, text, detail)], actor=actor, now=now)


def _walk_all(session: Session, walks: Sequence[_Walk], *, actor: str, now: datetime) -> None:
    lines, acts, moved = [], [], []
    for walk in walks:
        order, verb, before = walk.order, walk.path[-1], walk.order.phase
        _step(session, walk, now)
        what: Json = {"verb": verb, "before": before, "after": order.phase, **walk.detail}
        is_public = verb in PUBLIC_VERBS or actor == "customer"
        lines.append(timeline.Line(order, "move", text=walk.text, detail=what, is_public=is_public))
        after: Json = {"phase": order.phase, "words": walk.text}
        acts.append(_act(order, verb, actor, before={"phase": before}, after=after))
        moved.append(_emission(order, OrderMoved(order.id, verb, before, order.phase), actor))
    session.flush()
    timeline.write_all(session, lines, actor=actor, now=now)
    audit.record_all(session, acts, at=now)
    events.emit_all(session, moved, at=now)


def _step(session: Session, walk: _Walk, now: datetime) -> None:
    order, verb = walk.order, walk.path[-1]
    times = times_of(order)
    for step in walk.path:
        times = lifecycle.after_step(times, step, now)
        order.phase = lifecycle.MOVES[step][order.phase]
    for name in lifecycle.Times.__slots__:
        setattr(order, name, getattr(times, name))
    if verb in {"send_back", "reopen"}:
        order.rework += 1
    if order.phase == "new":
        _end_assignments(session, [(order.id, walk.text)], now, "refused" if verb == "refuse" else "moved_on")
        order.assignee = None
    if order.phase in lifecycle.ENDED:
        end = "finished" if order.phase == "closed" else "cancelled"
        _end_assignments(session, [(order.id, walk.text)], now, end)
        order.in_pool, order.pool_until = False, None


def times_of(order: Order) -> lifecycle.Times:
    """Return the times of an order's steps as a value."""
    return lifecycle.Times(**{name: getattr(order, name) for name in lifecycle.Times.__slots__})


def _end_assignments(session: Session, orders: Sequence[tuple[int, str]], now: datetime, end: str) -> None:
    """Let the assignments of orders end that still run; with each order's id a reason."""
    by_reason: dict[str, list[int]] = {}
    for order_id, reason in orders:
        by_reason.setdefault(reason, []).append(order_id)
    for reason, ids in by_reason.items():
        session.execute(
            update(Assignment)
            .where(Assignment.order_id.in_(ids), Assignment.ended_at.is_(None))
            .values(ended_at=now, end=end, reason=reason[:500] or None)
        )


def signal_is_active(session: Session, order: Order) -> bool:
    """Return whether the fault of an order has an active alarm now."""
    if not order.fault_key:
        return False
    subject, _, type_key = order.fault_key.partition("/")
    active = exists().where(Alarm.subject == subject, Alarm.type_key == type_key, Alarm.is_active)
    return bool(session.scalar(select(active)))


def _present(session: Session, order: Order, needs: Sequence[str], given: dict[str, str | None]) -> set[str]:
    there = {name for name, value in given.items() if value}
    if "photo" in needs and session.scalar(
        select(exists().where(Entry.order_id == order.id, Entry.kind == "photo", Entry.request_id.is_(None)))
    ):
        there.add("photo")
    if "checklist" in needs and unanswered(session, order) == 0:
        there.add("checklist")
    return there


def unanswered(session: Session, order: Order) -> int:
    """Return how many items of the order's checklist have no result yet; 0 without a checklist."""
    items = session.scalar(
        select(ChecklistVersion.items)
        .join(OrderChecklist, OrderChecklist.version_id == ChecklistVersion.id)
        .where(OrderChecklist.order_id == order.id)
    )
    answered = set(session.scalars(select(CheckResult.item_key).where(CheckResult.order_id == order.id)))
    return sum(item["key"] not in answered for item in items or ())


def _audit(
    session: Session, order: Order, verb: str, actor: str, now: datetime, *, after: Json, before: Json | None = None
) -> None:
    audit.record_all(session, [_act(order, verb, actor, before=before, after=after)], at=now)


def _act(order: Order, verb: str, actor: str, *, after: Json, before: Json | None = None) -> audit.Act:
    return audit.Act(f"order.{verb}", f"order:{order.id}", actor, before, after, order.company_id)


def _emit(session: Session, order: Order, happening: object, actor: str, now: datetime) -> None:
    events.emit_all(session, [_emission(order, happening, actor)], at=now)


def _emission(order: Order, happening: object, actor: str) -> events.Emission:
    return events.Emission(happening, f"order:{order.id}", actor, order.unit_id)
