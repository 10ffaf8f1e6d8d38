"""The planner's pages: the calendar of what is coming, the weeks' load, and plans made, changed and paused."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from api import paging
from api.access import Db, needs
from api.web import forms, pages, recurring
from assets.models import Asset, Site
from kernel import clock, i18n
from kernel.errors import FixwrightError, Invalid, NotFound
from maintenance.orders import urgency
from maintenance.plans import outlook, planning, schedule
from maintenance.plans.models import Checklist, Occurrence, Plan
from maintenance.plans.planning import Wish
from maintenance.plans.recurrence import Target
from people import scope
from people.models import Skill, Team
from people.scope import Viewer

router = APIRouter(tags=["plans"])
PAGE = 50
LONGEST_VIEW = timedelta(days=400)
SHOWN_AHEAD = 12
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""When plans that have ended are due next: after all others."""

Reader = Annotated[Viewer, needs("plans.read")]
Writer = Annotated[Viewer, needs("plans.write")]
Number = Annotated[str, Query(max_length=20)]


async def _given(request: Request) -> dict[str, str]:
    """Return the fields of a form as texts, several of one name joined by commas, cut to what ours can hold."""
    form = await request.form()
    return {name: ",".join(str(value) for value in form.getlist(name))[:400] for name in form}


Given = Annotated[dict[str, str], Depends(_given)]


@router.get("/plans")
def overview(
    request: Request,
    viewer: Reader,
    session: Db,
    *,
    q: Annotated[str, Query(max_length=100)] = "",
    site: Number = "",
    after: str | None = None,
) -> HTMLResponse:
    """Show the calendar, the weeks ahead, what is late, and the plans by their next date."""
    now, site_id = clock.now(), forms.whole(site, "site")
    due_next = func.coalesce(Plan.next_due_at, NEVER)
    wanted = (
        select(Plan)
        .where(scope.visible(Plan, viewer, "plans.read"))
        .options(joinedload(Plan.asset), joinedload(Plan.checklist))
        .order_by(due_next, Plan.id)
        .limit(PAGE + 1)
    )
    if q.strip():
        like = f"%{q.strip()}%"
        of_asset = Plan.asset.has(Asset.code.ilike(like) | Asset.name.ilike(like) | Asset.name_zh.ilike(like))
        wanted = wanted.where(Plan.name.ilike(like) | Plan.name_zh.ilike(like) | of_asset)
    if site_id is not None:
        wanted = wanted.where(Plan.asset.has(site_id=site_id))
    if key := paging.read(after, (datetime, int)):
        wanted = wanted.where((due_next > key[0]) | ((due_next == key[0]) & (Plan.id > key[1])))
    shown, following = paging.cut(
        session.scalars(wanted).all(), PAGE, lambda plan: (plan.next_due_at or NEVER, plan.id)
    )
    sites = session.scalars(select(Site).where(scope.visible(Site, viewer, "plans.read")).order_by(Site.name)).all()
    return pages.render(
        request,
        "plans/overview.html",
        plans=shown,
        words=_words_of(request, shown),
        weeks=outlook.weeks(session, viewer, now, site_id=site_id),
        late=outlook.late(session, viewer, now, site_id=site_id) if viewer.may("orders.read") else (),
        resting=outlook.resting(session, viewer),
        sites=sites,
        next=following,
        after=after,
        q=q,
        site=site,
    )


@router.get("/plans/calendar.json")
def calendar(
    request: Request, viewer: Reader, session: Db, *, start: datetime, end: datetime, site: Number = ""
) -> JSONResponse:
    """Return what the calendar shows between two instants: orders that exist, and targets that lie ahead.

    Times without an offset are those of the reader's zone, as the calendar shows them.
    """
    zone = ZoneInfo(viewer.zone)
    start, end = (moment if moment.tzinfo else moment.replace(tzinfo=zone) for moment in (start, end))
    if not timedelta(0) < end - start <= LONGEST_VIEW:
        raise Invalid("Choose a span of at most 400 days.", field="end")
    site_id, language = forms.whole(site, "site"), request.state.language
    shown = [_made(one, language) for one in outlook.made(session, viewer, start, end, site_id=site_id)]
    shown += [
        _event(f"{plan.id}/{target.key}", plan, target.due_at, language, f"/plans/{plan.id}", "info")
        for plan, target in outlook.coming(session, viewer, start, end, site_id=site_id)
    ]
    return JSONResponse(shown)


@router.get("/plans/new")
def new(request: Request, viewer: Writer, session: Db, asset: Number = "") -> HTMLResponse:
    """Show the form of a new plan."""
    asset_id = forms.whole(asset, "asset")
    chosen = scope.find(session, Asset, asset_id, viewer, "plans.write") if asset_id is not None else None
    given = {
        "asset_id": str(chosen.id) if chosen else "",
        "starts_on": (clock.now().astimezone(ZoneInfo(viewer.zone)) + timedelta(days=1)).date().isoformat(),
        "at_time": "08:00",
        "unit": "WEEKLY",
        "every": "1",
        "on": "first",
        "lead_days": "3",
        "estimated_minutes": "60",
        "priority": "3",
    }
    return _form(request, session, viewer, None, given)


