"""Assigns orders: by the machine when they open or come back, by hand with a reason where a filter says no.

Every decision is stored with what was known, who was considered, who was filtered by what, and the scores, so
that it can be read next year without the live data (SEMANTICS D8). When nobody fits, the order stays in the
queue with the reasons, a person is told, and dispatch looks again as shifts begin (D5).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.orm import Session, selectinload

from kernel import db, events, i18n
from kernel.db import Json
from kernel.errors import Invalid, Stale
from maintenance.dispatch import crowd, pool, scoring
from maintenance.dispatch.crowd import Crowd
from maintenance.dispatch.models import Decision
from maintenance.dispatch.scoring import Candidate, Job
from maintenance.orders import authority, desk, faults, kinds, timeline
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


def on_many_opened(session: Session, happenings: Sequence[OrderOpened], now: datetime) -> None:
    """Look for somebody for orders that were just opened, one after the other; the people are asked for once."""
    dispatch_all(session, desk.all_locked(session, [one.order_id for one in happenings]), now)


def on_needs_dispatch(session: Session, event: OrderNeedsDispatch, now: datetime) -> None:
    """Look again for an order that was refused, reopened, or not taken from the pool in time."""
    dispatch(session, desk.locked(session, event.order_id), now)


def dispatch(session: Session, order: Order, now: datetime) -> Decision | None:
    """Assign a locked order that has nobody, offer it to the pool, or leave it in the queue with the reason."""
    return dispatch_all(session, [order], now).get(order.id)


def dispatch_all(session: Session, orders: Sequence[Order], now: datetime) -> dict[int, Decision]:
    """Dispatch locked orders in their order, each knowing what was given before it; return the decisions by order."""
    waiting = [order for order in orders if order.phase == "new" and not order.in_pool]
    turn = _Turn(session, {order.company_id for order in waiting}, now)
    verdicts = []
    for order in waiting:
        job, candidates = turn.consider(order)
        chosen = scoring.choice(candidates)
        if len(order.refused_by) >= MOST_REFUSALS or chosen is None:
            verdicts.append(_Verdict(order, job, candidates, None))
        elif order.pool_until is None and "pool" in kinds.setting(order.type, "dispatch"):
            pool.offer(session, order, actor="system", now=now)
        else:
            verdicts.append(_Verdict(order, job, candidates, chosen))
            turn.give(chosen, order)
    return _carry_out(session, verdicts, now)


def retry(session: Session, now: datetime, *, limit: int = 500) -> int:
    """Look again for orders nobody fitted, most urgent first; return how many found somebody (run by a tick).

    At most ``AT_ONCE`` of one company are decided, so that nobody waits long for the turn to decide: whoever calls
    does so again, in a transaction of its own, while somebody was found. ``limit`` orders are looked at, then as many
    more, until somebody is found: those for whom nobody comes do not stand before the others.
    """
    is_waiting = (
        (Order.phase == "new")
        & ~Order.in_pool
        & (func.cardinality(Order.refused_by) < MOST_REFUSALS)
        & faults.is_open()
    )
    urgent_first = select(Order).where(is_waiting).order_by(Order.priority, Order.id)
    urgent_first = urgent_first.options(selectinload(Order.site))
    hopeful = _hopeful(session, urgent_first, limit, now)
    if not hopeful:
        return 0
    turn = _Turn(session, {hopeful[0].company_id}, now)
    mine = urgent_first.where(Order.id.in_([order.id for order in hopeful])).with_for_update(skip_locked=True)
    verdicts = []
    for order in session.scalars(mine.execution_options(populate_existing=True)).all():
        job, candidates = turn.consider(order)
        if (chosen := scoring.choice(candidates)) is not None:
            verdicts.append(_Verdict(order, job, candidates, chosen))
            turn.give(chosen, order)
    _carry_out(session, verdicts, now)
    return len(verdicts)


def _hopeful(session: Session, urgent_first: Select[Order], limit: int, now: datetime) -> list[Order]:
    """Return the first of the orders that somebody fits now, all of one company. Nothing is locked or decided.

    Orders that ask for the same are judged once: thousands may wait for the one welder who is on leave.
    """
    found: list[Order] = []
    crowds: dict[int, Crowd] = {}
    paths: dict[int, str] = {}
    judged: dict[tuple[int, str, Job], bool] = {}
    wanted = urgent_first
    while len(found) < AT_ONCE and (page := session.scalars(wanted.limit(limit)).all()):
        for order in page:
            if found and order.company_id != found[0].company_id:
                continue
            if order.company_id not in crowds:
                crowds[order.company_id] = crowd.gather(session, order.company_id, now)
            if order.unit_id not in paths:
                paths[order.unit_id] = desk.path_of(session, order)
            job, path = crowd.job_of(session, order, now), paths[order.unit_id]
            # Where it lies and until when speaks for or against nobody, it only ranks.
            asked = (order.company_id, path, replace(job, latitude=None, longitude=None, due_at=None))
            if asked not in judged:
                judged[asked] = any(scoring.removal(job, one) is None for one in crowds[order.company_id].at(path))
            if judged[asked]:
                found.append(order)
            if len(found) == AT_ONCE:
                break
        wanted = urgent_first.where(tuple_(Order.priority, Order.id) > (page[-1].priority, page[-1].id))
    return found


class _Turn:
    """The turn to decide in some companies, and their people as each decision changes them.

    One decision at a time is made in a company: two at once would both find the same person idle.
    """

    def __init__(self, session: Session, company_ids: Collection[int], now: datetime) -> None:
        self._session = session
        self._now = now
        for company_id in sorted(company_ids):
            session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"dispatch {company_id}", 0))))
        self._known = {company_id: crowd.gather(session, company_id, now) for company_id in company_ids}
        self._paths: dict[int, str] = {}

    def consider(self, order: Order) -> tuple[Job, tuple[Candidate, ...]]:
        """Return what is known of an order and everybody who could have it, ranked."""
        if order.unit_id not in self._paths:
            self._paths[order.unit_id] = desk.path_of(self._session, order)
        job = crowd.job_of(self._session, order, self._now)
        return job, scoring.rank(job, self._known[order.company_id].at(self._paths[order.unit_id]))

    def give(self, chosen: Candidate, order: Order) -> None:
        """Let the next decisions know that somebody gets this order."""
        self._known[order.company_id] = self._known[order.company_id].given(chosen.person.id, order, self._now)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What the machine decides of an order: who gets it, or None: a person has to decide."""

    order: Order
    job: Job
    candidates: Sequence[Candidate]
    chosen: Candidate | None


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
    verdict = _Verdict(order, job, candidates, chosen)
    decision = _decide(session, verdict, mode="by_hand", by=viewer.actor, reason=reason or BY_HAND, now=now)
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
    verdict = _Verdict(order, job, (chosen,), chosen)
    decision = _decide(session, verdict, mode="grabbed", by=viewer.actor, reason=GRABBED, now=now)
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


