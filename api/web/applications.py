"""Devices that ask to be let in, as pages: who waits, what each says of itself, and the answer."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.v1 import applications as v1
from api.web import by_code, forms, pages
from assets import applications
from assets.models import Device, DeviceApplication
from kernel import clock, i18n
from kernel.errors import Conflict, Invalid
from people import oversight, scope
from people.scope import Viewer

router = APIRouter(prefix="/devices/applications")
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("devices.write")]
A_PAGE = 50


class Asked(BaseModel):
    """The filter of the list as its form sends it."""

    q: str = ""
    state: str = "waiting"
    after: str = ""


@router.get("")
def listed(request: Request, db: Db, viewer: Reader, asked: Annotated[Asked, Query()]) -> Response:
    """Show who waits, or who was let in or sent away."""
    return _list(request, db, viewer, asked)


def _list(
    request: Request, db: Session, viewer: Viewer, asked: Asked, *, errors: dict[str, str] | None = None
) -> Response:
    after = paging.read(asked.after or None, (int,))
    state = asked.state if asked.state in applications.STATES else "waiting"
    rows = applications.listed(
        db, viewer, state=state, text=asked.q.strip()[:100], after=after[0] if after else None, limit=A_PAGE + 1
    )
    shown, following = paging.cut(rows, A_PAGE, lambda row: (row.id,))
    return pages.render(
        request,
        "devices/applications.html",
        status=422 if errors else 200,
        rows=shown,
        following=following,
        asked=asked,
        state=state,
        origins=applications.ORIGINS,
        may_write=viewer.may("devices.write"),
        errors=errors or {},
    )


@router.post("/approve")
def approve_several(
    request: Request, db: Db, viewer: Writer, ids: Annotated[list[int] | None, Form()] = None
) -> Response:
    """Let in all that are ticked, or none of them."""
    if not ids:
        return pages.go("/devices/applications", notice=i18n.noop("Tick at least one device first."), kind="info")
    try:
        made = v1.let_in(db, viewer, ids[: v1.AT_ONCE])
    except (Invalid, Conflict) as error:
        db.rollback()
        return _list(request, db, viewer, Asked(), errors=forms.refused(request, error))
    return pages.go("/devices/applications", notice=i18n.noop("{n} devices are let in."), n=len(made))


@router.get("/{application_id}")
def application(request: Request, db: Db, viewer: Reader, application_id: int) -> Response:
    """Show one device that asks: what it says of itself, and the two answers."""
    return _page(request, db, viewer, application_id)


class ApprovalForm(BaseModel):
    """How a device is let in; the asset is named by its code."""

    name: str = ""
    asset: str = ""


def _page(
    request: Request,
    db: Session,
    viewer: Viewer,
    application_id: int,
    *,
    form: ApprovalForm | None = None,
    reason: str = "",
    errors: dict[str, str] | None = None,
) -> Response:
    found = scope.find(db, DeviceApplication, application_id, viewer, "assets.read")
    return pages.render(
        request,
        "devices/application.html",
        status=422 if errors else 200,
        row=found,
        gateway=db.get(Device, found.gateway_id) if found.gateway_id else None,
        asset_type=found.asset_type,
        names=oversight.names(db, viewer, [found.decided_by or ""]),
        origins=applications.ORIGINS,
        form=form or ApprovalForm(name=found.name),
        reason=reason,
        errors=errors or {},
        may_write=viewer.may("devices.write"),
    )


@router.post("/{application_id}/approve")
def approve(
    request: Request, db: Db, viewer: Writer, application_id: int, form: Annotated[ApprovalForm, Form()]
) -> Response:
    """Let a device in, and bind it to an asset when one is named."""
    found = v1.mine(db, viewer, application_id)
    try:
        asset = by_code.asset(db, viewer, form.asset, field="asset")
        if asset is not None:
            scope.require(db, viewer, "devices.write", asset.unit_id)
        made = applications.approve(
            db, found, name=form.name.strip() or None, asset=asset, actor=viewer.actor, now=clock.now()
        )
    except (Invalid, Conflict) as error:
        db.rollback()
        errors = forms.refused(request, error)
        return _page(request, db, viewer, application_id, form=form, errors=errors)
    return pages.go(f"/devices/{made.id}", notice=i18n.noop("The device is let in."))


@router.post("/{application_id}/decline")
def decline(
    request: Request, db: Db, viewer: Writer, application_id: int, reason: Annotated[str, Form()] = ""
) -> Response:
    """Send a device away."""
    found = v1.mine(db, viewer, application_id)
    try:
        applications.decline(db, found, reason=reason, actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        db.rollback()
        return _page(request, db, viewer, application_id, reason=reason, errors=forms.refused(request, error))
    return pages.go("/devices/applications", notice=i18n.noop("{key} is sent away."), key=found.key)


@router.post("/{application_id}/reopen")
def reopen(request: Request, db: Db, viewer: Writer, application_id: int) -> Response:
    """Let a declined device wait for a decision again."""
    found = v1.mine(db, viewer, application_id)
    try:
        applications.reopen(db, found, actor=viewer.actor, now=clock.now())
    except Conflict as error:
        db.rollback()
        return _page(request, db, viewer, application_id, errors=forms.refused(request, error))
    return pages.go(f"/devices/applications/{application_id}", notice=i18n.noop("It waits for a decision again."))
