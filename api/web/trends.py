"""What wears towards its limit, and when it will be there: the page of watched trends."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import trends as v1
from api.v1.types import find as find_type
from api.web import forms, pages
from assets import listing, types
from kernel import clock, i18n
from kernel.errors import Conflict, Invalid
from people import scope
from people.models import OrgUnit
from people.scope import Viewer
from rules import trends

router = APIRouter(prefix="/trends")
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]
DIRECTIONS = (("rising", i18n.noop("rises to")), ("falling", i18n.noop("falls to")))


class WatchForm(BaseModel):
    """The form as it is sent; ``measured`` is type and metric, as in ``4/bearing_temperature``."""

    measured: str = ""
    direction: str = "rising"
    limit: str = ""
    window_days: str = "90"
    lead_days: str = "30"


@router.get("")
def overview(request: Request, db: Db, viewer: Reader) -> Response:
    """Show what is foretold, and what is watched."""
    return _page(request, db, viewer, WatchForm())


@router.post("")
def watch(request: Request, db: Db, viewer: Writer, form: Annotated[WatchForm, Form()]) -> Response:
    """Watch a metric of a type."""
    scope.require(db, viewer, "rules.write", viewer.company_id)
    try:
        type_id, metric = _measured(form.measured)
        kind = find_type(db, viewer, type_id)
        trends.watch(db, kind, _draft(form, metric), actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        db.rollback()
        return _page(request, db, viewer, form, errors=forms.refused(request, error))
    v1.wake(request)
    return pages.go("/trends", notice=i18n.noop("It is watched now. What is foretold follows in a minute."))


@router.post("/{watch_id}/stop")
def stop(db: Db, viewer: Writer, watch_id: int) -> Response:
    """Watch it no more."""
    watched = v1.find(db, viewer, watch_id)
    scope.require(db, viewer, "rules.write", viewer.company_id)
    trends.stop(db, watched, actor=viewer.actor, now=clock.now())
    return pages.go("/trends", notice=i18n.noop("It is no longer watched."))


def _measured(chosen: str) -> tuple[int, str]:
    type_id, _, metric = chosen.partition("/")
    number = forms.whole(type_id, "measured")
    if number is None or not metric:
        raise Invalid("This is needed.", field="measured")
    return number, metric


def _draft(form: WatchForm, metric: str) -> trends.WatchDraft:
    numbers: dict[str, Any] = {"limit": forms.number(form.limit, "limit")}
    for field in ("window_days", "lead_days"):
        numbers[field] = forms.whole(getattr(form, field), field)
    for field, value in numbers.items():
        if value is None:
            raise Invalid("This is needed.", field=field)
    return trends.WatchDraft(metric=metric, is_rising=form.direction != "falling", **numbers)


def _page(
    request: Request, db: Session, viewer: Viewer, form: WatchForm, *, errors: dict[str, str] | None = None
) -> Response:
    language = request.state.language
    kinds = {kind.id: kind for kind in listing.all_types(db, viewer)}
    measured = types.metrics(db, viewer.company_id, list(kinds))
    watched = trends.watches(db, viewer.company_id)
    return pages.render(
        request,
        "trends/list.html",
        status=422 if errors else 200,
        told=trends.foretold(db, viewer),
        watched=watched,
        counts=trends.counts(db, viewer, [one.id for one in watched]),
        metrics=measured,
        choices=[
            (f"{kind.id}/{key}", f"{kind.called(language)} · {metric.called(language)}")
            for kind in kinds.values()
            for key, metric in measured[kind.id].items()
            if metric.kind != "text"
        ],
        directions=forms.translated(DIRECTIONS, language),
        may_write=viewer.may_at("rules.write", db.get_one(OrgUnit, viewer.company_id).path),
        form=form,
        errors=errors or {},
    )