@router.post("/plans/preview")
def preview(request: Request, viewer: Writer, session: Db, given: Given) -> Response:
    """Show the form again with the first dates it would give; nothing is kept."""
    try:
        asset = _asset(session, viewer, given)
        dates = planning.preview(asset, _wish(given), clock.now())
    except Invalid as error:
        return _form(request, session, viewer, None, given, error=error)
    return _form(request, session, viewer, None, given, dates=dates)


@router.post("/plans")
def make(request: Request, viewer: Writer, session: Db, given: Given) -> Response:
    """Make a plan."""
    try:
        with session.begin_nested():
            asset = _asset(session, viewer, given)
            plan = planning.make(session, asset, _wish(given), actor=viewer.actor, now=clock.now())
            schedule.run_one(session, plan, clock.now())
    except Invalid as error:
        return _form(request, session, viewer, None, given, error=error)
    return pages.go(f"/plans/{plan.id}", notice=i18n.noop("The plan is set. Its orders come by themselves."))


@router.get("/plans/{plan_id}")
def one(request: Request, plan_id: int, viewer: Reader, session: Db) -> HTMLResponse:
    """Show a plan: what it is, what it made, what lies ahead."""
    plan = scope.find(session, Plan, plan_id, viewer, "plans.read")
    past = session.scalars(
        select(Occurrence)
        .where(Occurrence.plan_id == plan.id)
        .options(joinedload(Occurrence.order))
        .order_by(Occurrence.due_at.desc())
        .limit(30)
    ).all()
    ahead = schedule.ahead(plan, until=clock.now() + LONGEST_VIEW)[:SHOWN_AHEAD]
    return pages.render(
        request,
        "plans/plan.html",
        plan=plan,
        past=past,
        ahead=[_local(target) for target in ahead],
        words=recurring.in_words(plan.rrule, plan.starts_on, request.state.language),
        priorities=urgency.PRIORITIES,
    )


@router.get("/plans/{plan_id}/edit")
def edit(request: Request, plan_id: int, viewer: Writer, session: Db) -> HTMLResponse:
    """Show the form of a plan."""
    plan = scope.find(session, Plan, plan_id, viewer, "plans.write")
    given = {
        name: "" if (value := getattr(plan, name)) is None else str(value)
        for name in (
            "asset_id", "name", "name_zh", "starts_on", "ends_on", "lead_days", "checklist_id", "team_id", "skill",
            "estimated_minutes", "priority", "catch_up",
        )
    }  # fmt: skip
    given |= {"at_time": plan.at_time.isoformat("minutes"), "kind": plan.order_type.key}
    return _form(request, session, viewer, plan, given | recurring.to_form(plan.rrule))


@router.post("/plans/{plan_id}/preview")
def preview_change(request: Request, plan_id: int, viewer: Writer, session: Db, given: Given) -> Response:
    """Show the form of a plan again with the first dates the change would give; nothing is kept."""
    plan = scope.find(session, Plan, plan_id, viewer, "plans.write")
    try:
        dates = planning.preview(plan.asset, _wish(given), clock.now())
    except Invalid as error:
        return _form(request, session, viewer, plan, given, error=error)
    return _form(request, session, viewer, plan, given, dates=dates)


@router.post("/plans/{plan_id}")
def change(request: Request, plan_id: int, viewer: Writer, session: Db, given: Given) -> Response:
    """Change a plan from its next target on."""
    plan = scope.find(session, Plan, plan_id, viewer, "plans.write")
    try:
        with session.begin_nested():
            planning.edit(session, plan, _wish(given), actor=viewer.actor, now=clock.now())
            schedule.run_one(session, plan, clock.now())
    except Invalid as error:
        session.refresh(plan)
        return _form(request, session, viewer, plan, given, error=error)
    return pages.go(f"/plans/{plan.id}", notice=i18n.noop("Saved. It holds from the next date on."))


@router.post("/plans/{plan_id}/pause")
def pause(plan_id: int, viewer: Writer, session: Db) -> Response:
    """Let a plan rest."""
    plan = scope.find(session, Plan, plan_id, viewer, "plans.write")
    planning.pause(session, plan, actor=viewer.actor, now=clock.now())
    return pages.go(f"/plans/{plan_id}", notice=i18n.noop("The plan rests."), undo=f"/plans/{plan_id}/resume")


@router.post("/plans/{plan_id}/resume")
def resume(plan_id: int, viewer: Writer, session: Db) -> Response:
    """Let a plan run again."""
    plan = scope.find(session, Plan, plan_id, viewer, "plans.write")
    try:
        with session.begin_nested():
            planning.resume(session, plan, actor=viewer.actor, now=clock.now())
            schedule.run_one(session, plan, clock.now())
    except Invalid as error:
        return pages.go(f"/plans/{plan_id}", notice=error.sentence, kind="warning")
    return pages.go(f"/plans/{plan_id}", notice=i18n.noop("The plan runs again."))


