"""The one search box: finds machines, orders, parts, devices and rules by code, number or name, within sight.

What begins with the words comes before what only contains them. A single hit by its exact code is opened at once,
because that is what somebody means who types a code.
"""

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import ColumnElement, case, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload

from api.access import Db, SignedIn
from api.web import pages
from assets.models import Asset, Device
from kernel import i18n
from maintenance.orders.models import Order
from maintenance.parts.models import Part
from people import scope
from people.scope import Viewer
from rules import visible
from rules.models import AlarmType

router = APIRouter()
MOST = 10
LONGEST = 100


@dataclass(frozen=True, slots=True)
class Hit:
    """Something found: what it is called, its code, and where it is shown."""

    name: str
    code: str
    href: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """What was found of one kind, and where more of it is."""

    title: str
    icon: str
    hits: list[Hit]
    more: str


@router.get("/search")
def search(request: Request, db: Db, viewer: SignedIn, q: str = "") -> Response:
    """Find what is within sight."""
    text = " ".join(q.split())[:LONGEST]
    groups = [group for group in _groups(db, viewer, text, request.state.language) if group.hits] if text else []
    exact = [hit for group in groups for hit in group.hits if hit.code.casefold() == text.casefold()]
    if len(exact) == 1:
        return RedirectResponse(exact[0].href, status_code=303)
    return pages.render(request, "search/found.html", groups=groups, search_text=text, most=MOST)


def _groups(db: Session, viewer: Viewer, text: str, language: str) -> list[Group]:
    return [
        Group(i18n.noop("Assets"), "engine", _assets(db, viewer, text, language), "/assets?q="),
        Group(i18n.noop("Orders"), "clipboard-list", _orders(db, viewer, text, language), "/orders?q="),
        Group(i18n.noop("Parts"), "packages", _parts(db, viewer, text, language), "/parts?q="),
        Group(i18n.noop("Rules"), "adjustments", _rules(db, viewer, text, language), "/rules?q="),
        Group(i18n.noop("Devices"), "cpu", _devices(db, viewer, text), "/devices?q="),
    ]


def _matching(text: str, *columns: InstrumentedAttribute[Any]) -> tuple[ColumnElement[bool], ColumnElement[int]]:
    """Return the condition of a hit and the order of hits: those that begin with the text first."""
    holds = or_(*(column.icontains(text, autoescape=True) for column in columns))
    begins = or_(*(column.istartswith(text, autoescape=True) for column in columns))
    return holds, case((begins, 0), else_=1)


def _assets(db: Session, viewer: Viewer, text: str, language: str) -> list[Hit]:
    holds, order = _matching(text, Asset.code, Asset.name, Asset.name_zh, Asset.serial)
    found = db.scalars(
        select(Asset)
        .where(holds, scope.visible(Asset, viewer, "assets.read"))
        .options(joinedload(Asset.site))
        .order_by(order, Asset.code, Asset.id)
        .limit(MOST)
    )
    return [Hit(one.called(language), one.code, f"/assets/{one.id}", one.site.called(language)) for one in found]


def _orders(db: Session, viewer: Viewer, text: str, language: str) -> list[Hit]:
    holds, order = _matching(text, Order.number, Order.title, Order.title_zh)
    found = db.scalars(
        select(Order)
        .where(holds, scope.visible(Order, viewer, "orders.read"))
        .options(joinedload(Order.asset))
        .order_by(order, Order.id.desc())
        .limit(MOST)
    )
    return [
        Hit(
            (one.title_zh or one.title) if language == "zh" else one.title,
            one.number,
            f"/orders/{one.id}",
            one.asset.called(language) if one.asset else "",
        )
        for one in found
    ]


def _parts(db: Session, viewer: Viewer, text: str, language: str) -> list[Hit]:
    if not viewer.may("parts.read"):
        return []
    holds, order = _matching(text, Part.number, Part.name, Part.name_zh, Part.barcode)
    found = db.scalars(
        select(Part)
        .where(holds, Part.company_id == viewer.company_id, Part.is_active)
        .order_by(order, Part.number, Part.id)
        .limit(MOST)
    )
    return [Hit(one.called(language), one.number, f"/parts/{one.id}", one.category) for one in found]


def _rules(db: Session, viewer: Viewer, text: str, language: str) -> list[Hit]:
    holds, order = _matching(text, AlarmType.key, AlarmType.name, AlarmType.name_zh)
    found = db.scalars(
        select(AlarmType)
        .where(holds, visible.readable(viewer))
        .order_by(order, AlarmType.key, AlarmType.id)
        .limit(MOST)
    )
    return [Hit(one.called(language), one.key, f"/rules/{one.id}") for one in found]


def _devices(db: Session, viewer: Viewer, text: str) -> list[Hit]:
    holds, order = _matching(text, Device.key, Device.name)
    found = db.scalars(
        select(Device)
        .where(holds, scope.visible(Device, viewer, "assets.read"))
        .order_by(order, Device.key, Device.id)
        .limit(MOST)
    )
    return [Hit(one.name, one.key, f"/devices/{one.id}") for one in found]
