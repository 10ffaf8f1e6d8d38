"""The audit trail as a page: who did what, filtered, and whether the chain still holds."""

from datetime import datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.web import forms, pages
from kernel import audit, clock
from people import oversight
from people.scope import Viewer

router = APIRouter(prefix="/audit")
Reader = Annotated[Viewer, needs("audit.read")]
PAGE = 100
MOST_BREAKS = 200
"""Places of a broken chain that the page names; the command line names them all."""
SUBJECTS = {"order": "/orders/", "asset": "/assets/", "account": "/people/", "alarm": "/alarms/", "team": "/teams/",
            "unit": "/units/", "role": "/roles/", "plan": "/plans/", "part": "/parts/", "device": "/devices/",
            "request": "/requests/"}  # fmt: skip
"""What an entry is about → where that is shown."""


@router.get("")
def trail(
    request: Request,
    db: Db,
    viewer: Reader,
    *,
    action: str = "",
    actor: str = "",
    subject: str = "",
    since: str = "",
    until: str = "",
    after: str | None = None,
) -> Response:
    """List entries, newest first; ``since`` and ``until`` are days in the reader's zone, both included."""
    wanted = oversight.Trail(
        action.strip()[:60],
        actor.strip()[:80],
        subject.strip()[:80],
        _midnight(since, "since", viewer),
        _midnight(until, "until", viewer, days=1),
    )
    asked = {"action": action, "actor": actor, "subject": subject, "since": since, "until": until}
    return _page(request, db, viewer, wanted, asked, after=after)


@router.post("/verify")
def verify(request: Request, db: Db, viewer: Reader) -> Response:
    """Walk the whole chain and say whether it holds."""
    oversight.require_whole_trail(viewer)
    breaks = []
    for place in audit.verify(db):
        breaks.append(place)
        if len(breaks) == MOST_BREAKS:
            break
    asked = dict.fromkeys(("action", "actor", "subject", "since", "until"), "")
    return _page(request, db, viewer, oversight.Trail(), asked, breaks=breaks)


def _page(
    request: Request,
    db: Session,
    viewer: Viewer,
    wanted: oversight.Trail,
    asked: dict[str, str],
    *,
    after: str | None = None,
    breaks: list[audit.Break] | None = None,
) -> Response:
    key = paging.read(after, (int,))
    rows = oversight.trail(db, viewer, wanted, before=key[0] if key else None, limit=PAGE + 1)
    shown, following = paging.cut(rows, PAGE, lambda row: (row.id,))
    mentioned = [name for row in shown for name in (row.actor, row.subject)]
    return pages.render(
        request,
        "audit/trail.html",
        entries=[(row, _href(row.subject)) for row in shown],
        names=oversight.names(db, viewer, mentioned),
        following=following,
        after=after,
        wanted=asked,
        breaks=breaks,
        may_verify=viewer.may_at("audit.read", f"/{viewer.company_id}/"),
    )


def _midnight(typed: str, field: str, viewer: Viewer, *, days: int = 0) -> datetime | None:
    day = forms.day(typed, field)
    if day is None:
        return None
    first = min(max(day, clock.from_ms(0).date()), clock.now().date() + timedelta(days=366))
    return datetime.combine(first + timedelta(days=days), datetime.min.time(), ZoneInfo(viewer.zone))


def _href(subject: str) -> str | None:
    kind, _, identity = subject.partition(":")
    return SUBJECTS[kind] + identity if kind in SUBJECTS and identity.isdigit() else None
