"""What devices may send, as a small form: of one device, and of each device on machines of a type (ING-16)."""

from typing import Annotated, NamedTuple

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.access import Db, Parts, needs
from api.runtime import Runtime
from api.v1.commands import own_type
from api.v1.devices import mine
from api.web import forms, pages
from assets.models import AssetType, Device
from ingest import limits
from ingest.limits import Limit, Source
from kernel import clock, i18n
from kernel.errors import Invalid
from people.scope import Viewer

router = APIRouter()
Writer = Annotated[Viewer, needs("devices.write")]
TypeWriter = Annotated[Viewer, needs("assets.write")]
_SAVED = i18n.noop("Saved. It holds within two seconds.")


class LimitForm(BaseModel):
    """What the form sends: rates as typed, both empty where nothing is said here."""

    messages: Annotated[str, Field(max_length=40)] = ""
    points: Annotated[str, Field(max_length=40)] = ""

    def wanted(self) -> Limit | None:
        """Return what is to hold; None where it is to be inherited.

        Raises:
            Invalid: a rate is no number, or only one of the two was said.
        """
        messages, points = forms.number(self.messages, "messages"), forms.number(self.points, "points")
        if messages is None and points is None:
            return None
        if messages is None or points is None:
            raise Invalid("State both, or neither: 0 is no limit.", field="messages" if messages is None else "points")
        return Limit(messages, points)


class _Subject(NamedTuple):
    """Whose limit a page is about: its address, its name, what was said of itself, and what applies."""

    address: str
    device: Device | None
    kind: AssetType | None
    said: Limit | None
    source: Source | None


@router.get("/devices/{device_id}/limits")
def of_device(request: Request, db: Db, parts: Parts, viewer: Writer, device_id: int) -> Response:
    """Show what a device may send, and who says so."""
    return _form(request, parts, _device(db, mine(db, viewer, device_id)))


@router.post("/devices/{device_id}/limits")
def set_device(
    request: Request, db: Db, parts: Parts, viewer: Writer, device_id: int, form: Annotated[LimitForm, Form()]
) -> Response:
    """Let a device have a limit of its own, or inherit."""
    found = mine(db, viewer, device_id)
    try:
        limits.set_device(db, found, form.wanted(), actor=viewer.actor, now=clock.now())
    except Invalid as error:
        db.rollback()
        return _form(request, parts, _device(db, mine(db, viewer, device_id)), sent=form, error=error)
    return pages.go(f"/devices/{device_id}", notice=_SAVED)


@router.get("/types/{type_id}/limits")
def of_type(request: Request, db: Db, parts: Parts, viewer: TypeWriter, type_id: int) -> Response:
    """Show what each device on machines of a type may send, and who says so."""
    return _form(request, parts, _type(db, own_type(db, viewer, type_id)))


@router.post("/types/{type_id}/limits")
def set_type(
    request: Request, db: Db, parts: Parts, viewer: TypeWriter, type_id: int, form: Annotated[LimitForm, Form()]
) -> Response:
    """Let a type have a limit of its own, or inherit."""
    kind = own_type(db, viewer, type_id)
    try:
        limits.set_type(db, kind, form.wanted(), actor=viewer.actor, now=clock.now())
    except Invalid as error:
        db.rollback()
        return _form(request, parts, _type(db, own_type(db, viewer, type_id)), sent=form, error=error)
    return pages.go(f"/types/{type_id}", notice=_SAVED)


def _device(db: Session, found: Device) -> _Subject:
    source = limits.source_of_device(db, found)
    return _Subject(f"/devices/{found.id}", found, None, limits.of_device(db, found), source)


def _type(db: Session, kind: AssetType) -> _Subject:
    source = limits.source_of_type(db, kind)
    return _Subject(f"/types/{kind.id}", None, kind, limits.of_type(db, kind), source)


def _form(
    request: Request,
    parts: Runtime,
    subject: _Subject,
    *,
    sent: LimitForm | None = None,
    error: Invalid | None = None,
) -> Response:
    said, source = subject.said, subject.source
    usual = Limit(parts.settings.limit_device_messages, parts.settings.limit_device_points)
    return pages.render(
        request,
        "limits/form.html",
        status=422 if error else 200,
        subject=subject,
        sent=sent
        or LimitForm(messages=_typed(said.messages) if said else "", points=_typed(said.points) if said else ""),
        applies=usual if source is None else source.limit,
        errors=forms.refused(request, error) if error else {},
    )


def _typed(rate: float) -> str:
    return f"{rate:.15g}"
