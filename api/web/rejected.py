"""Rejected messages as pages: what was set aside and why, grouped; one message whole; trying again."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from api import paging
from api.access import Db, needs
from api.instants import Instant
from api.v1.rejected import IS_OPEN
from api.web import pages
from ingest import reasons, rejected
from ingest.models import RejectedMessage
from kernel import clock, i18n
from people.scope import Viewer

router = APIRouter(prefix="/rejected")
Reader = Annotated[Viewer, needs("ingest.read")]
Actor = Annotated[Viewer, needs("ingest.act")]
PAGE = 100
SHOWN_BYTES = 4096
SEEN = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {
    code: f"⟨U+{code:04X}⟩" for code in (0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
"""What no screen shows, made visible: a NUL as ␀, and a mark that turns the direction of writing as its number."""
ASKED = i18n.noop("{n} messages are tried again within seconds. Load the page again to see what became of them.")


@router.get("")
def groups(request: Request, db: Db, viewer: Reader) -> Response:
    """Show what waits to be mended, by reason and device."""
    found = [(group, reasons.words(group.reason)) for group in rejected.groups(db, viewer)]
    return pages.render(request, "rejected/groups.html", groups=found, may_act=viewer.may("ingest.act"))


class Wanted(BaseModel):
    """Which messages a list shows."""

    reason: str | None = None
    device: str | None = None
    state: str = "open"
    unknown: bool = False
    hour: Instant | None = None
    after: str | None = None


@router.get("/messages")
def messages(request: Request, db: Db, viewer: Reader, wanted: Annotated[Wanted, Query()]) -> Response:
    """List messages of one group, or all that were replayed."""
    key = paging.read(wanted.after, (int,))
    rows = rejected.listed(
        db,
        viewer,
        reason=wanted.reason,
        device_key=wanted.device,
        is_open=IS_OPEN.get(wanted.state, True),
        is_unknown=wanted.unknown,
        hour=wanted.hour,
        after=key[0] if key else None,
        limit=PAGE + 1,
    )
    shown, following = paging.cut(rows, PAGE, lambda row: (row.id,))
    return pages.render(
        request,
        "rejected/list.html",
        rows=[(row, *reasons.words(row.reason)) for row in shown],
        words=reasons.words(wanted.reason) if wanted.reason else None,
        wanted=wanted,
        following=following,
        may_act=viewer.may("ingest.act"),
    )


@router.get("/{rejected_id}")
def one(request: Request, db: Db, viewer: Reader, rejected_id: int) -> Response:
    """Show one message whole: reason, times, bytes."""
    row = rejected.find(db, viewer, rejected_id)
    name, remedy = reasons.words(row.reason)
    return pages.render(
        request,
        "rejected/message.html",
        row=row,
        name=name,
        remedy=remedy,
        shown=_shown(row),
        is_cut=len(row.payload) > SHOWN_BYTES,
        may_act=viewer.may("ingest.act"),
    )


@router.get("/{rejected_id}/payload")
def payload(db: Db, viewer: Reader, rejected_id: int) -> Response:
    """Hand out the bytes as they came, for a file and never for the browser to interpret."""
    row = rejected.find(db, viewer, rejected_id)
    name = f"attachment; filename=message-{row.id}.bin"
    return Response(row.payload, media_type="application/octet-stream", headers={"Content-Disposition": name})


@router.post("/replay")
def replay_group(
    db: Db, viewer: Actor, reason: Annotated[str, Form()], device: Annotated[str | None, Form()] = None
) -> Response:
    """Ask for a whole group to be tried again."""
    count = rejected.ask_all(db, viewer, reason=reason, device_key=device, now=clock.now())
    return pages.go("/rejected", notice=ASKED, n=count)


@router.post("/{rejected_id}/replay")
def replay(db: Db, viewer: Actor, rejected_id: int) -> Response:
    """Ask for one message to be tried again."""
    row = rejected.find(db, viewer, rejected_id, "ingest.act")
    rejected.ask(db, row, by=viewer.actor, company_id=viewer.company_id, now=clock.now())
    where = urlencode({"reason": row.reason, "device": row.device_key or ""})
    return pages.go(f"/rejected/messages?{where}", notice=ASKED, n=1)


def _shown(row: RejectedMessage) -> str:
    """Return the payload for reading: its text, or its bytes in hex where it is none. The template escapes it."""
    begin = row.payload[:SHOWN_BYTES]
    try:
        row.payload.decode()
        return begin.decode(errors="ignore").translate(SEEN)
    except UnicodeDecodeError:
        return "\n".join(f"{at:04x}  {begin[at : at + 16].hex(' ')}" for at in range(0, len(begin), 16))