def _carry_out(session: Session, verdicts: Sequence[_Verdict], now: datetime) -> dict[int, Decision]:
    """Store decisions, give the orders to those chosen, and say which wait for a person."""
    decided = {
        one.order.id: _decision(one, mode="automatic", by="system", reason=_why(one), now=now) for one in verdicts
    }
    db.add_many(session, list(decided.values()))
    session.flush()
    chosen = {one.order.id: one.chosen.person.id for one in verdicts if one.chosen is not None}
    accounts = {one.id: one for one in session.scalars(select(Account).where(Account.id.in_(set(chosen.values()))))}
    gifts = [
        desk.Gift(one.order, accounts[chosen[one.order.id]], decided[one.order.id].id)
        for one in verdicts
        if one.order.id in chosen
    ]
    if gifts:
        desk.give_all(session, gifts, "assign", actor="system", now=now)
    _strand(session, [(one.order, decided[one.order.id]) for one in verdicts if one.chosen is None], now)
    return decided


def _why(verdict: _Verdict) -> str:
    if verdict.chosen is not None:
        return BEST
    return REFUSED_TOO_OFTEN if len(verdict.order.refused_by) >= MOST_REFUSALS else NOBODY_FITS


def _strand(session: Session, stranded: Sequence[tuple[Order, Decision]], now: datetime) -> None:
    lines = [
        timeline.Line(
            order, "dispatch", detail={"what": "stranded", "decision_id": decision.id, "why": decision.reason}
        )
        for order, decision in stranded
    ]
    timeline.write_all(session, lines, actor="system", now=now)
    told = [
        events.Emission(OrderStranded(order.id, decision.id), f"order:{order.id}", "system", order.unit_id)
        for order, decision in stranded
    ]
    events.emit_all(session, told, at=now)


def _decision(verdict: _Verdict, *, mode: str, by: str, reason: str, now: datetime) -> Decision:
    return Decision(
        order_id=verdict.order.id,
        at=now,
        mode=mode,
        by=by,
        inputs=_inputs(verdict.order, verdict.job),
        candidates={"list": [as_stored(one) for one in verdict.candidates]},
        chosen_id=verdict.chosen.person.id if verdict.chosen else None,
        reason=reason,
    )


def _decide(session: Session, verdict: _Verdict, *, mode: str, by: str, reason: str, now: datetime) -> Decision:
    decision = _decision(verdict, mode=mode, by=by, reason=reason, now=now)
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
