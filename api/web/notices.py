"""What a person was told: the page behind the bell."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from api import paging
from api.access import Db, SignedIn
from api.web import forms, pages
from kernel import clock, i18n
from people import notices

router = APIRouter(prefix="/notices")
A_PAGE = 50


@router.get("")
def list_notices(request: Request, db: Db, viewer: SignedIn, after: str = "") -> Response:
    """Show one's own notices, the newest first."""
    key = paging.read(after or None, (int,))
    rows = notices.listed(db, viewer.account_id, before=key[0] if key else None, limit=A_PAGE + 1)
    shown, following = paging.cut(rows, A_PAGE, lambda row: (row.id,))
    return pages.render(
        request,
        "account/notices.html",
        rows=[(row, forms.said(request, row.text, row.values)) for row in shown],
        following=following,
        after=after,
        unread=notices.unread(db, viewer.account_id),
    )


@router.post("/read")
def read(db: Db, viewer: SignedIn, ids: Annotated[list[str] | None, Form()] = None) -> Response:
    """Note that they were read: those given, or all."""
    chosen = None if not ids else [number for one in ids if (number := forms.whole(one, "ids")) is not None]
    notices.read(db, viewer.account_id, chosen, now=clock.now())
    return pages.go("/notices", notice=i18n.noop("All of it is read."))
