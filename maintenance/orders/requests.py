"""Fault reports: made by scanning a label or by a person, and what becomes of them.

A report becomes an order at once, joins one, or waits for triage, as its kind of work says (``kinds``). All its
words, photos and contact move along, in both directions: the order shows the report, the report its order, and
whoever reported is told each decision on the tracking page.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from assets.models import Asset
from kernel import audit, events, ids, numbering
from kernel.db import Json
from kernel.errors import Conflict, Invalid, NotFound
from kernel.models import File
from maintenance.orders import desk, faults, kinds, lifecycle, opening, timeline, urgency
from maintenance.orders.events import RequestDecided, RequestMade
from maintenance.orders.models import Entry, Order, Request
from people import scope
from people.scope import Viewer
from rules.models import Alarm

WAITING = ("new", "held")
TRACKED_FOR = timedelta(days=90)
LONGEST = 2000
KIND = "corrective"
"""The kind of work a report becomes, and whose setting decides over its triage."""
_KINDS = {"trend": "inspection"}
"""Origin → the kind of work that a request of it becomes, where it is another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A fault in the words of whoever noticed it, and how to reach them."""

    what: str
    what_zh: str | None = None
    contact_name: str | None = None
    contact_phone: str | None = None
    contact_email: str | None = None
    language: str = "en"


@dataclass(frozen=True, slots=True)
class Made:
    """A request and the secret of its tracking link, which is shown now and never again."""

    request: Request
    token: str


def make(
    session: Session,
    asset: Asset,
    report: Report,
    *,
    origin: str,
    actor: str,
    now: datetime,
    photos: Sequence[File] = (),
    known: Order | None = None,
    is_proposal: bool = False,
) -> Made:
    """Take a report on an asset and let it become an order, join one or wait, in this transaction.

    ``origin`` is ``scan``, ``person``, ``mail`` …; ``known`` is the open order of the asset that the reporter
    recognised as the same fault. A proposal is no fault: it waits whatever the kind of work says, and becomes an
    inspection.

    Raises:
        Invalid: nothing is said, or too much.
    """
    what = report.what.strip()
    if not what:
        raise Invalid("Please say what is wrong.", field="what")
    if len(what) > LONGEST:
        raise Invalid("Please write at most {most} characters.", field="what", most=LONGEST)
    faults.hold_subject(session, f"asset:{asset.id}")
    request, token = _write_down(session, asset, report, what, origin=origin, now=now)
    words = _in_both(request)
    timeline.write(
        session, request, "comment", actor=actor, now=now, text=words, is_public=True, detail={"what": "report"}
    )
    for file in photos:
        timeline.write(session, request, "photo", actor=actor, now=now, is_public=True, file=file)
    _audit(session, request, "make", actor, now, after={"number": request.number, "asset_id": asset.id})
    _emit(session, request, RequestMade(request.id), actor, now)
    if not is_proposal:
        _settle(session, request, known, now)
    return Made(request, token)


def _write_down(
    session: Session, asset: Asset, report: Report, what: str, *, origin: str, now: datetime, alarm: Alarm | None = None
) -> tuple[Request, str]:
    token = ids.token()
    request = Request(
        company_id=asset.company_id,
        unit_id=asset.unit_id,
        number=f"RQ-{now.year}-{numbering.draw(session, f'request/{asset.company_id}/{now.year}'):06}",
        origin=origin,
        asset=asset,
        what=what,
        what_zh=_cut(report.what_zh, LONGEST),
        contact_name=_cut(report.contact_name, 100),
        contact_phone=_cut(report.contact_phone, 40),
        contact_email=_cut(report.contact_email, 200),
        language=report.language,
        created_at=now,
        track_hash=ids.fingerprint(token),
        track_expires_at=now + TRACKED_FOR,
        alarm_id=alarm.id if alarm else None,
        fault_key=fault_key(alarm) if alarm else None,
    )
    session.add(request)
    session.flush()
    return request, token


def fault_key(alarm: Alarm) -> str:
    """Return what names the fault behind an alarm, the same for every raise of it."""
    return f"{alarm.subject}/{alarm.type_key}"


def suggest(session: Session, asset: Asset) -> Order | None:
    """Return the open order of an asset that a report most likely belongs to: the most urgent, then the newest."""
    return next(iter(faults.open_of_asset(session, asset.id)), None)


def find(session: Session, request_id: int, viewer: Viewer) -> Request:
    """Return a request that the viewer may triage, locked until the transaction ends.

    Raises:
        NotFound: it does not exist or lies outside the viewer's sight.
    """
    seen = scope.find(session, Request, request_id, viewer, "requests.read")
    scope.require(session, viewer, "requests.triage", seen.unit_id)
    request = session.get(Request, seen.id, with_for_update=True, populate_existing=True)
    if request is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return request


def accept(
    session: Session,
    request: Request,
    *,
    actor: str,
    now: datetime,
    priority: int | None = None,
    title: str | None = None,
) -> Order:
    """Make a waiting request an order.

    Raises:
        Conflict: it has been decided already.
    """
    _require_waiting(request)
    asset = request.asset
    if request.fault_key is not None:
        faults.hold_subject(session, f"asset:{asset.id}")
        if (known := faults.open_of_fault(session, request.fault_key)) is not None:
            # The alarm got worse and opened its order while a person was reading: one fault, one order (P3).
            return join(session, request, known, actor=actor, now=now)
    in_english, in_chinese = _first_line(request.what), _first_line(request.what_zh or request.what)
    title = title or in_english
    is_as_reported = title in (in_english, in_chinese)
    draft = opening.about(
        asset,
        origin=request.origin,
        title=in_english if is_as_reported else title,
        title_zh=in_chinese if request.what_zh and is_as_reported else None,
        description=_in_both(request),
        kind=_KINDS.get(request.origin, KIND),
        priority=priority or urgency.of_report(asset.criticality),
        alarm_id=request.alarm_id,
        fault_key=request.fault_key,
    )
    order = opening.open_order(session, draft, actor=actor, now=now)
    _move_along(session, request, order, "accepted", actor, now)
    return order


def join(session: Session, request: Request, order: Order, *, actor: str, now: datetime) -> Order:
    """Add a waiting request to an open order of the same asset: another report of one fault.

    Raises:
        Conflict: the request has been decided already, or the order has ended.
        Invalid: the order is about another asset.
    """
    _require_waiting(request)
    order = desk.locked(session, order.id)
    if order.asset_id != request.asset_id:
        raise Invalid("This order is about another asset.", field="order_id")
    if order.phase in lifecycle.ENDED:
        raise Conflict("This order has ended. Accept the request as a new order instead.")
    desk.join(session, order, times=1, seen_at=request.created_at, actor=actor, now=now)
    _move_along(session, request, order, "joined", actor, now)
    return order


def hold(session: Session, request: Request, *, reason: str, actor: str, now: datetime) -> Request:
    """Put a request aside until something is known; the reporter reads the reason.

    Raises:
        Conflict: it has been decided already.
        Invalid: no reason is given.
    """
    return _decide(session, request, "held", _reason(reason), actor, now)


def decline(session: Session, request: Request, *, reason: str, actor: str, now: datetime) -> Request:
    """Decline a request; the reporter reads the reason.

    Raises:
        Conflict: it has been decided already.
        Invalid: no reason is given.
    """
    return _decide(session, request, "declined", _reason(reason), actor, now)


def withdraw(session: Session, request: Request, *, actor: str, now: datetime) -> Request:
    """Take a waiting request back, by whoever made it.

    Raises:
        Conflict: it has been decided already.
    """
    return _decide(session, request, "withdrawn", None, actor, now)


def _settle(session: Session, request: Request, known: Order | None, now: datetime) -> None:
    """Decide over a new request as far as no person is needed (see ``kinds``)."""
    kind = kinds.of(session, request.company_id, KIND)
    waits = kinds.setting(kind, "triage", ("open_order",))
    if known is not None:
        known = desk.locked(session, known.id)
        if known.asset_id == request.asset_id and known.phase not in lifecycle.ENDED:
            join(session, request, known, actor="system", now=now)
            return
    suggested = suggest(session, request.asset)
    if "always" in waits or (suggested is not None and "open_order" in waits):
        return
    if suggested is None:
        accept(session, request, actor="system", now=now)
    else:
        join(session, request, suggested, actor="system", now=now)


def _move_along(session: Session, request: Request, order: Order, state: str, actor: str, now: datetime) -> None:
    request.order_id = order.id
    session.flush()
    session.execute(update(Entry).where(Entry.request_id == request.id).values(order_id=order.id))
    _decide(session, request, state, None, actor, now)


def _decide(session: Session, request: Request, state: str, reason: str | None, actor: str, now: datetime) -> Request:
    _require_waiting(request)
    before = request.state
    request.state, request.reason = state, reason
    request.decided_at, request.decided_by = now, actor
    session.flush()
    detail: Json = {"verb": state, "before": before, "after": state}
    timeline.write(session, request, "move", actor=actor, now=now, text=reason or "", detail=detail, is_public=True)
    _audit(session, request, state, actor, now, before={"state": before}, after={"state": state, "reason": reason})
    _emit(session, request, RequestDecided(request.id, state), actor, now)
    return request


def _require_waiting(request: Request) -> None:
    if request.state not in WAITING:
        raise Conflict("This request has been decided already: it is {state}.", state=request.state)


def _reason(reason: str) -> str:
    if not reason.strip():
        raise Invalid("Please give a reason.", field="reason")
    return reason.strip()[:500]


def _first_line(what: str) -> str:
    return what.strip().splitlines()[0][:120]


def _in_both(request: Request) -> str:
    """Return what is reported for where there is one text only: whoever reads it may read either language."""
    return "\n".join(filter(None, (request.what, request.what_zh)))


def _cut(text: str | None, most: int) -> str | None:
    return (text or "").strip()[:most] or None


def waiting(session: Session, viewer: Viewer, *, limit: int = 100) -> Sequence[Request]:
    """Return the requests within the viewer's sight that wait for a decision, the oldest first."""
    return session.scalars(
        select(Request)
        .where(scope.visible(Request, viewer, "requests.read"), Request.state.in_(WAITING))
        .order_by(Request.id)
        .limit(limit)
    ).all()


