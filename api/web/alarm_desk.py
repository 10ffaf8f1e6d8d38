"""The alarm desk: what is wrong, and who has it. As a list, on a map, and the history of all that is over.

The list of the desk keeps itself up to date row by row: an event names its alarm, and the page asks for the rows
of those alarms alone (``static/js/desk.js``). Without JavaScript it is a plain list that pages.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.v1 import alarms as v1
from api.web import forms, pages
from assets import listing, types
from assets.models import Asset, Metric
from kernel import clock, i18n
from kernel.errors import FixwrightError
from maintenance.orders import dictionary
from maintenance.orders.models import Order
from people import scope, views
from people.scope import Viewer
from rules import alarm_desk, bad_actors, rollup
from rules.models import SEVERITIES, Alarm

router = APIRouter()
Reader = Annotated[Viewer, needs("alarms.read")]
A_PAGE = 100
MOST_ROWS = 1000
"""How many rows are asked for anew at once, when a page has missed what happened."""
PLACE = "alarms"


class Asked(BaseModel):
    """The filter of the desk as its form sends it: empty texts for what is not chosen."""

    state: str = "listed"
    severity: str = ""
    site: str = ""
    customer: str = ""
    asset: str = ""
    device: str = ""
    type: str = ""
    ack: str = ""
    q: str = ""
    subject: str = ""
    parent: str = ""
    unit: str = ""
    since: str = ""
    until: str = ""
    behind: str = ""
    announced: str = ""
    after: str = Field("", max_length=paging.LONGEST)

    @property
    def is_history(self) -> bool:
        """Whether what is over is asked for as well."""
        return self.state == "all"

    @property
    def place(self) -> Literal["listed", "held", "all"]:
        """Which of the lists is asked for: the desk, what is put away, or the history."""
        return "all" if self.is_history else "held" if self.state == "held" else "listed"

    @property
    def is_filtered(self) -> bool:
        """Whether anything is left out by choice."""
        chosen = (self.severity, self.site, self.customer, self.asset, self.device, self.type, self.ack, self.q)
        return any(chosen) or self.is_of_figure

    @property
    def is_of_figure(self) -> bool:
        """Whether what is behind a figure is asked for."""
        return any((self.subject, self.parent, self.unit, self.since, self.until, self.behind, self.announced))

    @property
    def parameters(self) -> dict[str, str]:
        """The filter as parameters of an address, without the page."""
        return {name: str(value) for name, value in self if name in Asked.model_fields and name != "after"}

    def filter(self) -> v1.Filter:
        """Return the filter of the query.

        Raises:
            Invalid: a field holds what the form cannot send.
        """
        wanted: dict[str, Any] = {
            "severity": self.severity if self.severity in SEVERITIES else None,
            "behind": self.behind if self.behind in bad_actors.KINDS else None,
        }
        return v1.Filter(
            state=self.place,
            **wanted,
            acknowledged={"yes": True, "no": False}.get(self.ack),
            asset=forms.whole(self.asset, "asset"),
            device=forms.whole(self.device, "device"),
            site=forms.whole(self.site, "site"),
            customer=forms.whole(self.customer, "customer"),
            type=self.type.strip()[:80] or None,
            subject=self.subject[:40] or None,
            parent=forms.whole(self.parent, "parent"),
            unit=forms.whole(self.unit, "unit"),
            since=forms.moment(self.since, "since", UTC),
            until=forms.moment(self.until, "until", UTC),
            announced=bool(self.announced),
            q=self.q.strip()[:100],
            sort="-id" if self.is_history else "severity",
            limit=A_PAGE,
            cursor=self.after or None,
        )


class Named(Asked):
    """Which rows of the list are wanted: of alarms and of work orders, with commas between; or the first ``most``."""

    ids: str = ""
    orders: str = ""
    most: int = Field(0, ge=0, le=MOST_ROWS)


@router.get("/alarms")
def desk(request: Request, db: Db, viewer: Reader, asked: Annotated[Asked, Query()]) -> Response:
    """Show the desk, or with ``state=all`` the history."""
    return _desk(request, db, viewer, asked)


def _desk(
    request: Request, db: Session, viewer: Viewer, asked: Asked, *, errors: dict[str, str] | None = None
) -> Response:
    rows, following = v1.page_of(db, viewer, asked.filter())
    return pages.render(
        request,
        "alarms/list.html",
        status=422 if errors else 200,
        following=following,
        **_rows(db, viewer, asked, rows),
        **_head(request, db, viewer, asked),
        errors=errors or {},
    )


@router.get("/alarms/rows")
def some_rows(request: Request, db: Db, viewer: Reader, asked: Annotated[Named, Query()]) -> Response:
    """Answer the rows of some alarms as far as they fit the filter; or the first ``most`` rows of the list.

    Of work orders their alarms are meant.
    """
    wanted = asked.filter().asked()
    fetch = alarm_desk.newest_first if asked.is_history else alarm_desk.worst_first
    if asked.most:
        rows = fetch(db, viewer, wanted, limit=asked.most)
    else:
        named = [*_numbers(asked.ids), *alarm_desk.of_orders(db, viewer, _faults(db, viewer, _numbers(asked.orders)))]
        rows = fetch(db, viewer, wanted.of(named[:MOST_ROWS]), limit=MOST_ROWS)
    return pages.render(request, "alarms/rows.html", **_rows(db, viewer, asked, rows))


def _numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")[:MOST_ROWS] if one.isdecimal() and len(one) <= 18]  # noqa: PLR2004 - a bigint


def _faults(db: Session, viewer: Viewer, ids: Sequence[int]) -> list[tuple[int | None, str | None]]:
    """Return (alarm, fault) of some work orders."""
    if not ids:
        return []
    rows = db.execute(
        select(Order.alarm_id, Order.fault_key).where(Order.id.in_(ids), scope.visible(Order, viewer, "orders.read"))
    )
    return [(alarm_id, fault) for alarm_id, fault in rows]


@router.get("/alarms/counts")
def counts(request: Request, db: Db, viewer: Reader, asked: Annotated[Asked, Query()]) -> Response:
    """Answer how many alarms of each severity are open, as the desk's head shows it."""
    return pages.render(
        request, "alarms/counts.html", asked=asked, counts=alarm_desk.open_by_severity(db, viewer),
        severities=SEVERITIES, path="/alarms",
    )  # fmt: skip


