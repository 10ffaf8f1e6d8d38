"""The pages of work orders: the list and the board, one order with its timeline, a new one."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, Parts, needs
from api.v1 import orders as v1
from api.web import checklists, due, pages, parts
from assets.models import Asset
from kernel import clock, files, i18n
from kernel.errors import Conflict, FixwrightError, Invalid, NotFound, TooLarge, Unsupported
from maintenance.dispatch import assign, scoring
from maintenance.orders import (
    authority,
    desk,
    dictionary,
    faults,
    kinds,
    lifecycle,
    opening,
    timeline,
    urgency,
    worklist,
)
from maintenance.orders.models import Entry, Order, OrderType
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/orders")
Reader = Annotated[Viewer, needs("orders.read")]
Opener = Annotated[Viewer, needs("orders.create")]
Commenter = Annotated[Viewer, needs("orders.comment")]

PAGE = 50
COLUMN = 30
"""Cards shown in one column of the board."""
VIEWS: dict[str, tuple[str, dict[str, str]]] = {
    "open": (i18n.noop("Open orders"), {"open": "true", "sort": "priority"}),
    "unassigned": (i18n.noop("Nobody has it"), {"assignee": "none", "sort": "priority"}),
    "mine": (i18n.noop("Mine"), {"assignee": "me", "open": "true", "sort": "due"}),
    "late": (i18n.noop("Late"), {"late": "true", "sort": "due"}),
    "done": (i18n.noop("To verify"), {"phase": "done", "sort": "-finished"}),
    "all": (i18n.noop("All"), {}),
}
DONE: dict[str, str] = {
    "accept": i18n.noop("Accepted."),
    "refuse": i18n.noop("The order was given back."),
    "depart": i18n.noop("On the way."),
    "arrive": i18n.noop("Arrived."),
    "start": i18n.noop("Work has begun."),
    "pause": i18n.noop("Paused."),
    "resume": i18n.noop("Work goes on."),
    "finish": i18n.noop("Finished."),
    "verify": i18n.noop("Verified."),
    "send_back": i18n.noop("Sent back."),
    "close": i18n.noop("Closed."),
    "cancel": i18n.noop("Cancelled."),
}
"""Verb → what the next page says once."""
REPORTS = i18n.noop("Fault reports")
MOVED_ON = i18n.noop("This is not possible any more: the order has moved on. What you see now is how it stands.")


@router.get("")
def listed(
    request: Request,
    db: Db,
    viewer: Reader,
    wanted: Annotated[v1.Filter, Query()],
    view: str = "",
    after: str | None = None,
) -> Response:
    """Show orders: what is open, whose, how late? As a list, or as a board by phase."""
    if not request.query_params:
        return pages.go("/orders?" + urlencode(VIEWS["open"][1]))
    now = clock.now()
    shared: dict[str, Any] = {
        "wanted": wanted,
        "tabs": _tabs(request, viewer),
        "phases": lifecycle.PHASES,
        "priorities": urgency.PRIORITIES,
        "due": lambda order: due.shown(order, now, request.state.language),
        "view": view,
        "export_href": f"/orders/export.csv?{request.url.query}",
    }
    if view == "board":
        columns = _columns(db, viewer, wanted, now)
        return pages.render(request, "orders/board.html", columns=columns, most=COLUMN, **shared)
    asked = wanted.model_copy(update={"cursor": after, "limit": PAGE})
    rows, following = v1.page_of(db, viewer, asked, now)
    return pages.render(request, "orders/list.html", orders=rows, following=following, after=after, **shared)


def _tabs(request: Request, viewer: Viewer) -> list[dict[str, Any]]:
    """Return the ready-made views; the one whose parameters stand in the address is active."""
    kept = {key: value for key, value in request.query_params.items() if key == "view"}
    here = {key: value for key, value in request.query_params.items() if key in {"open", "assignee", "late", "phase"}}
    words = i18n.catalogue(request.state.language)
    tabs: list[dict[str, Any]] = []
    for key, (label, parameters) in VIEWS.items():
        if key == "mine" and not viewer.may("orders.work"):
            continue
        narrowed = {name: value for name, value in parameters.items() if name != "sort"}
        href = "/orders?" + urlencode({**parameters, **kept} or {"sort": "-id"})
        tabs.append({"label": words.get(label, label), "href": href, "active": here == narrowed})
    if viewer.may("requests.read"):
        tabs.append({"label": words.get(REPORTS, REPORTS), "href": "/requests", "active": False})
    return tabs


def _columns(db: Session, viewer: Viewer, wanted: v1.Filter, now: datetime) -> list[dict[str, Any]]:
    """Return one column a phase of the open orders; the paused stand with the working."""
    asked = wanted.asked(viewer)
    counts = worklist.counts(db, viewer, asked, now=now)
    rows = worklist.listed(db, viewer, asked, now=now, sort="priority", limit=COLUMN * len(counts))
    by_phase: dict[str, list[Order]] = {phase: [] for phase in counts}
    for row in rows:
        if row.phase in by_phase:
            by_phase[row.phase].append(row)
    return [
        {"phase": phase, "count": counts[phase], "orders": by_phase[phase][:COLUMN]}
        for phase in counts
        if phase != "paused" or counts[phase]
    ]


@router.get("/new")
def new(request: Request, db: Db, viewer: Opener, asset: int | None = None) -> Response:
    """Show the form of a new order, about an asset if one is named."""
    return _new(request, db, viewer, {"asset_id": asset}, {})


def _new(
    request: Request, db: Session, viewer: Viewer, values: dict[str, Any], errors: dict[str, str], status: int = 200
) -> Response:
    assets = db.scalars(
        select(Asset)
        .where(scope.visible(Asset, viewer, "orders.create"), Asset.status != "scrapped")
        .order_by(Asset.code)
        .limit(1000)
    ).all()
    known = db.scalars(select(OrderType).where(OrderType.company_id == viewer.company_id)).all()
    lang = request.state.language
    offered = {kind.key: kind.called(lang) for kind in known}
    for key, built_in in kinds.BUILT_IN.items():
        name = built_in["name_zh"] if lang == "zh" else built_in["name"]
        offered.setdefault(key, str(name))
    return pages.render(
        request,
        "orders/new.html",
        status=status,
        assets=assets,
        kinds=sorted(offered.items()),
        priorities=urgency.PRIORITIES,
        values=values,
        errors=errors,
    )


@router.post("")
def open_order(
    *,
    request: Request,
    db: Db,
    viewer: Opener,
    asset_id: Annotated[int, Form()],
    title: Annotated[str, Form()] = "",
    description: Annotated[str, Form()] = "",
    kind: Annotated[str, Form()] = "corrective",
    priority: Annotated[int, Form()] = 3,
) -> Response:
    """Open an order by hand."""
    values = {"asset_id": asset_id, "title": title, "description": description, "kind": kind, "priority": priority}
    try:
        asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
        scope.require(db, viewer, "orders.create", asset.unit_id)
        draft = opening.about(
            asset, origin="person", title=title, description=description, kind=kind, priority=priority
        )
        order = opening.open_order(db, draft, actor=viewer.actor, now=clock.now())
    except Invalid as error:
        db.rollback()
        return _new(request, db, viewer, values, said(request, error), 422)
    return pages.go(f"/orders/{order.id}", notice=i18n.noop("Order {number} is open."), number=order.number)


@router.get("/{order_id}")
def order(request: Request, db: Db, viewer: Reader, order_id: int) -> Response:
    """Show one order: what happened, what is next?"""
    return _order(request, db, viewer, order_id)


def _order(
    request: Request,
    db: Session,
    viewer: Viewer,
    order_id: int,
    *,
    errors: dict[str, str] | None = None,
    values: dict[str, Any] | None = None,
    status: int = 200,
) -> Response:
    row = worklist.whole(db, order_id, viewer)
    shown = context_of(request, db, row, viewer)
    decisions = assign.decisions(db, row)
    return pages.render(
        request,
        "orders/order.html",
        status=status,
        errors=errors or {},
        values=values or {},
        decision=decisions[0] if decisions else None,
        decisions=decisions,
        filters=scoring.FILTERS,
        objectives=scoring.OBJECTIVES,
        steps=_line(row),
        **shown,
    )


def context_of(request: Request, db: Session, row: Order, viewer: Viewer) -> dict[str, Any]:
    """Return what every page of one order shows of it, on the desk and on the phone."""
    now = clock.now()
    possible = authority.possible(viewer, row, desk.path_of(db, row))
    times = desk.times_of(row)
    return {
        "order": row,
        "due": due.shown(row, now, request.state.language),
        "entries": timeline.of_order(db, row),
        "possible": possible,
        "next_step": _next_step(row, viewer, possible),
        "signal_is_active": faults.signal_is_active(db, row),
        "needs": {verb: lifecycle.required(verb, row.type.requires, signal_is_abnormal=False) for verb in possible},
        "findings": lifecycle.FINDINGS,
        "priorities": urgency.PRIORITIES,
        "may_comment": viewer.may_at("orders.comment", desk.path_of(db, row)),
        "worked": lifecycle.worked(times, now),
        "travelled": lifecycle.travelled(times),
        "siblings": [one for one in _siblings(db, row, viewer) if one.id != row.id],
        "meaning": dictionary.of_alarm(db, row.alarm) if row.alarm else None,
        "alarm_code": None,
        **parts.order_context(db, row, viewer),
        **checklists.order_context(db, row, viewer),
    }


def _next_step(row: Order, viewer: Viewer, possible: Sequence[str]) -> str | None:
    """Return the one step that is next for who looks; the work itself is the assignee's, not the desk's."""
    following = lifecycle.NEXT.get(row.phase)
    if following is None or following not in possible:
        return None
    is_work = authority.RIGHT_OF[following] == "orders.work"
    return None if is_work and row.assignee_id != viewer.account_id else following


def _siblings(db: Session, row: Order, viewer: Viewer) -> Sequence[Order]:
    """Return the other open orders of the asset, so that two people do not come for one machine unawares."""
    if row.asset_id is None:
        return ()
    wanted = worklist.Wanted(asset_id=row.asset_id, is_open=True)
    return worklist.listed(db, viewer, wanted, now=clock.now(), limit=6)


def _line(row: Order) -> list[dict[str, Any]]:
    """Return the life of an order as a line of steps."""
    moments = {
        "new": row.created_at,
        "assigned": row.assigned_at,
        "accepted": row.accepted_at,
        "travelling": row.departed_at,
        "on_site": row.arrived_at,
        "working": row.started_at,
        "done": row.finished_at,
        "verified": row.verified_at,
        "closed": row.closed_at if row.phase == "closed" else None,
    }
    here = "working" if row.phase == "paused" else row.phase
    if here == "cancelled":
        taken = [{"key": key, "at": at, "state": "done"} for key, at in moments.items() if at is not None]
        return [*taken, {"key": "cancelled", "at": row.closed_at, "state": "current"}]
    place = lifecycle.LINE.index(here)
    return [
        {
            "key": row.phase if key == here else key,
            "at": moments[key] if number <= place else None,
            "state": "done" if number < place else "current" if number == place else "ahead",
        }
        for number, key in enumerate(lifecycle.LINE)
    ]


@router.post("/{order_id}/comments")
def comment(
    request: Request,
    db: Db,
    viewer: Commenter,
    order_id: int,
    text: Annotated[str, Form()] = "",
    is_public: Annotated[bool, Form()] = False,  # noqa: FBT002 - a box of a form
) -> Response:
    """Say something about an order."""
    try:
        found = v1.commentable(db, viewer, order_id)
        timeline.comment(db, found, text, actor=viewer.actor, now=clock.now(), is_public=is_public)
    except Invalid as error:
        db.rollback()
        return _order(request, db, viewer, order_id, errors=said(request, error), values={"text": text}, status=422)
    return pages.go(f"/orders/{order_id}#timeline")


@router.post("/{order_id}/photos")
def photos(
    request: Request,
    db: Db,
    viewer: Commenter,
    process: Parts,
    order_id: int,
    photos: Annotated[list[UploadFile], File()],
) -> Response:
    """Add pictures to an order."""
    try:
        v1.keep_photos(db, process, v1.commentable(db, viewer, order_id), photos, viewer)
    except (Invalid, TooLarge, Unsupported) as error:
        db.rollback()
        return _order(request, db, viewer, order_id, errors=said(request, error), status=422)
    return pages.go(f"/orders/{order_id}#timeline")


@router.get("/{order_id}/photos/{entry_id}")
def photo(db: Db, viewer: Reader, process: Parts, order_id: int, entry_id: int, size: str = "view") -> Response:
    """Show a picture of an order's timeline, re-encoded."""
    scope.find(db, Order, order_id, viewer, "orders.read")
    entry = db.get(Entry, entry_id)
    if entry is None or entry.order_id != order_id or entry.file is None:
        raise NotFound("There is no such picture.")
    path = files.shown(process.files, entry.file, size)
    return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})


