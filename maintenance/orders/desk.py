"""The desk: opens orders, joins faults to them, and moves them along their life, one locked row at a time.

``lifecycle`` decides what is possible; here rows change, the timeline and the audit trail are written and
events are sent. Nothing here commits, and nothing but ``act`` asks who may: callers that speak for a person
come through ``act``, the machine's own steps come in below it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session, selectinload

from kernel import audit, db, events
from kernel.db import Json
from kernel.errors import Conflict, Invalid, NotFound, Stale
from maintenance.orders import authority, faults, lifecycle, timeline
from maintenance.orders.events import OrderAssigned, OrderJoined, OrderMoved, OrderNeedsDispatch
from maintenance.orders.models import Assignment, Entry, Order
from maintenance.plans.models import ChecklistVersion, CheckResult, OrderChecklist
from people import scope
from people.models import Account, OrgUnit
from people.scope import Viewer

SETTLED_AFTER = timedelta(days=3)
"""How long verified work waits for the customer before it is closed."""
PUBLIC_VERBS = frozenset({"depart", "arrive", "start", "finish", "verify", "close", "cancel"})
"""Steps the customer is shown, with the words given: a cancellation's reason is told to who reported the fault."""


def join(session: Session, order: Order, *, times: int, seen_at: datetime, actor: str, now: datetime) -> None:
    """Count a fault that was seen again in its open order."""
    order.occurrences += times
    order.last_seen_at = max(order.last_seen_at or seen_at, seen_at)
    session.flush()
    tell_joined(session, order, actor, now)


def tell_joined(session: Session, order: Order, actor: str, now: datetime) -> None:
    """Let others know that there is news of an order's fault."""
    tell_all_joined(session, [order], actor, now)


def tell_all_joined(session: Session, orders: Sequence[Order], actor: str, now: datetime) -> None:
    """Let others know that there is news of the faults of orders."""
    tell_counted(session, [(order, order.occurrences) for order in orders], actor, now)


def tell_counted(session: Session, joined: Sequence[tuple[Order, int]], actor: str, now: datetime) -> None:
    """Let others know of orders and how often their faults had been seen then."""
    told = [_emission(order, OrderJoined(order.id, occurrences), actor) for order, occurrences in joined]
    events.emit_all(session, told, at=now)


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
    is_abnormal = verb == "finish" and faults.signal_is_active(session, order)
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
    rows = []
    for gift in gifts:
        gift.order.assignee, gift.order.assignee_id = gift.account, gift.account.id
        gift.order.in_pool, gift.order.pool_until = False, None
        gift.account.last_assigned_at = now
        row = Assignment(
            order_id=gift.order.id, account_id=gift.account.id, at=now, by=actor, decision_id=gift.decision_id
        )
        rows.append(row)
    db.add_many(session, rows)
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
    if len(walks) > 1:
        db.write_together(session, [walk.order for walk in walks])
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
