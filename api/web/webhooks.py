"""Webhook sources as pages: a list with a form, and the secret, shown once."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, Parts, needs
from api.runtime import Runtime
from api.v1 import webhooks as v1
from api.web import forms, pages
from ingest import webhooks
from ingest.models import WebhookSource
from kernel import clock, i18n
from kernel.errors import Conflict, Forbidden, Invalid
from people.scope import Viewer

router = APIRouter(prefix="/webhooks")
Reader = Annotated[Viewer, needs("ingest.read")]
Writer = Annotated[Viewer, needs("devices.write")]
A_PAGE = 100
SECRET = {"Cache-Control": "no-store"}


class WebhookForm(BaseModel):
    """The form of a new source as it is sent."""

    name: str = ""
    proof: str = "token"
    header: str = ""


@router.get("")
def listed(request: Request, db: Db, viewer: Reader, after: str = "") -> Response:
    """Show the sources within sight, and the form of a new one."""
    return _list(request, db, viewer, WebhookForm(), after=after)


@router.post("")
def add(request: Request, db: Db, parts: Parts, viewer: Writer, form: Annotated[WebhookForm, Form()]) -> Response:
    """Add a source and show its secret, this once."""
    try:
        proof = "signature" if form.proof == "signature" else "token"
        source = v1.added(db, viewer, v1.WebhookIn(name=form.name.strip(), proof=proof, header=form.header.strip()))
    except (Invalid, Conflict, Forbidden) as error:
        db.rollback()
        return _list(request, db, viewer, form, errors=forms.refused(request, error))
    return _secret(request, parts, source)


@router.post("/{webhook_id}/rotate")
def rotate(request: Request, db: Db, parts: Parts, viewer: Writer, webhook_id: int) -> Response:
    """Give a source another secret and show it, this once."""
    source = v1.mine(db, viewer, webhook_id)
    webhooks.rotate(db, source, actor=viewer.actor, now=clock.now())
    return _secret(request, parts, source)


@router.post("/{webhook_id}/revoke")
def revoke(db: Db, viewer: Writer, webhook_id: int) -> Response:
    """Shut a source out for good."""
    webhooks.revoke(db, v1.mine(db, viewer, webhook_id), actor=viewer.actor, now=clock.now())
    return pages.go("/webhooks", notice=i18n.noop("The source is shut out."))


def _list(
    request: Request,
    db: Session,
    viewer: Viewer,
    form: WebhookForm,
    *,
    after: str = "",
    errors: dict[str, str] | None = None,
) -> Response:
    key = paging.read(after or None, (str,))
    rows = webhooks.listed(db, viewer, after=key[0] if key else None, limit=A_PAGE + 1)
    shown, following = paging.cut(rows, A_PAGE, lambda row: (row.name,))
    return pages.render(
        request,
        "webhooks/list.html",
        status=422 if errors else 200,
        rows=shown,
        following=following,
        is_first=not after,
        form=form,
        errors=errors or {},
        may_write=viewer.may("devices.write"),
    )


def _secret(request: Request, parts: Runtime, source: WebhookSource) -> Response:
    issued = v1.issued(parts, source)
    return pages.render(request, "webhooks/secret.html", headers=SECRET, source=issued)