def _step_of(verb: str) -> Callable[..., Response]:
    """Return the route of one step of an order's life."""

    def step(request: Request, db: Db, viewer: Reader, order_id: int, words: Annotated[v1.StepIn, Form()]) -> Response:
        refused = take(db, viewer, order_id, verb, words)
        if refused is not None:
            values = {**words.model_dump(), "verb": verb}
            status = 409 if isinstance(refused, Conflict) else 422
            return _order(request, db, viewer, order_id, errors=said(request, refused), values=values, status=status)
        return pages.go(f"/orders/{order_id}", notice=DONE[verb])

    return step


# One address a verb, so that other features may have addresses below an order too.
for _verb in DONE:
    router.add_api_route(f"/{{order_id}}/{_verb}", _step_of(_verb), methods=["POST"], name=f"order_{_verb}")


def take(db: Session, viewer: Viewer, order_id: int, verb: str, words: v1.StepIn) -> FixwrightError | None:
    """Take a step for a page; return what is wrong, with nothing changed, instead of raising it."""
    try:
        desk.act(db, order_id, verb, viewer, now=clock.now(), **words.model_dump())
    except Conflict:
        db.rollback()
        return Conflict(MOVED_ON)
    except Invalid as error:
        db.rollback()
        return error
    return None


def said(request: Request, error: FixwrightError) -> dict[str, str]:
    """Return an error as a form shows it: field → sentence; ``form`` where no field is to blame."""
    sentence = i18n.catalogue(request.state.language).get(error.sentence, error.sentence)
    return {error.field or "form": sentence.format(**error.values) if error.values else sentence}
