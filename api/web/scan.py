"""The page behind a label: for anybody what it is and how to report a fault, for those who work on it the work."""

from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from api.access import Anyone, Db, Parts, SignedIn, address_of
from api.problems import STATUS
from api.runtime import Runtime
from api.web import forms, pages
from assets.models import Asset
from kernel import clock, files, i18n
from kernel.errors import FixwrightError, Gone, Invalid, NotFound, TooLarge, Unsupported
from kernel.models import File as KeptFile
from maintenance.orders import acceptance, faults, lifecycle
from maintenance.orders.models import Order
from maintenance.orders.models import Request as Reported
from maintenance.orders.requests import Report
from maintenance.parts import figures
from people import scope
from people.models import OrgUnit
from people.scope import Viewer
from qr import reports, tags
from qr.models import Tag
from rules.models import Alarm

router = APIRouter(tags=["scan"])

SYMPTOMS = (
    ("stopped", i18n.noop("It stands still"), "player-stop"),
    ("noise", i18n.noop("Strange noise"), "volume"),
    ("leak", i18n.noop("It leaks"), "droplet"),
    ("heat", i18n.noop("It gets hot"), "flame"),
    ("display", i18n.noop("It shows an error"), "alert-triangle"),
    ("other", i18n.noop("Something else"), "dots"),
)
SEEN_AGAIN = i18n.noop("I see the same fault.")
MINE = "report"
"""The cookie, kept for one label's pages alone, that leads whoever reported there back to their tracking page."""
HIDDEN = {"Cache-Control": "no-store"}
"""What a stranger sees must not stay in a shared browser."""


@router.get("/q/{token}")
def scanned(token: str, request: Request, visitor: Anyone, session: Db) -> HTMLResponse:
    """Show what a label belongs to, as much as the viewer may know."""
    tag = _tag(request, token, session)
    agent = request.headers.get("user-agent", "")
    tags.scanned(session, tag, viewer=visitor, address=address_of(request), agent=agent, now=clock.now())
    own = _own(session, tag, visitor)
    if own is not None and visitor is not None:
        return _for_worker(request, session, tag, own, visitor)
    return _public(request, session, tag)


@router.get("/q/{token}/report")
def report_form(token: str, request: Request, _: Anyone, session: Db) -> HTMLResponse:
    """Show the report form to whoever asks for it, also to those who work here."""
    return _public(request, session, _tag(request, token, session))


@router.post("/q/{token}/report")
def report(
    token: str,
    request: Request,
    _: Anyone,
    session: Db,
    parts: Parts,
    *,
    symptom: Annotated[str, Form(max_length=40)] = "",
    what: Annotated[str, Form(max_length=4000)] = "",
    contact_name: Annotated[str, Form(max_length=400)] = "",
    contact: Annotated[str, Form(max_length=400)] = "",
    is_known: Annotated[bool, Form()] = False,
    photos: Annotated[list[UploadFile] | None, File()] = None,
) -> Response:
    """Take a report and lead to its tracking page."""
    now = clock.now()
    tag = _tag(request, token, session)
    reports.may_report(session, tag, address_of(request), now)
    session.commit()
    language = request.state.language
    said = Report(
        what=_said(symptom, what, language)
        or (i18n.catalogue(language).get(SEEN_AGAIN, SEEN_AGAIN) if is_known else ""),
        contact_name=contact_name,
        contact_phone="" if "@" in contact else contact,
        contact_email=contact if "@" in contact else "",
        language=language,
    )
    try:
        with session.begin_nested():
            kept = keep_photos(session, parts, photos or [], company_id=tag.company_id)
            made = reports.report(session, tag, said, photos=kept, is_known=is_known, now=now)
    except (Invalid, TooLarge, Unsupported) as error:
        given = {"symptom": symptom, "what": what, "contact_name": contact_name, "contact": contact}
        return _public(request, session, tag, given=given, error=error)
    response = pages.go(f"/t/{made.token}")
    response.set_cookie(
        MINE,
        made.token,
        max_age=int((made.request.track_expires_at - now).total_seconds()),
        path=f"/q/{tag.token}",
        httponly=True,
        secure=parts.settings.is_secure,
        samesite="lax",
    )
    return response


@router.get("/scan")
def scanner(request: Request, _: SignedIn, session: Db, code: Annotated[str, Query(max_length=500)] = "") -> Response:
    """Show the camera scanner; with a scanned address or a typed code, lead to the label's page."""
    if not code.strip():
        return pages.render(request, "work/scanner.html", error="", typed="")
    try:
        tag = tags.by_scan(session, code)
    except (NotFound, Gone) as error:
        said = next(iter(forms.refused(request, error).values()))
        return pages.render(request, "work/scanner.html", status=STATUS[type(error)], error=said, typed=code.strip())
    return RedirectResponse(f"/q/{tag.token}", status_code=303)