def _words_of(request: Request, plans: list[Plan]) -> dict[int, str]:
    return {plan.id: recurring.in_words(plan.rrule, plan.starts_on, request.state.language) for plan in plans}


def _local(target: Target) -> tuple[str, str, str]:
    """Return a target as day, weekday and time of the wall at its site."""
    wall = datetime.fromisoformat(target.key)
    return f"{wall:%Y-%m-%d}", list(recurring.DAYS.values())[wall.weekday()], f"{wall:%H:%M}"


def _made(occurrence: Occurrence, language: str) -> dict[str, Any]:
    order, plan = occurrence.order, occurrence.plan
    if order is None:
        return _event(f"o{occurrence.id}", plan, occurrence.due_at, language, f"/plans/{plan.id}", "quiet")
    tone = {"new": "open", "assigned": "open", "paused": "waiting", "cancelled": "quiet"}.get(order.phase, "busy")
    if order.finished_at is not None:
        tone = "good"
    elif order.phase != "cancelled" and occurrence.due_at < clock.now():
        tone = "bad"
    return _event(f"o{occurrence.id}", plan, occurrence.due_at, language, f"/orders/{order.id}", tone)


def _event(identity: str, plan: Plan, due_at: datetime, language: str, href: str, tone: str) -> dict[str, Any]:
    name, machine = plan.called(language), plan.asset.called(language)
    ends = due_at + timedelta(minutes=plan.estimated_minutes)
    return {
        "id": identity,
        "title": name if machine in name or plan.asset.code in name else f"{machine}: {name}",
        "start": due_at.isoformat(),
        "end": ends.isoformat(),
        "allDay": False,
        "href": href,
        "tone": tone,
    }


def _asset(session: Session, viewer: Viewer, given: dict[str, str]) -> Asset:
    identity = forms.whole(given.get("asset_id", ""), "asset_id")
    if identity is None:
        raise Invalid("Choose an asset.", field="asset_id")
    try:
        return scope.find(session, Asset, identity, viewer, "plans.write")
    except NotFound as error:
        raise Invalid("Choose an asset.", field="asset_id") from error


def _form(
    request: Request,
    session: Session,
    viewer: Viewer,
    plan: Plan | None,
    given: dict[str, str],
    *,
    error: FixwrightError | None = None,
    dates: list[Target] | None = None,
) -> HTMLResponse:
    language = request.state.language
    assets = session.scalars(
        select(Asset).where(scope.visible(Asset, viewer, "plans.write")).order_by(Asset.code).limit(1000)
    ).all()
    lists = session.scalars(
        select(Checklist).where(Checklist.company_id == viewer.company_id, Checklist.version > 0)
    ).all()
    teams = session.scalars(select(Team).where(scope.visible(Team, viewer, "plans.write"))).all()
    skills = session.scalars(select(Skill).where(Skill.company_id == viewer.company_id).order_by(Skill.key)).all()
    return pages.render(
        request,
        "plans/form.html",
        status=422 if error else 200,
        plan=plan,
        given=given,
        errors=forms.refused(request, error) if error else {},
        dates=[_local(target) for target in dates] if dates else None,
        machines=[(one.id, f"{one.code} {one.called(language)}") for one in assets],
        skills=[(one.key, one.called(language)) for one in skills],
        priorities=urgency.PRIORITIES,
        days=recurring.DAYS,
        units=recurring.UNITS,
        lists=forms.options(lists, language),
        teams=forms.options(teams, language),
    )


def _wish(given: dict[str, str]) -> Wish:
    return Wish(
        name=given.get("name", ""),
        name_zh=given.get("name_zh") or None,
        rrule=recurring.from_form(given),
        starts_on=_day(given),
        at_time=_clock_time(given),
        kind=given.get("kind") or "inspection",
        ends_on=forms.day(given.get("ends_on", ""), "ends_on"),
        lead_days=_whole(given, "lead_days", 3),
        checklist_id=forms.whole(given.get("checklist_id", ""), "checklist_id"),
        team_id=forms.whole(given.get("team_id", ""), "team_id"),
        skill=given.get("skill") or None,
        estimated_minutes=_whole(given, "estimated_minutes", 60),
        priority=_whole(given, "priority", 3),
        catch_up=given.get("catch_up") or "once",
    )


def _whole(given: dict[str, str], name: str, usual: int) -> int:
    number = forms.whole(given.get(name, ""), name)
    return usual if number is None else number


def _day(given: dict[str, str]) -> date:
    found = forms.day(given.get("starts_on", ""), "starts_on")
    if found is None:
        raise Invalid("Please enter a date.", field="starts_on")
    return found


def _clock_time(given: dict[str, str]) -> time:
    try:
        return time.fromisoformat(given.get("at_time", "")).replace(second=0, microsecond=0, tzinfo=None)
    except ValueError:
        raise Invalid("Please enter a time of day.", field="at_time") from None
