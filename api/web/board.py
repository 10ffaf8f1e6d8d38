"""The first page: what needs me now? For the desk; a technician is sent to the day's work on the phone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from sqlalchemy import Date, case, cast, func, select
from sqlalchemy.orm import Session, joinedload

from api.access import Db, SignedIn
from api.web import due, pages
from assets.models import Site
from kernel import clock
from maintenance.dispatch import crowd
from maintenance.orders import dictionary, faults, requests, urgency, worklist
from maintenance.orders.models import Order
from maintenance.orders.models import Request as Report
from maintenance.orders.worklist import Wanted
from maintenance.parts import catalogue
from maintenance.plans.models import Plan
from people import accounts, hours, scope
from people.models import Account
from people.scope import Viewer
from rules.models import SEVERITIES, Alarm

router = APIRouter()
SHOWN = 8
WEEK = timedelta(days=7)
MOST_TOPICS = 50
UNDER_WAY = ("working", "on_site", "travelling", "paused")


@dataclass(frozen=True, slots=True)
class Technician:
    """A person who carries out orders, as a dispatcher sees one."""

    id: int
    name: str
    open_minutes: int
    is_on_shift: bool
    doing: Order | None
    position: tuple[float, float] | None


@router.get("/")
def now_page(request: Request, db: Db, viewer: SignedIn) -> Response:
    """Show what needs the viewer now."""
    if viewer.may("orders.work") and not viewer.may("orders.assign"):
        return RedirectResponse("/my", status_code=303)
    now = clock.now()
    return pages.render(
        request,
        "board/now.html",
        due=lambda order: due.shown(order, now, request.state.language),
        **(_orders(db, viewer, now) if viewer.may("orders.read") else {}),
        **(_alarms(db, viewer) if viewer.may("alarms.read") else {}),
        **(_reports(db, viewer) if viewer.may("requests.read") else {"waiting": None}),
        technicians=technicians(db, viewer, now) if viewer.may("orders.assign") else None,
        week=_week(db, viewer, now) if viewer.may("orders.verify") else None,
        coming=_coming(db, viewer, now) if viewer.may("plans.write") else None,
        low=catalogue.listed(db, viewer, low_only=True, limit=SHOWN) if viewer.may("parts.write") else None,
        picks=catalogue.reservations(db, viewer, limit=SHOWN) if viewer.may("parts.write") else None,
    )


@router.get("/live")
def live(request: Request, viewer: SignedIn, topics: Annotated[str, Query(max_length=2000)] = "") -> Response:
    """Tell an open page which of its topics changed, as server-sent events."""
    asked = frozenset(topic for topic in topics.split(",")[:MOST_TOPICS] if topic)
    return StreamingResponse(
        request.app.state.live.stream(viewer, asked),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get("/now/map")
def points(request: Request, db: Db, viewer: SignedIn) -> Response:
    """Return sites and technicians as GeoJSON, WGS-84."""
    features = _site_points(db, viewer, request.state.language) if viewer.may("assets.read") else []
    if viewer.may("orders.assign"):
        features += [_person_point(one) for one in technicians(db, viewer, clock.now()) if one.position]
    return JSONResponse({"type": "FeatureCollection", "features": features}, media_type="application/geo+json")


def technicians(db: Session, viewer: Viewer, now: datetime) -> Sequence[Technician]:
    """Return the people a dispatcher sends out, who is on shift first, then by load."""
    within = select(Account.id).where(accounts.visible(viewer), Account.is_active)
    ids = list(db.scalars(within))
    people = crowd.gather(db, viewer.company_id, now, only=ids).people
    doing: Mapping[int | None, Order] = {
        order.assignee_id: order
        for order in db.scalars(
            select(Order)
            .where(Order.assignee_id.in_([one.id for one in people]), Order.phase.in_(UNDER_WAY))
            .options(joinedload(Order.site))
            .order_by(case({phase: place for place, phase in enumerate(UNDER_WAY)}, value=Order.phase).desc())
        )
    }
    found = [
        Technician(
            id=one.id,
            name=one.name,
            open_minutes=one.open_minutes,
            is_on_shift=hours.works_at(one.shifts, one.absences, now),
            doing=doing.get(one.id),
            position=(one.position.latitude, one.position.longitude) if one.position else None,
        )
        for one in people
        if one.shifts
    ]
    return sorted(found, key=lambda one: (not one.is_on_shift, -one.open_minutes, one.id))


def _orders(db: Session, viewer: Viewer, now: datetime) -> dict[str, Any]:
    counts = worklist.counts(db, viewer, Wanted(), now=now)
    soon = db.execute(
        select(
            func.count().filter(Order.due_at < now),
            func.count().filter(Order.due_at >= now),
        ).where(
            scope.visible(Order, viewer, "orders.read"),
            faults.is_open(),
            Order.finished_at.is_(None),
            Order.due_at < now + due.NEAR,
        )
    ).one()
    unassigned = Wanted(is_unassigned=True)
    urgent = worklist.listed(db, viewer, Wanted(is_open=True, is_unfinished=True), now=now, sort="due", limit=SHOWN)
    return {
        "unassigned": worklist.listed(db, viewer, unassigned, now=now, sort="priority", limit=SHOWN),
        "unassigned_count": counts["new"],
        "soon": [order for order in urgent if order.due_at is not None and order.due_at < now + due.NEAR],
        "late_count": soon[0],
        "near_count": soon[1],
        "to_verify": counts["done"],
        "priorities": urgency.PRIORITIES,
    }


def _alarms(db: Session, viewer: Viewer) -> dict[str, Any]:
    within = scope.visible(Alarm, viewer, "alarms.read")
    worst = case({name: place for place, name in enumerate(SEVERITIES)}, value=Alarm.severity)
    rows = db.scalars(
        select(Alarm)
        .where(within, Alarm.is_active, Alarm.severity.in_(("critical", "major")))
        .order_by(worst, Alarm.id.desc())
        .limit(SHOWN)
        .options(joinedload(Alarm.asset), joinedload(Alarm.device), joinedload(Alarm.alarm_type))
    ).all()
    number = db.scalar(select(func.count()).where(within, Alarm.is_active, Alarm.severity == "critical"))
    return {"alarms": rows, "meanings": dictionary.meanings(db, rows), "critical_count": number or 0}


def _reports(db: Session, viewer: Viewer) -> dict[str, Any]:
    within = scope.visible(Report, viewer, "requests.read")
    number = db.scalar(select(func.count()).where(within, Report.state.in_(requests.WAITING)))
    return {"waiting": requests.waiting(db, viewer, limit=SHOWN), "waiting_count": number or 0}


def _week(db: Session, viewer: Viewer, now: datetime) -> dict[str, list[int]]:
    """Return how many orders were opened and finished on each of the last 14 days of the viewer's zone."""
    zone = ZoneInfo(viewer.zone)
    today = now.astimezone(zone).date()
    days = [today - timedelta(days=back) for back in range(13, -1, -1)]
    since = datetime.combine(days[0], time(0), zone)
    found: dict[str, list[int]] = {}
    for name, column in (("opened", Order.created_at), ("finished", Order.finished_at)):
        local = cast(func.timezone(viewer.zone, column), Date)
        counted = select(local, func.count()).where(scope.visible(Order, viewer, "orders.read"), column >= since)
        numbers = {day: number for day, number in db.execute(counted.group_by(local))}  # noqa: C416
        found[name] = [numbers.get(day, 0) for day in days]
    return found