def keep_photos(session: Session, parts: Runtime, photos: list[UploadFile], *, company_id: int) -> list[KeptFile]:
    """Keep the pictures of a form; empty file fields are none.

    Raises:
        Invalid: there are more than a report may have; nothing of them was read.
        TooLarge: one has too many bytes or pixels.
        Unsupported: one is not a picture.
    """
    chosen = [photo for photo in photos if photo.filename or photo.size]
    if len(chosen) > reports.MOST_PHOTOS:
        raise Invalid("Please add at most {most} photos.", field="photos", most=reports.MOST_PHOTOS)
    return [
        files.keep_picture(
            session,
            parts.files,
            photo.file,
            name=photo.filename or "photo",
            limit_bytes=parts.settings.upload_max_mb * 1_000_000,
            now=clock.now(),
            company_id=company_id,
        )
        for photo in chosen
    ]


def company_name(session: Session, company_id: int, language: str) -> str:
    """Return the name of the company that answers on a public page."""
    return session.get_one(OrgUnit, company_id).called(language)


def _tag(request: Request, token: str, session: Session) -> Tag:
    """Return a scanned tag; the scan is counted and committed first, so that a guess costs as much."""
    reports.may_scan(session, address_of(request), clock.now())
    session.commit()
    return tags.by_token(session, token)


def _said(symptom: str, what: str, language: str) -> str:
    """Return the report in words: the symptom that was tapped, then what was written."""
    label = next((words for key, words, _ in SYMPTOMS if key == symptom and key != "other"), "")
    tapped = i18n.catalogue(language).get(label, label)
    return "\n".join(part for part in (tapped, what.strip()) if part)


def _own(session: Session, tag: Tag, visitor: Viewer | None) -> Asset | None:
    """Return the tag's asset when the visitor may see it from the inside."""
    if visitor is None or not visitor.may("assets.read"):
        return None
    seen = select(Asset).where(Asset.id == tag.asset_id, scope.visible(Asset, visitor, "assets.read"))
    return session.scalars(seen).one_or_none()


def _public(
    request: Request,
    session: Session,
    tag: Tag,
    *,
    given: dict[str, str] | None = None,
    error: FixwrightError | None = None,
) -> HTMLResponse:
    asset = session.scalars(
        select(Asset)
        .where(Asset.id == tag.asset_id)
        .options(joinedload(Asset.type), joinedload(Asset.site), joinedload(Asset.location))
    ).one()
    return pages.render(
        request,
        "scan/public.html",
        status=STATUS[type(error)] if error else 200,
        headers=HIDDEN,
        company=company_name(session, tag.company_id, request.state.language),
        zone=ZoneInfo(asset.site.zone),
        token=tag.token,
        code=tag.code,
        asset=asset,
        known=reports.known_trouble(session, tag),
        mine=_earlier(request, session, tag),
        symptoms=SYMPTOMS,
        given=given or {},
        errors=forms.refused(request, error) if error else {},
        most_photos=reports.MOST_PHOTOS,
    )


def _earlier(request: Request, session: Session, tag: Tag) -> dict[str, Any] | None:
    """Return where this browser follows what it reported at this label, while there is something to follow."""
    token = request.cookies.get(MINE)
    if not token:
        return None
    try:
        reported = acceptance.by_token(session, token, clock.now())
    except (NotFound, Gone):
        return None
    has_ended = reported.state in {"declined", "withdrawn"} or (
        reported.order is not None and reported.order.phase in lifecycle.ENDED
    )
    return None if has_ended or not _is_of(reported, tag) else {"href": f"/t/{token}", "at": reported.created_at}


def _is_of(reported: Reported, tag: Tag) -> bool:
    return reported.asset_id == tag.asset_id


def _for_worker(request: Request, session: Session, tag: Tag, asset: Asset, viewer: Viewer) -> HTMLResponse:
    alarms = session.scalars(
        select(Alarm)
        .where(Alarm.asset_id == asset.id, Alarm.is_active, scope.visible(Alarm, viewer, "alarms.read"))
        .options(joinedload(Alarm.alarm_type))
        .order_by(Alarm.id.desc())
        .limit(20)
    ).all()
    of_asset = select(Order).where(Order.asset_id == asset.id, scope.visible(Order, viewer, "orders.read"))
    open_orders = session.scalars(
        of_asset.where(faults.is_open())
        .options(joinedload(Order.assignee), joinedload(Order.type))
        .order_by(Order.priority, Order.id)
    ).all()
    past = session.scalars(of_asset.where(~faults.is_open()).order_by(Order.id.desc()).limit(5)).all()
    return pages.render(
        request,
        "work/scanned.html",
        token=tag.token,
        asset=asset,
        alarms=alarms,
        mine=[order for order in open_orders if order.assignee_id == viewer.account_id],
        others=[order for order in open_orders if order.assignee_id != viewer.account_id],
        next_of=lifecycle.NEXT,
        past=past,
        used=figures.used_on(session, viewer, asset.id) if viewer.may("parts.read") else (),
    )
