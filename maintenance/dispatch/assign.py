"""Assigns orders: by the machine when they open or come back, by hand with a reason where a filter says no.

Every decision is stored with what was known, who was considered, who was filtered by what, and the scores, so
that it can be read next year without the live data (SEMANTICS D8). When nobody fits, the order stays in the
queue with the reasons, a person is told, and dispatch looks again as shifts begin (D5).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kernel import events, i18n
from kernel.db import Json
from kernel.errors import Invalid, Stale
from maintenance.dispatch import crowd, pool, scoring
from maintenance.dispatch.crowd import Crowd
from maintenance.dispatch.models import Decision
from maintenance.dispatch.scoring import Candidate, Job
from maintenance.orders import authority, desk, kinds, timeline
from maintenance.orders.events import OrderNeedsDispatch, OrderOpened, OrderStranded
from maintenance.orders.models import Order
from people import scope
from people.models import Account
from people.scope import Viewer

MOST_REFUSALS: Final = 3
"""After so many refusals a person decides (DI-9)."""
AT_ONCE: Final = 20
"""So many orders are decided in one transaction when dispatch looks again."""
NOBODY_FITS: Final = i18n.noop("Nobody fits. A dispatcher has to decide.")
REFUSED_TOO_OFTEN: Final = i18n.noop("Refused three times. A dispatcher has to decide.")
BEST: Final = i18n.noop("The highest score of those who fit.")
GRABBED: Final = i18n.noop("Taken from the grab pool.")
BY_HAND: Final = i18n.noop("Chosen by a person.")


def on_opened(session: Session, event: OrderOpened, now: datetime) -> None:
    """Look for somebody for an order that was just opened."""
    dispatch(session, desk.locked(session, event.order_id), now)


def on_needs_dispatch(session: Session, event: OrderNeedsDispatch, now: datetime) -> None:
    """Look again for an order that was refused, reopened, or not taken from the pool in time."""
    dispatch(session, desk.locked(session, event.order_id), now)


def dispatch(session: Session, order: Order, now: datetime) -> Decision | None:
    """Assign a locked order that has nobody, offer it to the pool, or leave it in the queue with the reason."""
    if order.phase != "new" or order.in_pool:
        return None
    _decide_alone(session, order.company_id)
    job, candidates = consider(session, order, now)
    chosen = scoring.choice(candidates)
    if len(order.refused_by) >= MOST_REFUSALS or chosen is None:
        return _strand(session, order, job, candidates, now)
    if order.pool_until is None and "pool" in kinds.setting(order.type, "dispatch"):
        pool.offer(session, order, actor="system", now=now)
        return None
    return _assign(session, order, job, candidates, chosen, now)


def retry(session: Session, now: datetime, *, limit: int = 500) -> int:
    """Look again for orders nobody fitted, most urgent first; return how many found somebody (run by a tick).

    At most ``AT_ONCE`` of one company are decided, so that nobody waits long for the turn to decide: whoever calls
    does so again, in a transaction of its own, while somebody was found.
    """
    is_waiting = (
        (Order.phase == "new") & ~Order.in_pool & (func.cardinality(Order.refused_by) < MOST_REFUSALS) & desk.is_open()
    )
    urgent_first = select(Order).where(is_waiting).order_by(Order.priority, Order.id)
    hopeful = _hopeful(session, session.scalars(urgent_first.limit(limit)).all(), now)
    if not hopeful:
        return 0
    company_id = hopeful[0].company_id
    _decide_alone(session, company_id)
    mine = urgent_first.where(Order.id.in_([order.id for order in hopeful])).with_for_update(skip_locked=True)
    waiting = session.scalars(mine.execution_options(populate_existing=True)).all()
    known = crowd.gather(session, company_id, now)
    found = 0
    for order in waiting:
        job = crowd.job_of(session, order, now)
        candidates = scoring.rank(job, known.at(desk.path_of(session, order)))
        if (chosen := scoring.choice(candidates)) is not None:
            _assign(session, order, job, candidates, chosen, now)
            known = known.given(chosen.person.id, order, now)
            found += 1
    return found


def _hopeful(session: Session, orders: Sequence[Order], now: datetime) -> list[Order]:
    """Return the first of the orders that somebody fits now, all of one company. Nothing is locked or decided."""
    found: list[Order] = []
    crowds: dict[int, Crowd] = {}
    for order in orders:
        if found and order.company_id != found[0].company_id:
            continue
        if order.company_id not in crowds:
            crowds[order.company_id] = crowd.gather(session, order.company_id, now)
        job, path = crowd.job_of(session, order, now), desk.path_of(session, order)
        if any(scoring.removal(job, person) is None for person in crowds[order.company_id].at(path)):
            found.append(order)
        if len(found) == AT_ONCE:
            break
    return found


def _decide_alone(session: Session, company_id: int) -> None:
    """Let one decision at a time be made in a company: two at once would both find the same person idle."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"dispatch {company_id}", 0))))


