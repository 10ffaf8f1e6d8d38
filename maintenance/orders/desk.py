"""The desk: opens orders, joins faults to them, and moves them along their life, one locked row at a time.

``lifecycle`` decides what is possible; here rows change, the timeline and the audit trail are written and
events are sent. Nothing here commits, and nothing but ``act`` asks who may: callers that speak for a person
come through ``act``, the machine's own steps come in below it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, bindparam, exists, func, select, update
from sqlalchemy.orm import Session

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


def about(asset: Asset, *, origin: str, title: str, **more: Any) -> Draft:  # noqa: ANN401 - any field of a Draft
    """Return the draft of an order on an asset; further fields of ``Draft`` as keywords."""
    return Draft(company_id=asset.company_id, unit_id=asset.unit_id, origin=origin, title=title, asset=asset, **more)


def open_order(session: Session, draft: Draft, *, actor: str, now: datetime, occurrences: int = 1) -> Order:
    """Open a work order, give it its number, and let dispatch know.

    Raises:
        Invalid: there is no title, or the priority is not one of 1 to 4.
    """
    if not draft.title.strip():
        raise Invalid("Please say what is to be done.", field="title")
    if draft.priority not in urgency.PRIORITIES:
        raise Invalid("The priority is a number from 1 to 4.", field="priority")
    kind = kinds.of(session, draft.company_id, draft.kind)
    asset = draft.asset
    order = Order(
        company_id=draft.company_id,
        unit_id=draft.unit_id,
        number=f"WO-{now.year}-{numbering.draw(session, f'order/{draft.company_id}/{now.year}'):06}",
        type=kind,
        origin=draft.origin,
        priority=draft.priority,
        title=draft.title.strip()[:200],
        title_zh=draft.title_zh,
        description=draft.description[:4000],
        asset=asset,
        site_id=asset.site_id if asset else None,
        customer_id=asset.customer_id if asset else None,
        alarm_id=draft.alarm_id,
        fault_key=draft.fault_key,
        previous_id=draft.previous_id,
        occurrences=occurrences,
        last_seen_at=now,
        skill=draft.skill or (skill_of(session, asset) if asset else None),
        team_id=draft.team_id,
        estimated_minutes=draft.estimated_minutes,
        planned_at=draft.planned_at,
        created_at=now,
        created_by=actor,
        due_at=draft.due_at or urgency.due(draft.priority, now),
    )
    session.add(order)
    session.flush()
    timeline.write(
        session, order, "move", actor=actor, now=now, detail={"verb": "open", "after": "new"}, is_public=True
    )
    _audit(session, order, "open", actor, now, after={"number": order.number, "origin": order.origin})
    _emit(session, order, OrderOpened(order.id), actor, now)
    return order


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
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"orders of {subject}", 0))))


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
    path = lifecycle.steps(order.phase, verb)
    if order.assignee_id == account.id:
        raise Conflict("{name} has this order already.", name=account.name)
    _end_assignment(session, order, now, "moved_on", reason)
    order.assignee = account
    order.in_pool, order.pool_until = False, None
    account.last_assigned_at = now
    row = Assignment(order_id=order.id, account_id=account.id, at=now, by=actor, decision_id=decision_id)
    session.add(row)
    detail: Json = {"account_id": account.id, "name": account.name, "decision_id": decision_id}
    _walk(session, order, path, text=reason, detail=detail, actor=actor, now=now)
    _emit(session, order, OrderAssigned(order.id, account.id), actor, now)
    return order


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


def _walk(
    session: Session, order: Order, path: Sequence[str], *, text: str, detail: Json, actor: str, now: datetime
) -> None:
    """Take single steps one after the other; together they are one move with one line and one event."""
    verb, before = path[-1], order.phase
    times = times_of(order)
    for step in path:
        times = lifecycle.after_step(times, step, now)
        order.phase = lifecycle.MOVES[step][order.phase]
    for name in lifecycle.Times.__slots__:
        setattr(order, name, getattr(times, name))
    if verb in {"send_back", "reopen"}:
        order.rework += 1
    if order.phase == "new":
        _end_assignment(session, order, now, "refused" if verb == "refuse" else "moved_on", text)
        order.assignee = None
    if order.phase in lifecycle.ENDED:
        _end_assignment(session, order, now, "finished" if order.phase == "closed" else "cancelled", text)
        order.in_pool, order.pool_until = False, None
    session.flush()
    timeline.write(
        session,
        order,
        "move",
        actor=actor,
        now=now,
        text=text,
        detail={"verb": verb, "before": before, "after": order.phase, **detail},
        is_public=verb in PUBLIC_VERBS or actor == "customer",
    )
    _audit(session, order, verb, actor, now, before={"phase": before}, after={"phase": order.phase, "words": text})
    _emit(session, order, OrderMoved(order.id, verb, before, order.phase), actor, now)


def times_of(order: Order) -> lifecycle.Times:
    """Return the times of an order's steps as a value."""
    return lifecycle.Times(**{name: getattr(order, name) for name in lifecycle.Times.__slots__})


def _end_assignment(session: Session, order: Order, now: datetime, end: str, reason: str) -> None:
    session.execute(
        update(Assignment)
        .where(Assignment.order_id == order.id, Assignment.ended_at.is_(None))
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
    audit.record(
        session,
        f"order.{verb}",
        subject=f"order:{order.id}",
        actor=actor,
        at=now,
        before=before,
        after=after,
        company_id=order.company_id,
    )


def _emit(session: Session, order: Order, happening: object, actor: str, now: datetime) -> None:
    events.emit(session, happening, subject=f"order:{order.id}", at=now, actor=actor, unit_id=order.unit_id)