def _audit(
    session: Session, request: Request, verb: str, actor: str, now: datetime, *, after: Json, before: Json | None = None
) -> None:
    audit.record(
        session,
        f"request.{verb}",
        subject=f"request:{request.id}",
        actor=actor,
        at=now,
        before=before,
        after=after,
        company_id=request.company_id,
    )


def _emit(session: Session, request: Request, happening: object, actor: str, now: datetime) -> None:
    events.emit(session, happening, subject=f"request:{request.id}", at=now, actor=actor, unit_id=request.unit_id)


# Reports that alarms make ------------------------------------------------------------------------------------------


def from_alarm(session: Session, alarm: Alarm, *, told: Json, now: datetime) -> Request:
    """Let an alarm of an asset be a report that waits for a person, or count it in the one of its fault that waits.

    ``told`` is by which line of the policy; the caller holds the alarm's subject.
    """
    if alarm.asset is None:
        raise Invalid("A fault report is about an asset.", field="asset_id")
    known = _waiting_of(session, fault_key(alarm))
    if known is not None:
        known.alarm_id = alarm.id
        _note(session, known, {"what": "again", "alarm_id": alarm.id, "times": 1}, now)
        return known
    kind = alarm.alarm_type
    what = alarm.message or (kind.name if kind else alarm.type_key)
    report = Report(what=what[:LONGEST], what_zh=kind.name_zh if kind and not alarm.message else None)
    request, _ = _write_down(session, alarm.asset, report, report.what, origin="alarm", now=now, alarm=alarm)
    raised: Json = {"what": "raised", "alarm_id": alarm.id, "severity": alarm.severity, "message": alarm.message}
    values: Json = {"metric": alarm.metric, "value": alarm.value, "limit": alarm.limit, "policy": told}
    _note(session, request, raised | values, now)
    _audit(session, request, "make", "system", now, after={"number": request.number, "alarm_id": alarm.id})
    _emit(session, request, RequestMade(request.id), "system", now)
    return request


