"""The meters of an asset on a page: its life-to-date, and what people did to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, Parts, needs
from api.runtime import Runtime
from api.v1 import meters as v1
from api.v1 import steps
from api.web import forms, pages
from assets import measured, meters, types
from assets.derived_tables import MeterChange
from assets.models import Asset, Metric
from kernel import clock, i18n
from kernel.errors import Conflict, Invalid
from people import scope
from people.models import Account, OrgUnit
from people.scope import Viewer

router = APIRouter()
Reader = Annotated[Viewer, needs("telemetry.read")]
Writer = Annotated[Viewer, needs("assets.write")]
PAGE: Final = 50
CHANGE_WORDS: Final = (
    ("exchange", i18n.noop("Meter exchanged")),
    ("reset", i18n.noop("Meter set back")),
    ("total", i18n.noop("Life-to-date stated")),
)


class MeterForm(BaseModel):
    """The form of what was done to a meter, as it is sent."""

    metric: str = ""
    kind: str = "exchange"
    at: str = ""
    final: str = ""
    initial: str = ""
    total: str = ""
    reason: str = ""

    def draft(self, zone: tzinfo) -> meters.MeterDraft:
        """Return what it describes; its time is one of a zone.

        Raises:
            Invalid: a field cannot be read.
        """
        at = forms.moment(self.at, "at", zone)
        if at is None:
            raise Invalid("This is needed.", field="at")
        return meters.MeterDraft(
            metric=self.metric,
            kind=self.kind,
            at=at,
            final=forms.number(self.final, "final"),
            initial=forms.number(self.initial, "initial"),
            total=forms.number(self.total, "total"),
            reason=self.reason,
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """A running total of an asset as it stands."""

    metric: Metric | None
    key: str
    total: float | None
    at: datetime | None
    source: str
    is_counter: bool


@router.get("/assets/{asset_id}/meters")
def meters_of(
    request: Request,
    db: Db,
    parts: Parts,
    viewer: Reader,
    asset_id: int,
    after: Annotated[str | None, Query()] = None,
) -> Response:
    """Show the life-to-date of an asset's meters, and what was done to them."""
    asset = scope.find(db, Asset, asset_id, viewer, "telemetry.read")
    zone = steps.zone(viewer.zone)
    form = MeterForm(at=f"{clock.now().astimezone(zone):%Y-%m-%dT%H:%M}")
    return _meters(request, db, parts, viewer, asset, form, after=after)


@router.post("/assets/{asset_id}/meters")
def record(
    request: Request, db: Db, parts: Parts, viewer: Writer, asset_id: int, form: Annotated[MeterForm, Form()]
) -> Response:
    """Take note of what was done to a meter."""
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", asset.unit_id)
    try:
        meters.record(db, asset, form.draft(steps.zone(viewer.zone)), actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        db.rollback()
        return _meters(request, db, parts, viewer, asset, form, errors=forms.refused(request, error))
    return pages.go(f"/assets/{asset_id}/meters", notice=i18n.noop("Noted. Hours and totals follow within a minute."))


@router.post("/assets/{asset_id}/meters/{change_id}/withdraw")
def withdraw(db: Db, viewer: Writer, asset_id: int, change_id: int) -> Response:
    """Take back what was noted by mistake."""
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", asset.unit_id)
    meters.withdraw(db, asset, v1.change_of(db, asset, change_id), actor=viewer.actor, now=clock.now())
    return pages.go(f"/assets/{asset_id}/meters", notice=i18n.noop("Withdrawn. Hours and totals follow."))


def _meters(
    request: Request,
    db: Session,
    parts: Runtime,
    viewer: Viewer,
    asset: Asset,
    form: MeterForm,
    *,
    errors: dict[str, str] | None = None,
    after: str | None = None,
) -> Response:
    language = request.state.language
    described = types.metrics(db, asset.company_id, [asset.type_id])[asset.type_id]
    standing = _standing(db, parts, asset, described)
    key = paging.read(after, (int,))
    rows = meters.listed(db, asset.id, before=key[0] if key else None, limit=PAGE + 1)
    shown, following = paging.cut(rows, PAGE, lambda row: (row.id,))
    counters = {one.source for one in standing if one.is_counter}
    choices = [(key, _called(described, key, language)) for key in sorted(counters)]
    totals = [(one.key, one.metric.called(language) if one.metric else one.key) for one in standing]
    return pages.render(
        request,
        "assets/meters.html",
        status=422 if errors else 200,
        asset=asset,
        standing=standing,
        counters=choices,
        totals=totals,
        rows=shown,
        names={row.metric: _called(described, row.metric, language) for row in shown},
        people=_people(db, shown),
        words=dict(forms.translated(CHANGE_WORDS, language)),
        following=following,
        is_first=after is None,
        form=form,
        errors=errors or {},
        may_write=viewer.may_at("assets.write", db.get_one(OrgUnit, asset.unit_id).path),
        may_write_type=viewer.may_at("assets.write", db.get_one(OrgUnit, viewer.company_id).path),
    )


def _standing(db: Session, parts: Runtime, asset: Asset, described: Mapping[str, Metric]) -> list[Standing]:
    summed = [one for one in meters.derived_on(db, asset) if one.total is not None]
    current = {one.metric: one.series for one in measured.now_on(db, [asset.id])}
    latest = parts.store.latest([current[one.total] for one in summed if one.total in current])
    found = []
    for one in summed:
        newest = latest.get(current.get(one.total or "", -1))
        found.append(
            Standing(
                described.get(one.key),
                one.key,
                None if newest is None else newest.value,
                None if newest is None else clock.from_ms(newest.ts_ms),
                one.source,
                one.recipe.how == "counter",
            )
        )
    return found


def _called(described: Mapping[str, Metric], key: str, language: str) -> str:
    return described[key].called(language) if key in described else key


def _people(db: Session, rows: Sequence[MeterChange]) -> dict[str, str]:
    """Return the names of those who noted or withdrew something."""
    actors = {actor for row in rows for actor in (row.by, row.withdrawn_by) if actor}
    numbers = {int(number) for actor in actors if (number := actor.removeprefix("account:")).isdecimal()}
    named = db.execute(select(Account.id, Account.name).where(Account.id.in_(numbers)))
    return {f"account:{identity}": name for identity, name in named}
