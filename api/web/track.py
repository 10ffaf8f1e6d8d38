"""The tracking page: whoever reported a fault follows it, writes, accepts or sends back, and rates. No account.

The page asks again every few seconds and is told "nothing new" in no bytes, so it may stay open all day.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, Response
from sqlalchemy.orm import Session

from api.access import Anyone, Db, Parts, address_of, needs
from api.problems import STATUS
from api.web import forms, pages, scan
from api.web.scan import HIDDEN
from kernel import clock, files, i18n, ids
from kernel.errors import Conflict, FixwrightError, Invalid, NotFound, TooLarge, Unsupported
from maintenance.orders import acceptance, timeline
from maintenance.orders.models import Entry, Order
from maintenance.orders.models import Request as Reported
from people import scope
from people.scope import Viewer
from qr import reports

router = APIRouter(tags=["track"])
Triager = Annotated[Viewer, needs("requests.triage")]

STEPS = (
    i18n.noop("Reported"),
    i18n.noop("Technician found"),
    i18n.noop("On the way"),
    i18n.noop("Being repaired"),
    i18n.noop("Repaired"),
    i18n.noop("Accepted by you"),
)
PLACE = {
    "new": 0,
    "assigned": 1,
    "accepted": 1,
    "travelling": 2,
    "on_site": 3,
    "working": 3,
    "paused": 3,
    "done": 4,
    "verified": 4,
    "closed": 5,
}
"""Phase of the order → how far along ``STEPS`` a customer sees it."""
MOVES = {
    "depart": i18n.noop("The technician is on the way"),
    "arrive": i18n.noop("The technician has arrived"),
    "start": i18n.noop("The repair has begun"),
    "finish": i18n.noop("The repair is finished"),
    "verify": i18n.noop("The work was accepted"),
    "send_back": i18n.noop("The work was sent back"),
    "close": i18n.noop("The report is closed"),
    "cancel": i18n.noop("The work order was cancelled"),
    "accepted": i18n.noop("Your report became a work order"),
    "joined": i18n.noop("Your report was added to a known fault"),
    "held": i18n.noop("Your report is on hold"),
    "declined": i18n.noop("Your report was declined"),
    "withdrawn": i18n.noop("You withdrew your report"),
}
"""Step of a report or an order → how a customer reads of it."""
GLYPHS = {
    "depart": "navigation",
    "arrive": "map-pin",
    "start": "tool",
    "finish": "circle-check",
    "verify": "checks",
    "send_back": "arrow-back-up",
    "accepted": "clipboard-check",
    "joined": "git-merge",
    "held": "clock-pause",
}
REFUSED = (Invalid, Conflict, TooLarge, Unsupported)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a report is, in one sentence: a picture, a colour, a title and what follows from it."""

    glyph: str
    tone: str
    title: str
    text: str = ""


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
        standing=_standing(reported, order, words),
        steps=_steps(reported, order, words),
        lines=_lines(reported, order, timeline.for_customer(session, reported), words),
        may_accept=is_finished and reported.accepted_at is None,
        may_rate=has_ended
        and order is not None
        and order.rating is None
        and (reported.accepted_at is not None or order.phase == "closed"),
        may_withdraw=acceptance.may_withdraw(reported, order),
        errors=forms.refused(request, error) if error else {},
        typed=typed,
    )