def consider(
    session: Session, order: Order, now: datetime, *, planned_at: datetime | None = None
) -> tuple[Job, tuple[Candidate, ...]]:
    """Return what is known of an order and everybody who could have it, ranked; nothing is changed."""
    job = crowd.job_of(session, order, now, planned_at=planned_at)
    people = crowd.gather(session, order.company_id, now).at(desk.path_of(session, order))
    return job, scoring.rank(job, people)


def by_hand(
    session: Session,
    order_id: int,
    account_id: int,
    viewer: Viewer,
    *,
    now: datetime,
    reason: str = "",
    planned_at: datetime | None = None,
    version: int | None = None,
) -> Decision:
    """Assign an order to a person a dispatcher chose; a reason overrides a filter and is stored with who gave it.

    Raises:
        NotFound: the order lies outside the viewer's sight.
        Forbidden: the viewer may not assign it.
        Stale: the order is no longer at ``version``.
        Conflict: its phase does not allow it, or the person has it already.
        Invalid: the person could not even open the order, or a filter says no and there is no reason.
    """
    order = desk.locked(session, scope.find(session, Order, order_id, viewer, "orders.read").id)
    if version is not None and order.version != version:
        raise Stale("Somebody else changed this meanwhile. Load it again and repeat your change.")
    authority.require(viewer, order, "assign", desk.path_of(session, order))
    account = session.get(Account, account_id)
    if account is None or account.company_id != order.company_id:
        raise Invalid("There is no such person.", field="account_id")
    job, candidates = consider(session, order, now, planned_at=planned_at)
    chosen = next((one for one in candidates if one.person.id == account.id), None)
    if chosen is None:
        person = crowd.stranger(account)
        chosen = Candidate(person, scoring.removal(job, person), {}, 0.0)
        candidates = (*candidates, chosen)
    reason = reason.strip()[:500]
    _require_reason(chosen, reason)
    decision = _decide(
        session,
        order,
        job,
        candidates,
        mode="by_hand",
        by=viewer.actor,
        chosen=chosen,
        reason=reason or BY_HAND,
        now=now,
    )
    decision.is_override = chosen.removal is not None
    if planned_at is not None:
        order.planned_at = planned_at
    desk.give(session, order, account, "assign", actor=viewer.actor, now=now, decision_id=decision.id, reason=reason)
    return decision


def grab(session: Session, order_id: int, viewer: Viewer, *, now: datetime) -> Decision:
    """Take an order from the grab pool; the row lock lets exactly one succeed (DI-8).

    Raises:
        NotFound: the order lies outside the viewer's sight.
        Conflict: it is not, or no longer, in the pool.
        Forbidden: a filter of dispatch speaks against the viewer.
    """
    order = desk.locked(session, scope.find(session, Order, order_id, viewer, "orders.read").id)
    pool.require_open(order, now)
    authority.require(viewer, order, "grab", desk.path_of(session, order))
    job = crowd.job_of(session, order, now)
    people = crowd.gather(session, order.company_id, now, only=[viewer.account_id]).at(desk.path_of(session, order))
    chosen = scoring.rank(job, people)[0]
    pool.require_fit(chosen)
    decision = _decide(
        session, order, job, (chosen,), mode="grabbed", by=viewer.actor, chosen=chosen, reason=GRABBED, now=now
    )
    account = session.get_one(Account, viewer.account_id)
    desk.give(session, order, account, "grab", actor=viewer.actor, now=now, decision_id=decision.id)
    return decision