def _coming(db: Session, viewer: Viewer, now: datetime) -> Sequence[Plan]:
    """Return the plans that fall due within a week, the soonest first."""
    return db.scalars(
        select(Plan)
        .where(scope.visible(Plan, viewer, "plans.read"), Plan.is_active, Plan.next_due_at < now + WEEK)
        .order_by(Plan.next_due_at)
        .limit(SHOWN)
        .options(joinedload(Plan.asset))
    ).all()


def _site_points(db: Session, viewer: Viewer, language: str) -> list[dict[str, Any]]:
    sites = db.scalars(
        select(Site).where(scope.visible(Site, viewer, "assets.read"), Site.latitude.is_not(None)).limit(2000)
    ).all()
    open_orders: dict[int | None, int] = {}
    worst: dict[int | None, str] = {}
    if viewer.may("orders.read"):
        counted = select(Order.site_id, func.count()).where(
            scope.visible(Order, viewer, "orders.read"), faults.is_open()
        )
        open_orders = {site_id: number for site_id, number in db.execute(counted.group_by(Order.site_id))}  # noqa: C416
    if viewer.may("alarms.read"):
        active = select(Alarm.unit_id, Alarm.severity).where(
            scope.visible(Alarm, viewer, "alarms.read"), Alarm.is_active
        )
        for unit_id, severity in db.execute(active.distinct()):
            known = worst.get(unit_id, severity)
            worst[unit_id] = min(known, severity, key=SEVERITIES.index)
    return [
        _point(
            f"site-{one.id}",
            (one.latitude or 0.0, one.longitude or 0.0),
            title=one.called(language),
            text=str(open_orders.get(one.id, 0)),
            href=f"/orders?site={one.id}&open=true",
            severity=worst.get(one.unit_id),
            kind="site",
        )
        for one in sites
    ]


def _person_point(one: Technician) -> dict[str, Any]:
    doing = one.doing.number if one.doing else ""
    where = one.position or (0.0, 0.0)
    href = f"/orders?assignee={one.id}&open=true"
    return _point(f"person-{one.id}", where, title=one.name, text=doing, href=href, severity=None, kind="person")


def _point(identity: str, where: tuple[float, float], **properties: Any) -> dict[str, Any]:  # noqa: ANN401
    latitude, longitude = where
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [longitude, latitude]},
        "properties": {"id": identity, **properties},
    }
