"""What holds alarms: everything that is put away, why and until when; windows planned, machines out of service."""

from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.v1 import alarms_held as v1
from api.web import forms, pages
from assets.models import Asset
from kernel import i18n
from kernel.errors import FixwrightError, Invalid
from people import oversight, scope
from people.scope import Viewer
from rules.hold_tables import AlarmHold
from rules.models import Alarm

router = APIRouter(prefix="/alarms/holds")
Reader = Annotated[Viewer, needs("alarms.read")]
Holder = Annotated[Viewer, needs("alarms.hold")]
MOST = 1000
A_PAGE = 50


class Typed(BaseModel):
    """The form of a window as it is sent."""

    asset: str = ""
    kind: str = "suppressed"
    reason: str = ""
    began_at: str = ""
    until: str = ""

    def hold(self, viewer: Viewer) -> v1.HoldIn:
        """Return what was asked for, its times read in the viewer's zone.

        Raises:
            Invalid: a field holds what the form cannot send.
        """
        asset_id = forms.whole(self.asset, "asset")
        if asset_id is None:
            raise Invalid("Choose a machine.", field="asset")
        zone = ZoneInfo(viewer.zone)
        return v1.HoldIn(
            asset_id=asset_id,
            kind="out_of_service" if self.kind == "out_of_service" else "suppressed",
            reason=self.reason[:500],
            began_at=forms.moment(self.began_at, "began_at", zone),
            until=forms.moment(self.until, "until", zone),
        )


@router.get("")
def list_holds(
    request: Request,
    db: Db,
    viewer: Reader,
    after: Annotated[str, Query(max_length=paging.LONGEST)] = "",
    state: str = "open",
) -> Response:
    """Show what is put away."""
    return _list(request, db, viewer, after=after, state=state)


@router.post("")
def hold(request: Request, db: Db, viewer: Holder, form: Annotated[Typed, Form()]) -> Response:
    """Plan a window, or take a machine out of service."""
    try:
        v1.begin(db, viewer, form.hold(viewer))
    except FixwrightError as error:
        db.rollback()
        return _list(request, db, viewer, typed=form, errors=forms.refused(request, error))
    return pages.go("/alarms/holds", notice=i18n.noop("Kept. It ends by itself."))


@router.post("/{hold_id}/end")
def end(db: Db, viewer: Holder, hold_id: int) -> Response:
    """End one before its time."""
    v1.end(db, viewer, hold_id)
    return pages.go("/alarms/holds", notice=i18n.noop("Ended. What still stands is announced."))


def _list(
    request: Request,
    db: Session,
    viewer: Viewer,
    *,
    after: str = "",
    state: str = "open",
    typed: Typed | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    is_all = state == "all"
    rows, following = v1.page_of(
        db, viewer, v1.Filter(state="all" if is_all else "open", limit=A_PAGE, cursor=after or None)
    )
    return pages.render(
        request,
        "alarms/holds.html",
        status=422 if errors else 200,
        rows=rows,
        following=following,
        after=after,
        is_all=is_all,
        about=_about(db, rows),
        names=oversight.names(db, viewer, [row.by for row in rows]),
        assets=_assets(db, viewer, request.state.language) if viewer.may("alarms.hold") else [],
        may_hold=viewer.may("alarms.hold"),
        typed=typed or Typed(),
        errors=errors or {},
    )


def _about(db: Session, rows: list[AlarmHold]) -> dict[int, Alarm]:
    """Return the latest alarm of each fault that is held, to name it."""
    found: dict[int, Alarm] = {}
    for row in rows:
        if row.subject is not None:
            one = db.scalars(
                select(Alarm)
                .where(Alarm.subject == row.subject, Alarm.type_key == row.type_key)
                .order_by(Alarm.id.desc())
                .limit(1)
            ).first()
            if one is not None:
                found[row.id] = one
    return found


def _assets(db: Session, viewer: Viewer, language: str) -> list[tuple[int, str]]:
    rows = db.scalars(
        select(Asset)
        .where(scope.visible(Asset, viewer, "alarms.hold"), Asset.status != "scrapped")
        .order_by(Asset.code)
        .limit(MOST)
    )
    return [(row.id, f"{row.code} · {row.called(language)}") for row in rows]
