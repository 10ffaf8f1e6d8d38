"""Assets: where is it, how is it? As a list, a tree and a map; and the whole life of one on one page."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api import asset_history, paging
from api.access import Db, Parts, needs
from api.web import asset_page, forms, pages
from api.web.asset_forms import CRITICALITIES, STATUS_WORDS
from api.web.plots import SPANS
from assets import listing, registry
from assets.models import Asset, Location, Site
from kernel import clock, files, i18n
from kernel.errors import NotFound
from kernel.models import File
from people import scope
from people.scope import Viewer
from rules import alarm_desk, rollup
from rules.models import SEVERITIES

router = APIRouter()
Reader = Annotated[Viewer, needs("assets.read")]
A_PAGE = 50
MOST_IN_A_BRANCH = 300
HISTORY = 15


class Asked(BaseModel):
    """The filter of the list as its form sends it: empty texts for what is not chosen."""

    q: str = ""
    type: str = ""
    site: str = ""
    location: str = ""
    part_of: str = ""
    status: str = ""
    state: str = ""
    sort: str = "code"
    after: str = ""
    view: str = "list"

    def wanted(self) -> listing.Wanted:
        """Return the filter of the query.

        Raises:
            Invalid: a field holds what the form cannot send.
        """
        return listing.Wanted(
            text=self.q.strip()[:100],
            type_id=forms.whole(self.type, "type"),
            site_id=forms.whole(self.site, "site"),
            location_id=forms.whole(self.location, "location"),
            parent_id=forms.whole(self.part_of, "part_of"),
            status=self.status if self.status in registry.STATUSES else None,
        )


@router.get("/assets")
def assets(request: Request, db: Db, viewer: Reader, asked: Annotated[Asked, Query()]) -> Response:
    """Show the assets within sight as a list, a tree or a map."""
    if asked.view == "tree":
        return _tree(request, db, viewer, asked)
    if asked.view == "map":
        return pages.render(request, "assets/map.html", **_sites(db, viewer))
    sort = asked.sort if asked.sort.removeprefix("-") in listing.SORTS else "code"
    among = None
    if asked.state == "alarm" or asked.state in SEVERITIES:
        among = rollup.troubled(viewer, None if asked.state == "alarm" else asked.state)
    after = paging.read(asked.after or None, (str, int))
    rows = listing.assets(
        db, viewer, asked.wanted(), sort=sort, after=after and (after[0], after[1]), limit=A_PAGE + 1, among=among
    )
    column = sort.removeprefix("-")
    shown, following = paging.cut(rows, A_PAGE, lambda row: (getattr(row, column), row.id))
    ids = [row.id for row in shown]
    return pages.render(
        request,
        "assets/list.html",
        rows=shown,
        following=following,
        asked=asked,
        sort=sort,
        trouble=rollup.of_assets(db, viewer, ids),
        connection=listing.connection(db, ids),
        types=forms.options(listing.all_types(db, viewer), request.state.language),
        sites=forms.options(listing.sites(db, viewer), request.state.language),
        is_filtered=any((asked.q, asked.type, asked.site, asked.location, asked.part_of, asked.status, asked.state)),
        may_write=viewer.may("assets.write"),
    )


def _sites(db: Session, viewer: Viewer) -> dict[str, Any]:
    return {
        "sites": listing.sites(db, viewer),
        "trouble": rollup.of_sites(db, viewer),
        "counts": listing.counts_by_site(db, viewer),
        "may_write": viewer.may("assets.write"),
    }


def _tree(request: Request, db: Session, viewer: Viewer, asked: Asked) -> Response:
    context = _sites(db, viewer)
    chosen = forms.whole(asked.site, "site")
    if chosen is None and len(context["sites"]) == 1:
        chosen = context["sites"][0].id
    branch = _branch_of_site(db, viewer, chosen) if chosen else None
    return pages.render(request, "assets/tree.html", chosen=chosen, branch=branch, **context)


@router.get("/assets/branch")
def branch(request: Request, db: Db, viewer: Reader, site: int | None = None, asset: int | None = None) -> Response:
    """Answer the next level of the tree: below a site, or below an asset."""
    if site is not None:
        return pages.render(request, "assets/_branch.html", branch=_branch_of_site(db, viewer, site))
    if asset is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    found = scope.find(db, Asset, asset, viewer, "assets.read")
    rows = listing.assets(db, viewer, listing.Wanted(parent_id=found.id), limit=MOST_IN_A_BRANCH)
    return pages.render(request, "assets/_branch.html", branch=_branch(db, viewer, rows, []))


def _branch_of_site(db: Session, viewer: Viewer, site_id: int) -> dict[str, Any]:
    site = scope.find(db, Site, site_id, viewer, "assets.read")
    rows = listing.assets(db, viewer, listing.Wanted(site_id=site.id, is_top=True), limit=MOST_IN_A_BRANCH)
    return _branch(db, viewer, rows, registry.locations_of(db, site.id))


def _branch(db: Session, viewer: Viewer, rows: Sequence[Asset], locations: Sequence[Location]) -> dict[str, Any]:
    ids = [row.id for row in rows]
    inside: dict[int | None, list[Location]] = {}
    for location in locations:
        inside.setdefault(location.parent_id, []).append(location)
    at: dict[int | None, list[Asset]] = {}
    for row in rows:
        at.setdefault(row.location_id if locations else None, []).append(row)
    return {
        "inside": inside,
        "at": at,
        "trouble": rollup.of_assets(db, viewer, ids),
        "with_parts": listing.with_parts(db, ids),
        "is_cut": len(rows) == MOST_IN_A_BRANCH,
    }


@router.get("/assets/map.json")
def site_map(request: Request, db: Db, viewer: Reader) -> JSONResponse:
    """Answer the sites within sight as GeoJSON, each with its worst alarm."""
    context = _sites(db, viewer)
    language = request.state.language
    words = i18n.catalogue(language)
    features = []
    for site in context["sites"]:
        if site.latitude is None:
            continue
        trouble = context["trouble"].get(site.id)
        text = words.get("{n} assets", "{n} assets").format(n=context["counts"].get(site.id, 0))
        if trouble:
            text += " · " + words.get("{n} open alarms", "{n} open alarms").format(n=trouble.count)
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [site.longitude, site.latitude]},
                "properties": {
                    "id": site.id,
                    "title": site.called(language),
                    "text": text,
                    "href": f"/assets?site={site.id}",
                    "severity": trouble.severity if trouble else None,
                    "kind": "site",
                },
            }
        )
    return JSONResponse({"type": "FeatureCollection", "features": features}, media_type="application/geo+json")


# One asset --------------------------------------------------------------------------------------------------------


@router.get("/assets/{asset_id}")
def asset_life(
    request: Request,
    db: Db,
    parts: Parts,
    viewer: Reader,
    asset_id: int,
    *,
    metric: Annotated[list[str], Query()] = [],  # noqa: B006 - FastAPI copies it
    span: str = "24h",
    after: str = "",
) -> Response:
    """Show an asset's whole life."""
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    now = clock.now()
    period = span if span in SPANS else "24h"
    may_measure = viewer.may("telemetry.read")
    values = asset_page.values(db, parts, asset, now=now) if may_measure else []
    chosen = [one.key for one in values if one.key in metric] or asset_page.default_metrics(values)
    key = paging.read(after or None, (datetime, int, int))
    history = asset_history.read(db, viewer, asset, after=key and (key[0], key[1], key[2]), limit=HISTORY + 1)
    happened, following = paging.cut(history, HISTORY, lambda one: one.key)
    children = listing.assets(db, viewer, listing.Wanted(parent_id=asset.id), limit=MOST_IN_A_BRANCH)
    wanted = alarm_desk.Wanted(within=asset.id)
    alarms = (
        alarm_desk.worst_first(db, viewer, wanted, limit=asset_page.MOST_ORDERS) if viewer.may("alarms.read") else []
    )
    return pages.render(
        request,
        "assets/asset.html",
        asset=asset,
        above=registry.ancestors(db, asset),
        children=children,
        trouble=rollup.of_assets(db, viewer, [asset.id, *(child.id for child in children)]),
        values=values,
        may_measure=may_measure,
        chosen=chosen,
        src=f"/assets/{asset.id}/curve?" + urlencode({"span": period, "metric": chosen}, doseq=True),
        span=period,
        spans=tuple(SPANS),
        alarms=alarms,
        orders=asset_page.open_orders(db, viewer, asset),
        plans=asset_page.plans(db, viewer, asset),
        used=asset_page.parts_used(db, viewer, asset, now=now),
        devices=asset_page.devices(db, asset),
        happened=happened,
        following=following,
        first=not after,
        status_words=STATUS_WORDS,
        criticalities=dict(CRITICALITIES),
        may_write=viewer.may("assets.write"),
    )


@router.get("/assets/{asset_id}/values")
def asset_values(request: Request, db: Db, parts: Parts, viewer: Reader, asset_id: int) -> Response:
    """Answer the values of an asset as they are now: the part of its page that renews itself."""
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    values = asset_page.values(db, parts, asset, now=clock.now()) if viewer.may("telemetry.read") else []
    return pages.render(request, "assets/_values.html", asset=asset, values=values)


@router.get("/assets/{asset_id}/photo")
def photo(db: Db, parts: Parts, viewer: Reader, asset_id: int, size: str = "view") -> FileResponse:
    """Send the picture that stands for an asset."""
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    file = db.get(File, asset.photo_id) if asset.photo_id else None
    if file is None:
        raise NotFound("There is no such picture.")
    headers = {"Cache-Control": "private, max-age=86400"}
    return FileResponse(files.shown(parts.files, file, size), media_type="image/jpeg", headers=headers)
