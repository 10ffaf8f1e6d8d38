"""The triage of fault reports: what waits, whether its fault is known already, and what becomes of it."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import FileResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from api.access import Db, Parts, needs
from api.web import pages
from api.web.orders import said
from kernel import clock, files, i18n
from kernel.errors import Conflict, Invalid, NotFound
from maintenance.orders import faults, requests, timeline, urgency
from maintenance.orders.models import Entry, Order
from maintenance.orders.models import Request as Report
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/requests")
Reader = Annotated[Viewer, needs("requests.read")]
Triager = Annotated[Viewer, needs("requests.triage")]
LATELY = 20


@router.get("")
def listed(request: Request, db: Db, viewer: Reader) -> Response:
    """Show which reports wait for a decision, and which were decided lately."""
    within = scope.visible(Report, viewer, "requests.read")
    loaded = (joinedload(Report.asset), joinedload(Report.order))
    waiting = db.scalars(
        select(Report).where(within, Report.state.in_(requests.WAITING)).order_by(Report.id).limit(200).options(*loaded)
    ).all()
    decided = db.scalars(
        select(Report)
        .where(within, Report.state.not_in(requests.WAITING))
        .order_by(Report.id.desc())
        .limit(LATELY)
        .options(*loaded)
    ).all()
    return pages.render(request, "requests/list.html", waiting=waiting, decided=decided)


@router.get("/{request_id}")
def report(request: Request, db: Db, viewer: Reader, request_id: int) -> Response:
    """Show one report beside what is known of its asset."""
    return _report(request, db, viewer, request_id)


def _report(
    request: Request, db: Session, viewer: Viewer, request_id: int, errors: dict[str, str] | None = None
) -> Response:
    row = scope.find(db, Report, request_id, viewer, "requests.read")
    return pages.render(
        request,
        "requests/request.html",
        status=422 if errors else 200,
        report=row,
        entries=timeline.of_request(db, row),
        known=faults.open_of_asset(db, row.asset_id) if viewer.may("orders.read") else (),
        is_waiting=row.state in requests.WAITING,
        may_triage=viewer.may("requests.triage"),
        priorities=urgency.PRIORITIES,
        priority=urgency.of_report(row.asset.criticality),
        errors=errors or {},
    )


@router.post("/{request_id}/accept")
def accept(
    request: Request,
    db: Db,
    viewer: Triager,
    request_id: int,
    priority: Annotated[int, Form()] = 3,
    title: Annotated[str, Form()] = "",
) -> Response:
    """Make a report an order."""

    def decide(row: Report) -> Response:
        order = requests.accept(db, row, actor=viewer.actor, now=clock.now(), priority=priority, title=title or None)
        return pages.go(f"/orders/{order.id}", notice=i18n.noop("Order {number} is open."), number=order.number)

    return _decided(request, db, viewer, request_id, decide)


@router.post("/{request_id}/join")
def join(request: Request, db: Db, viewer: Triager, request_id: int, order_id: Annotated[int, Form()]) -> Response:
    """Add a report to an open order of the same asset."""

    def decide(row: Report) -> Response:
        order = scope.find(db, Order, order_id, viewer, "orders.read")
        requests.join(db, row, order, actor=viewer.actor, now=clock.now())
        return pages.go(f"/orders/{order.id}", notice=i18n.noop("Added to {number}."), number=order.number)

    return _decided(request, db, viewer, request_id, decide)


@router.post("/{request_id}/hold")
def hold(request: Request, db: Db, viewer: Triager, request_id: int, reason: Annotated[str, Form()] = "") -> Response:
    """Put a report aside."""

    def decide(row: Report) -> Response:
        requests.hold(db, row, reason=reason, actor=viewer.actor, now=clock.now())
        return pages.go("/requests", notice=i18n.noop("{number} is on hold."), number=row.number)

    return _decided(request, db, viewer, request_id, decide)


@router.post("/{request_id}/decline")
def decline(
    request: Request, db: Db, viewer: Triager, request_id: int, reason: Annotated[str, Form()] = ""
) -> Response:
    """Decline a report."""

    def decide(row: Report) -> Response:
        requests.decline(db, row, reason=reason, actor=viewer.actor, now=clock.now())
        return pages.go("/requests", notice=i18n.noop("{number} was declined."), number=row.number)

    return _decided(request, db, viewer, request_id, decide)


@router.get("/{request_id}/photos/{entry_id}")
def photo(db: Db, viewer: Reader, parts: Parts, request_id: int, entry_id: int, size: str = "view") -> Response:
    """Show a picture that came with a report, re-encoded."""
    scope.find(db, Report, request_id, viewer, "requests.read")
    entry = db.get(Entry, entry_id)
    if entry is None or entry.request_id != request_id or entry.file is None:
        raise NotFound("There is no such picture.")
    path = files.shown(parts.files, entry.file, size)
    return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})


def _decided(
    request: Request, db: Session, viewer: Viewer, request_id: int, decide: Callable[[Report], Response]
) -> Response:
    """Decide over a report, or show its page again with what is wrong."""
    try:
        return decide(requests.find(db, request_id, viewer))
    except (Invalid, Conflict) as error:
        db.rollback()
        return _report(request, db, viewer, request_id, said(request, error))