def _standing(reported: Reported, order: Order | None, words: dict[str, str]) -> Standing:
    """Return how far a report is, as its reader would say it."""

    def say(text: str, **values: str) -> str:
        return words.get(text, text).format(**values) if values else words.get(text, text)

    name = order.assignee.name if order is not None and order.assignee is not None else ""
    reason = reported.reason or ""
    ended = {
        "declined": Standing("circle-x", "", say(i18n.noop("This report was declined")), reason),
        "withdrawn": Standing("arrow-back-up", "", say(i18n.noop("You withdrew this report")), ""),
        "held": Standing("clock-pause", "", say(i18n.noop("This report is on hold")), reason),
    }
    if reported.state in ended:
        return ended[reported.state]
    if order is None:
        text = i18n.noop("Somebody is reading it now. What happens next appears here.")
        return Standing("inbox", "busy", say(i18n.noop("We have your report")), say(text))
    who = {"name": name or say(i18n.noop("A technician"))}
    thanks = say(i18n.noop("Thank you for telling us."))
    phases = {
        "new": (
            "search",
            "busy",
            i18n.noop("We have your report"),
            i18n.noop("We are looking for the right technician."),
        ),
        "assigned": (
            "user-check",
            "busy",
            i18n.noop("A technician is found"),
            i18n.noop("{name} takes care of it."),
        ),
        "accepted": (
            "user-check",
            "busy",
            i18n.noop("A technician is found"),
            i18n.noop("{name} takes care of it."),
        ),
        "travelling": ("navigation", "busy", i18n.noop("{name} is on the way"), ""),
        "on_site": ("map-pin", "busy", i18n.noop("{name} has arrived"), ""),
        "working": ("tool", "busy", i18n.noop("The repair is under way"), i18n.noop("{name} is at work.")),
        "paused": (
            "player-pause",
            "",
            i18n.noop("The repair is paused"),
            i18n.noop("It goes on as soon as possible."),
        ),
        "cancelled": ("ban", "", i18n.noop("The work order was cancelled"), ""),
    }
    if order.phase in phases:
        glyph, tone, title, text = phases[order.phase]
        return Standing(glyph, tone, say(title, **who), say(text, **who) if text else "")
    if order.phase == "closed" or reported.accepted_at is not None:
        return Standing("mood-smile", "good", say(i18n.noop("It works again")), thanks)
    return Standing("circle-check", "good", say(i18n.noop("The repair is finished")), "")


def _steps(reported: Reported, order: Order | None, words: dict[str, str]) -> list[dict[str, object]] | None:
    """Return the line of steps a customer understands, each with its time; None where it leads nowhere any more."""
    if reported.state in {"declined", "withdrawn"} or (order is not None and order.phase == "cancelled"):
        return None
    times = [reported.created_at, None, None, None, None, reported.accepted_at]
    if order is not None:
        times[1:5] = [order.assigned_at, order.departed_at, order.started_at, order.finished_at]
    reached = PLACE[order.phase] if order is not None else 0
    if reached >= PLACE["done"] and reported.accepted_at is not None:
        reached = len(STEPS) - 1
    is_over = reached == len(STEPS) - 1
    return [
        {
            "label": words.get(label, label),
            "at": times[number] if number <= reached else None,
            "state": "done" if number < reached or is_over else "current" if number == reached else "ahead",
        }
        for number, label in enumerate(STEPS)
    ]


def _lines(
    reported: Reported, order: Order | None, entries: Sequence[Entry], words: dict[str, str]
) -> list[dict[str, Any]]:
    """Return the timeline as this reporter may read it, newest first; what was sent at once stands together."""
    shown: list[dict[str, Any]] = []
    for entry in entries:
        if entry.kind == "move" and entry.detail.get("verb") == "open":
            continue  # Its twin says that the report became an order.
        line = _line(reported, order, entry, words)
        last = shown[-1] if shown else None
        if last and last["photos"] and (last["who"], last["at"]) == (line["who"], line["at"]) and not line["moved"]:
            line["photos"] += last["photos"]
            shown[-1] = line
        else:
            shown.append(line)
    return shown


def _line(reported: Reported, order: Order | None, entry: Entry, words: dict[str, str]) -> dict[str, Any]:
    """Return a line of the timeline as this reporter may read it; the words of another reporter are not theirs."""
    is_alone = order is None or len(order.requests) == 1
    is_own = entry.actor == acceptance.ACTOR and (entry.request_id == reported.id or is_alone)
    verb = str(entry.detail.get("verb", ""))
    moved = MOVES.get(verb, "") if entry.kind == "move" else ""
    glyph = {"photo": "camera", "rating": "star", "comment": "message"}.get(entry.kind, GLYPHS.get(verb, "arrow-right"))
    if is_own:
        who = i18n.noop("You")
    elif entry.actor == acceptance.ACTOR:
        who = i18n.noop("Another reporter")
    else:
        who = entry.actor_name or i18n.noop("Service")
    return {
        "who": words.get(who, who),
        "at": entry.at,
        "glyph": glyph,
        "moved": words.get(moved, moved),
        "text": entry.text if is_own or entry.actor != acceptance.ACTOR else "",
        "photos": [entry.file.sha256] if entry.kind == "photo" and entry.file is not None else [],
        "stars": entry.detail.get("rating") if entry.kind == "rating" else None,
    }
