"""The tracking page: whoever reported a fault follows it, writes, accepts or sends back, and rates. No account.

The page asks again every few seconds and is told "nothing new" in no bytes, so it may stay open all day.
"""

from collections.abc import Callable
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, Response
from sqlalchemy.orm import Session

from api.access import Anyone, Db, Parts, address_of, needs
from api.problems import STATUS
from api.web import forms, pages, scan, track_words
from api.web.scan import HIDDEN
from kernel import clock, files, i18n, ids
from kernel.errors import Conflict, FixwrightError, Invalid, NotFound, TooLarge, Unsupported
from maintenance.orders import acceptance, timeline
from maintenance.orders.models import Request as Reported
from people import scope
from people.scope import Viewer
from qr import reports

router = APIRouter(tags=["track"])
Triager = Annotated[Viewer, needs("requests.triage")]

REFUSED = (Invalid, Conflict, TooLarge, Unsupported)


@router.get("/t/{token}")
def track(
    token: str,
    request: Request,
    _: Anyone,
    session: Db,
    since: Annotated[str, Query(max_length=40)] = "",
) -> Response:
    """Show how far a report is; with ``since`` answer 204 when nothing has happened since that mark."""
    reported = _request(request, token, session)
    if since and since == _mark(session, reported):
        return Response(status_code=204)
    return _page(request, session, reported, token)


@router.get("/t/{token}/photos/{digest}")
def photo(
    token: str, digest: str, request: Request, _: Anyone, session: Db, parts: Parts, size: str = "view"
) -> FileResponse:
    """Show a public picture of this report, re-encoded, without where it was taken."""
    reported = _request(request, token, session)
    public = (entry.file for entry in timeline.for_customer(session, reported) if entry.file is not None)
    wanted = next((file for file in public if file.sha256 == digest), None)
    if wanted is None:
        raise NotFound("There is no such picture.")
    path = files.shown(parts.files, wanted, size)
    return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})


@router.post("/t/{token}/message")
def write(
    token: str,
    request: Request,
    _: Anyone,
    session: Db,
    parts: Parts,
    *,
    text: Annotated[str, Form(max_length=4000)] = "",
    photos: Annotated[list[UploadFile] | None, File()] = None,
) -> Response:
    """Add words or pictures."""

    def say(reported: Reported) -> None:
        kept = scan.keep_photos(session, parts, photos or [], company_id=reported.company_id)
        acceptance.add_photos(session, reported, kept, now=clock.now())
        if text.strip() or not kept:
            acceptance.write(session, reported, text, now=clock.now())

    return _taken(
        request,
        session,
        token,
        say,
        typed=text,
        notice=i18n.noop("Sent. The technician and the desk read it."),
    )


@router.post("/t/{token}/accept")
def accept(token: str, request: Request, _: Anyone, session: Db) -> Response:
    """Accept the finished work."""

    def agree(reported: Reported) -> None:
        acceptance.accept(session, reported, now=clock.now())

    return _taken(request, session, token, agree, notice=i18n.noop("Thank you. How was it?"))


@router.post("/t/{token}/send-back")
def send_back(
    token: str, request: Request, _: Anyone, session: Db, reason: Annotated[str, Form(max_length=1000)] = ""
) -> Response:
    """Send the work back with a reason."""

    def object_to(reported: Reported) -> None:
        acceptance.send_back(session, reported, reason, now=clock.now())

    return _taken(request, session, token, object_to, typed=reason, notice=i18n.noop("The technician has been told."))


@router.post("/t/{token}/rate")
def rate(
    token: str,
    request: Request,
    _: Anyone,
    session: Db,
    *,
    stars: Annotated[int, Form()] = 0,
    remark: Annotated[str, Form(max_length=4000)] = "",
) -> Response:
    """Rate the repair, once."""

    def judge(reported: Reported) -> None:
        acceptance.rate(session, reported, stars, remark, now=clock.now())

    return _taken(request, session, token, judge, typed=remark, notice=i18n.noop("Thank you for your rating."))


@router.post("/t/{token}/withdraw")
def withdraw(token: str, request: Request, _: Anyone, session: Db) -> Response:
    """Take a report back that nobody has set out for."""

    def take_back(reported: Reported) -> None:
        acceptance.withdraw(session, reported, now=clock.now())

    return _taken(request, session, token, take_back, notice=i18n.noop("Your report is withdrawn."))


@router.post("/requests/{request_id}/tracking/revoke")
def revoke(request_id: int, viewer: Triager, session: Db) -> Response:
    """Let a tracking link open nothing any more."""
    reported = scope.find(session, Reported, request_id, viewer, "requests.triage")
    acceptance.revoke(session, reported, actor=viewer.actor, now=clock.now())
    return pages.go(f"/requests/{request_id}", notice=i18n.noop("The tracking link is revoked; it no longer opens."))


def _request(request: Request, token: str, session: Session) -> Reported:
    """Return the request of a link; each link that opens nothing is counted, so that guessing is slow."""
    now, address = clock.now(), address_of(request)
    reports.may_guess(session, address, now)
    try:
        return acceptance.by_token(session, token, now)
    except NotFound:
        reports.guessed(session, address, now)
        session.commit()
        raise


def _taken(
    request: Request,
    session: Session,
    token: str,
    verb: Callable[[Reported], None],
    *,
    notice: str,
    typed: str = "",
) -> Response:
    """Do what a customer asks for and show the page again; a refusal changes nothing and stands beside its field."""
    reported = _request(request, token, session)
    # Counted whatever becomes of it: a refusal below rolls back its own part only.
    reports.may_write(session, reported, address_of(request), clock.now())
    session.commit()
    try:
        with session.begin_nested():
            verb(reported)
    except REFUSED as error:
        return _page(request, session, reported, token, error=error, typed=typed)
    return pages.go(f"/t/{token}", notice=notice)


def _mark(session: Session, reported: Reported) -> str:
    """Return what changes whenever the page would."""
    order = reported.order
    newest = next(iter(timeline.for_customer(session, reported, limit=1)), None)
    shown = (
        reported.state,
        reported.accepted_at,
        reported.rated_at,
        order and (order.version, order.phase, order.assignee_id, order.rating),
        newest and newest.id,
    )
    return ids.fingerprint(repr(shown))[:16]


def _page(
    request: Request,
    session: Session,
    reported: Reported,
    token: str,
    *,
    error: FixwrightError | None = None,
    typed: str = "",
) -> HTMLResponse:
    session.expire(reported)
    language = request.state.language
    words = i18n.catalogue(language)
    order = reported.order
    is_finished = order is not None and order.phase in {"done", "verified"}
    has_ended = is_finished or (order is not None and order.phase == "closed")
    return pages.render(
        request,
        "track/track.html",
        status=STATUS[type(error)] if error else 200,
        headers=HIDDEN,
        company=scan.company_name(session, reported.company_id, language),
        zone=ZoneInfo(reported.asset.site.zone),
        token=token,
        reported=reported,
        order=order,
        mark=_mark(session, reported),
        standing=track_words.standing(reported, order, words),
        steps=track_words.steps(reported, order, words),
        lines=track_words.lines(reported, order, timeline.for_customer(session, reported), words),
        may_accept=is_finished and reported.accepted_at is None,
        may_rate=has_ended
        and order is not None
        and order.rating is None
        and (reported.accepted_at is not None or order.phase == "closed"),
        may_withdraw=acceptance.may_withdraw(reported, order),
        errors=forms.refused(request, error) if error else {},
        typed=typed,
    )