def decisions(session: Session, order: Order) -> Sequence[Decision]:
    """Return the stored decisions about an order, newest first."""
    return session.scalars(select(Decision).where(Decision.order_id == order.id).order_by(Decision.id.desc())).all()


def _require_reason(chosen: Candidate, reason: str) -> None:
    if chosen.removal is None:
        return
    why = chosen.removal.why.format(**chosen.removal.values)
    if chosen.removal.by in scoring.NOT_TO_OVERRIDE:
        raise Invalid("{name} cannot have this order. {why}", field="account_id", name=chosen.person.name, why=why)
    if not reason:
        raise Invalid(
            "{name} does not fit: {why} Give a reason to assign all the same.",
            field="reason",
            name=chosen.person.name,
            why=why,
        )


def _assign(
    session: Session, order: Order, job: Job, candidates: Sequence[Candidate], chosen: Candidate, now: datetime
) -> Decision:
    decision = _decide(
        session, order, job, candidates, mode="automatic", by="system", chosen=chosen, reason=BEST, now=now
    )
    account = session.get_one(Account, chosen.person.id)
    desk.give(session, order, account, "assign", actor="system", now=now, decision_id=decision.id)
    return decision


def _strand(session: Session, order: Order, job: Job, candidates: Sequence[Candidate], now: datetime) -> Decision:
    reason = REFUSED_TOO_OFTEN if len(order.refused_by) >= MOST_REFUSALS else NOBODY_FITS
    decision = _decide(
        session, order, job, candidates, mode="automatic", by="system", chosen=None, reason=reason, now=now
    )
    detail: Json = {"what": "stranded", "decision_id": decision.id, "why": reason}
    timeline.write(session, order, "dispatch", actor="system", now=now, detail=detail)
    events.emit(
        session,
        OrderStranded(order.id, decision.id),
        subject=f"order:{order.id}",
        at=now,
        actor="system",
        unit_id=order.unit_id,
    )
    return decision


def _decide(
    session: Session,
    order: Order,
    job: Job,
    candidates: Sequence[Candidate],
    *,
    mode: str,
    by: str,
    chosen: Candidate | None,
    reason: str,
    now: datetime,
) -> Decision:
    decision = Decision(
        order_id=order.id,
        at=now,
        mode=mode,
        by=by,
        inputs=_inputs(order, job),
        candidates={"list": [as_stored(one) for one in candidates]},
        chosen_id=chosen.person.id if chosen else None,
        reason=reason,
    )
    session.add(decision)
    session.flush()
    return decision


def _inputs(order: Order, job: Job) -> Json:
    return {
        "number": order.number,
        "priority": order.priority,
        "at": job.at.isoformat(),
        "zone": job.zone,
        "skill": job.skill,
        "level": job.level,
        "site": [job.latitude, job.longitude],
        "due_at": job.due_at.isoformat() if job.due_at else None,
        "estimated_minutes": job.estimated_minutes,
        "team_id": job.team_id,
        "refused_by": sorted(job.refused_by),
        "weights": dict(scoring.WEIGHTS),
    }


def as_stored(one: Candidate) -> dict[str, Any]:
    """Return a candidate as a decision keeps it: readable without the live data."""
    person, removal = one.person, one.removal
    return {
        "account_id": person.id,
        "name": person.name,
        "open_minutes": person.open_minutes,
        "last_assigned_at": person.last_assigned_at.isoformat() if person.last_assigned_at else None,
        "removed_by": removal.by if removal else None,
        "why": removal.why if removal else None,
        "why_values": dict(removal.values) if removal else {},
        "scores": dict(one.scores),
        "total": one.total,
    }
