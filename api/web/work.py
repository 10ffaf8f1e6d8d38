"""The technician's phone: my day in the order to do it, and the work itself with the one step that is next."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.access import Db, Parts, SignedIn, needs
from api.v1 import orders as v1
from api.web import dispatch, due, orders, pages
from kernel import clock, i18n
from kernel.errors import Conflict, Invalid, TooLarge, Unsupported
from maintenance.dispatch import pool
from maintenance.orders import lifecycle, timeline, worklist
from maintenance.orders.models import Order
from people.models import Account
from people.scope import Viewer

router = APIRouter()
Reader = Annotated[Viewer, needs("orders.read")]
Worker = Annotated[Viewer, needs("orders.work")]
Commenter = Annotated[Viewer, needs("orders.comment")]
STEPS = ("accept", "refuse", "depart", "arrive", "start", "pause", "resume", "finish")
LEAVING = frozenset({"refuse", "finish"})
"""After these steps there is nothing left to do here."""
Degrees = Annotated[float, Form(ge=-180, le=180)]


@router.get("/my")
def day(request: Request, db: Db, viewer: Worker) -> Response:
    """Show where to go now: what is under way, then what comes next, then what may be taken."""
    now = clock.now()
    mine = worklist.of_day(db, viewer)
    done = db.scalar(
        select(func.count()).where(
            Order.assignee_id == viewer.account_id,
            Order.phase.in_(("done", "verified", "closed")),
            Order.finished_at >= now - timedelta(hours=12),
        )
    )
    return pages.render(
        request,
        "work/day.html",
        first=mine[0] if mine else None,
        rest=mine[1:],
        offered=pool.open_to(db, viewer, now),
        finished=done or 0,
        due=lambda order: due.shown(order, now, request.state.language),
        next_of=lifecycle.NEXT,
    )


@router.post("/my/position")
def position(db: Db, viewer: SignedIn, latitude: Degrees, longitude: Degrees) -> Response:
    """Note where a technician is, WGS-84, so that dispatch can send who is near; kept once, without a history."""
    if not -90 <= latitude <= 90:  # noqa: PLR2004 - the poles
        raise Invalid("A latitude lies between -90 and 90.", field="latitude")
    account = db.get_one(Account, viewer.account_id)
    account.latitude, account.longitude, account.position_at = latitude, longitude, clock.now()
    return Response(status_code=204)


@router.get("/jobs/{order_id}")
def work(request: Request, db: Db, viewer: Reader, order_id: int) -> Response:
    """Show what to do here."""
    return _work(request, db, viewer, order_id)


def _work(
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
    earlier = worklist.listed(
        db,
        viewer,
        worklist.Wanted(asset_id=row.asset_id, is_open=False),
        now=clock.now(),
        sort="-finished",
        limit=5,
    )
    return pages.render(
        request,
        "work/work.html",
        status=status,
        errors=errors or {},
        values=values or {},
        earlier=earlier if row.asset_id is not None else (),
        **orders.context_of(request, db, row, viewer),
    )


@router.post("/jobs/{order_id}/comments")
def comment(request: Request, db: Db, viewer: Commenter, order_id: int, text: Annotated[str, Form()] = "") -> Response:
    """Say something about the work."""
    try:
        found = v1.commentable(db, viewer, order_id)
        timeline.comment(db, found, text, actor=viewer.actor, now=clock.now())
    except Invalid as error:
        db.rollback()
        return _work(
            request, db, viewer, order_id, errors=orders.said(request, error), values={"text": text}, status=422
        )
    return pages.go(f"/jobs/{order_id}#timeline")


@router.post("/jobs/{order_id}/photos")
def photos(
    request: Request,
    db: Db,
    viewer: Commenter,
    parts: Parts,
    order_id: int,
    photos: Annotated[list[UploadFile], File()],
) -> Response:
    """Add pictures taken on the spot."""
    try:
        v1.keep_photos(db, parts, v1.commentable(db, viewer, order_id), photos, viewer)
    except (Invalid, TooLarge, Unsupported) as error:
        db.rollback()
        return _work(request, db, viewer, order_id, errors=orders.said(request, error), status=422)
    return pages.go(f"/jobs/{order_id}", notice=i18n.noop("Photos added."))


@router.post("/jobs/{order_id}/grab")
def grab(db: Db, viewer: Worker, order_id: int) -> Response:
    """Take an order from the grab pool."""
    return dispatch.taken(db, viewer, order_id)


def _step_of(verb: str) -> Callable[..., Response]:
    """Return the route of one step of the work."""

    def step(request: Request, db: Db, viewer: Worker, order_id: int, words: Annotated[v1.StepIn, Form()]) -> Response:
        refused = orders.take(db, viewer, order_id, verb, words)
        if refused is not None:
            status = 409 if isinstance(refused, Conflict) else 422
            values, errors = {**words.model_dump(), "verb": verb}, orders.said(request, refused)
            return _work(request, db, viewer, order_id, errors=errors, values=values, status=status)
        return pages.go("/my" if verb in LEAVING else f"/jobs/{order_id}", notice=orders.DONE[verb])

    return step


for _verb in STEPS:
    router.add_api_route(f"/jobs/{{order_id}}/{_verb}", _step_of(_verb), methods=["POST"], name=f"work_{_verb}")