def join_waiting(session: Session, order: Order, now: datetime) -> None:
    """Add the waiting report of an order's fault, if an alarm made one before it was bad enough for an order."""
    request = _waiting_of(session, order.fault_key) if order.fault_key else None
    if request is not None:
        _move_along(session, request, order, "joined", "system", now)


def note_cleared(session: Session, alarm: Alarm, now: datetime) -> None:
    """Note in the waiting report of a fault that its signal is back to normal; whether it is over, a person says."""
    request = _waiting_of(session, fault_key(alarm))
    if request is not None and request.alarm_id == alarm.id:
        _note(session, request, {"what": "cleared", "alarm_id": alarm.id}, now)


def waiting_among(session: Session, keys: Collection[str]) -> set[str | None]:
    """Return which of these faults have a report that waits."""
    return set(session.scalars(select(Request.fault_key).where(Request.fault_key.in_(set(keys)), is_waiting())))


def is_waiting() -> ColumnElement[bool]:
    """Return the condition that a report waits for somebody's decision."""
    return Request.state.in_(WAITING)


def _waiting_of(session: Session, key: str) -> Request | None:
    return session.scalars(
        select(Request).where(Request.fault_key == key, is_waiting()).with_for_update(of=Request)
    ).one_or_none()


def _note(session: Session, request: Request, detail: Json, now: datetime) -> None:
    timeline.write(session, request, "alarm", actor="system", now=now, detail=detail)