def _head(request: Request, db: Session, viewer: Viewer, asked: Asked) -> dict[str, Any]:
    """Return what stands above the list, the map and the history alike."""
    asset_id = forms.whole(asked.asset, "asset")
    return {
        "counts": alarm_desk.open_by_severity(db, viewer),
        "severities": SEVERITIES,
        "sites": forms.options(listing.sites(db, viewer), request.state.language),
        "asset": scope.find(db, Asset, asset_id, viewer, "assets.read") if asset_id else None,
        "is_filtered": asked.is_filtered,
        "kept": asked.parameters
        | dict.fromkeys(("q", "site", "ack"), "")
        | {"state": asked.place.replace("listed", "")},
        "views": views.of(db, viewer, PLACE),
        "asked_query": views.plain(str(request.query_params)),
    }


def _rows(db: Session, viewer: Viewer, asked: Asked, rows: Sequence[Alarm]) -> dict[str, Any]:
    """Return what a list of alarms needs to be drawn."""
    return {
        "asked": asked,
        "rows": rows,
        "orders": v1.orders_of(db, viewer, rows),
        "stood_for": alarm_desk.stood_for(db, viewer, [row.id for row in rows]),
        "described": _described(db, viewer, rows),
        "meanings": dictionary.meanings(db, rows),
        "may_act": viewer.may("alarms.act"),
    }


def _described(db: Session, viewer: Viewer, rows: Iterable[Alarm]) -> dict[int, Metric]:
    """Return the metric each alarm is about, where its asset's type describes it."""
    of_assets = [row for row in rows if row.asset is not None and row.metric]
    known = types.metrics(db, viewer.company_id, {row.asset.type_id for row in of_assets if row.asset})
    return {
        row.id: known[row.asset.type_id][row.metric]
        for row in of_assets
        if row.asset and row.metric and row.metric in known[row.asset.type_id]
    }


# On a map ----------------------------------------------------------------------------------------------------------


@router.get("/alarms/map")
def on_a_map(request: Request, db: Db, viewer: Reader, asked: Annotated[Asked, Query()]) -> Response:
    """Show where the trouble is."""
    sites = listing.sites(db, viewer)
    return pages.render(
        request,
        "alarms/map.html",
        asked=asked,
        **_head(request, db, viewer, asked),
        placed=sites,
        trouble=rollup.of_sites(db, viewer),
        customers=rollup.customers(db, viewer),
    )


@router.get("/alarms/map.json")
def points(request: Request, db: Db, viewer: Reader) -> JSONResponse:
    """Answer the sites with open alarms as GeoJSON, WGS-84, each with its worst and their number."""
    trouble, language = rollup.of_sites(db, viewer), request.state.language
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [site.longitude, site.latitude]},
            "properties": {
                "id": site.id,
                "title": site.called(language),
                "text": i18n.gettext("{n} open alarms", n=trouble[site.id].count),
                "href": f"/alarms?site={site.id}",
                "severity": trouble[site.id].severity,
                "kind": "site",
            },
        }
        for site in listing.sites(db, viewer)
        if site.id in trouble and site.latitude is not None
    ]
    return JSONResponse({"type": "FeatureCollection", "features": features}, media_type="application/geo+json")


# Saved views -------------------------------------------------------------------------------------------------------


class Kept(BaseModel):
    """A filter and the name it is kept under."""

    name: str = ""
    query: str = ""


@router.post("/alarms/views")
def keep_view(request: Request, db: Db, viewer: Reader, form: Annotated[Kept, Form()]) -> Response:
    """Keep the filter of the desk under a name, with the person's account."""
    try:
        kept = views.keep(db, viewer, PLACE, form.name, form.query, now=clock.now())
    except FixwrightError as error:
        db.rollback()
        return _desk(request, db, viewer, Asked(), errors=forms.refused(request, error))
    return pages.go(f"/alarms?{kept.query}", notice=i18n.noop("Kept as {name}."), name=kept.name)


@router.post("/alarms/views/{view_id}/drop")
def drop_view(db: Db, viewer: Reader, view_id: int) -> Response:
    """Remove one of one's own views."""
    views.drop(db, viewer, view_id, now=clock.now())
    return pages.go("/alarms", notice=i18n.noop("The view is removed."))
