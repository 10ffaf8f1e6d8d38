"""How long readings are kept, on pages: the card of a type, and the legal hold of an asset."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.access import Db, Parts, needs
from api.v1.keeping import retention_of
from api.web import forms, pages, types
from assets import keeping
from assets.keeping_tables import LegalHold
from assets.models import Asset
from kernel import clock, i18n
from kernel.errors import Conflict, Invalid
from people import scope
from people.models import Account, OrgUnit
from people.scope import Viewer
from telemetry.retention import Lifetimes

router = APIRouter()
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("assets.write")]


class RetentionForm(BaseModel):
    """The form as it is sent; ``inherit`` leaves the days aside."""

    raw_days: str = ""
    minute_days: str = ""
    hour_days: str = ""
    inherit: str = ""

    def wanted(self) -> Lifetimes | None:
        """Return the lifetimes it describes, None for those of the parent or the settings.

        Raises:
            Invalid: a field cannot be read.
        """
        if self.inherit:
            return None
        days = {}
        for field in ("raw_days", "minute_days", "hour_days"):
            days[field] = forms.whole(getattr(self, field), field)
            if days[field] is None:
                raise Invalid("This is needed.", field=field)
        return Lifetimes(days["raw_days"] or 0, days["minute_days"] or 0, days["hour_days"] or 0)


@router.post("/types/{type_id}/retention")
def state_retention(
    request: Request, db: Db, parts: Parts, viewer: Writer, type_id: int, form: Annotated[RetentionForm, Form()]
) -> Response:
    """Let a type have lifetimes of its own, or inherit them."""
    kind = types.mine(db, viewer, type_id)
    try:
        has_tiers = parts.store.has_tiers
        keeping.state(db, kind, form.wanted(), has_tiers=has_tiers, actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        return types.again(request, db, viewer, type_id, error, keeps=form)
    return pages.go(f"/types/{type_id}#retention", notice=i18n.noop("Saved. Housekeeping follows within six hours."))


class ReasonForm(BaseModel):
    """Why an asset is put on hold."""

    reason: str = ""


@router.get("/assets/{asset_id}/keeping")
def kept(request: Request, db: Db, parts: Parts, viewer: Reader, asset_id: int) -> Response:
    """Show how long readings of an asset are kept, and whether it is on hold."""
    return _page(request, db, parts, viewer, asset_id)


@router.post("/assets/{asset_id}/keeping")
def put_on_hold(
    request: Request, db: Db, parts: Parts, viewer: Writer, asset_id: int, form: Annotated[ReasonForm, Form()]
) -> Response:
    """Let no reading of an asset be forgotten until it is released."""
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", asset.unit_id)
    try:
        keeping.hold(db, asset, form.reason, actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        db.rollback()
        return _page(request, db, parts, viewer, asset_id, errors=forms.refused(request, error), reason=form.reason)
    return pages.go(f"/assets/{asset_id}/keeping", notice=i18n.noop("On hold: nothing of it is forgotten."))


@router.post("/assets/{asset_id}/keeping/release")
def release(db: Db, viewer: Writer, asset_id: int) -> Response:
    """Let readings of an asset be forgotten again when their time is over."""
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", asset.unit_id)
    keeping.release(db, asset, actor=viewer.actor, now=clock.now())
    return pages.go(f"/assets/{asset_id}/keeping", notice=i18n.noop("Released. Readings go when their time is over."))


def _page(
    request: Request,
    db: Session,
    parts: Parts,
    viewer: Viewer,
    asset_id: int,
    *,
    errors: dict[str, str] | None = None,
    reason: str = "",
) -> Response:
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    hold = db.get(LegalHold, asset.id)
    number = hold.by.removeprefix("account:") if hold else ""
    account = db.get(Account, int(number)) if number.isdecimal() else None
    return pages.render(
        request,
        "assets/keeping.html",
        status=422 if errors else 200,
        asset=asset,
        hold=hold,
        held_by=account.name if account else "",
        kept=retention_of(db, parts.settings, asset.company_id, asset.type_id),
        has_tiers=parts.store.has_tiers,
        can_expire=parts.store.can_expire,
        may_write=viewer.may_at("assets.write", db.get_one(OrgUnit, asset.unit_id).path),
        errors=errors or {},
        reason=reason,
    )
