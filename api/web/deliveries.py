"""Deliveries as a page: which events have not reached whom, and trying again."""

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api import paging
from api.access import Db, needs
from api.web import pages
from kernel import clock, i18n
from kernel.errors import NotFound
from people import oversight
from people.scope import Viewer

router = APIRouter(prefix="/deliveries")
Reader = Annotated[Viewer, needs("deliveries.read")]
Actor = Annotated[Viewer, needs("deliveries.act")]
PAGE = 100
STATES = ("stuck", "waiting", "done")


@router.get("")
def deliveries(request: Request, db: Db, viewer: Reader, state: str = "stuck", after: str | None = None) -> Response:
    """List deliveries of one state, newest first."""
    chosen = state if state in STATES else "stuck"
    key = paging.read(after, (int,))
    rows = oversight.deliveries(db, viewer, state=chosen, before=key[0] if key else None, limit=PAGE + 1)
    shown, following = paging.cut(rows, PAGE, lambda row: (row[0].id,))
    return pages.render(
        request,
        "deliveries/list.html",
        rows=shown,
        state=chosen,
        following=following,
        after=after,
        may_act=viewer.may("deliveries.act"),
    )


@router.post("/retry")
def retry_all(db: Db, viewer: Actor) -> Response:
    """Put every stuck delivery back in line."""
    retried = oversight.retry(db, viewer, None, clock.now())
    return pages.go("/deliveries", notice=i18n.noop("{n} deliveries are tried again."), n=retried)


@router.post("/{delivery_id}/retry")
def retry(db: Db, viewer: Actor, delivery_id: int, back: str = "") -> Response:
    """Put one stuck delivery back in line, and go back to the alarm it was asked from."""
    if not oversight.retry(db, viewer, [delivery_id], clock.now()):
        raise NotFound("There is nothing here, or it is not yours to see.")
    if back.startswith("/alarms/"):
        return pages.go(back, notice=i18n.noop("It is tried again."))
    return pages.go("/deliveries", notice=i18n.noop("{n} deliveries are tried again."), n=1)
