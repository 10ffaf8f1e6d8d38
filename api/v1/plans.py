"""Plans for programs: made, changed, paused; their occurrences and forecast; the checklist of an order."""

from datetime import date, datetime, time, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, Field
from sqlalchemy import select

from api import paging
from api.access import Db, needs
from api.paging import Cursor, Limit, Page
from assets.models import Asset
from kernel import clock
from kernel.errors import Stale
from maintenance.orders import authority, desk
from maintenance.orders.models import Order
from maintenance.plans import answers, checklists, planning, schedule
from maintenance.plans.models import Occurrence, Plan
from maintenance.plans.planning import Wish
from people import scope
from people.scope import Viewer

router = APIRouter(tags=["plans"])

Reader = Annotated[Viewer, needs("plans.read")]
Writer = Annotated[Viewer, needs("plans.write")]
OrderReader = Annotated[Viewer, needs("orders.read")]
LONGEST_FORECAST = timedelta(days=732)


class PlanIn(BaseModel):
    """A plan as it is to be; ``at_time`` is wall time at the asset's site, ``rrule`` a subset of RFC 5545."""

    name: str = Field(min_length=1, max_length=200)
    name_zh: str | None = Field(None, max_length=200)
    rrule: str = Field(max_length=300, examples=["FREQ=WEEKLY;BYDAY=MO"])
    starts_on: date
    at_time: time = time(8)
    ends_on: date | None = None
    kind: str = Field("inspection", max_length=40)
    lead_days: int = Field(3, ge=0, le=365)
    checklist_id: int | None = None
    team_id: int | None = None
    skill: str | None = Field(None, max_length=40)
    estimated_minutes: int = Field(60, ge=1, le=100_000)
    priority: int = Field(3, ge=1, le=4)
    catch_up: str = Field("once", pattern="^(once|all|skip)$")


class NewPlan(PlanIn):
    """A plan and the asset it is for."""

    asset_id: int


class PlanOut(BaseModel):
    """A plan."""

    id: int
    name: str
    name_zh: str | None
    asset_id: int
    rrule: str
    starts_on: date
    at_time: time
    zone: str
    ends_on: date | None
    lead_days: int
    checklist_id: int | None
    catch_up: str
    is_active: bool
    next_due_at: datetime | None
    version: int


class OccurrenceOut(BaseModel):
    """One due date of a plan and what became of it; without ``id`` it lies ahead."""

    id: int | None
    key: str
    due_at: datetime
    state: str
    order_id: int | None


class CheckIn(BaseModel):
    """What was found at an item: yes or no, a number, one of the choices, or the entry of a photo on the timeline."""

    value: Any
    note: str = Field("", max_length=500)


class CheckOut(BaseModel):
    """An item of an order's checklist with its answer, if there is one."""

    key: str
    name: str
    name_zh: str | None
    kind: str
    unit: str | None
    low: float | None
    high: float | None
    choices: list[str] | None
    value: Any
    verdict: str | None
    note: str | None
    repair_id: int | None = Field(description="The order that the fault found here opened.")
    at: datetime | None


def _out(plan: Plan) -> PlanOut:
    return PlanOut.model_validate(plan, from_attributes=True)


@router.get("/plans")
def list_plans(
    viewer: Reader, session: Db, *, asset_id: int | None = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[PlanOut]:
    """List plans by id."""
    wanted = select(Plan).where(scope.visible(Plan, viewer, "plans.read")).order_by(Plan.id).limit(limit + 1)
    if asset_id is not None:
        wanted = wanted.where(Plan.asset_id == asset_id)
    if key := paging.read(cursor, (int,)):
        wanted = wanted.where(Plan.id > key[0])
    shown, following = paging.cut(session.scalars(wanted).all(), limit, lambda plan: (plan.id,))
    return Page(items=[_out(plan) for plan in shown], next=following)


@router.post("/plans", status_code=201)
def make_plan(viewer: Writer, session: Db, wanted: NewPlan) -> PlanOut:
    """Make a plan."""
    asset = scope.find(session, Asset, wanted.asset_id, viewer, "plans.write")
    wish = Wish(**wanted.model_dump(exclude={"asset_id"}))
    return _out(planning.make(session, asset, wish, actor=viewer.actor, now=clock.now()))


@router.get("/plans/{plan_id}")
def get_plan(plan_id: int, viewer: Reader, session: Db, response: Response) -> PlanOut:
    """Return one plan."""
    plan = scope.find(session, Plan, plan_id, viewer, "plans.read")
    response.headers["ETag"] = f'"{plan.version}"'
    return _out(plan)


@router.put("/plans/{plan_id}")
def change_plan(
    plan_id: int, viewer: Writer, session: Db, wanted: PlanIn, if_match: Annotated[str | None, Header()] = None
) -> PlanOut:
    """Change a plan from its next target on; with ``If-Match`` only when it is still at that version."""
    plan = scope.find(session, Plan, plan_id, viewer, "plans.write")
    if if_match is not None and if_match.strip('"') != str(plan.version):
        raise Stale("Somebody else changed this meanwhile. Load it again and repeat your change.")
    return _out(planning.edit(session, plan, Wish(**wanted.model_dump()), actor=viewer.actor, now=clock.now()))


@router.post("/plans/{plan_id}/pause")
def pause_plan(plan_id: int, viewer: Writer, session: Db) -> PlanOut:
    """Let a plan rest."""
    plan = scope.find(session, Plan, plan_id, viewer, "plans.write")
    planning.pause(session, plan, actor=viewer.actor, now=clock.now())
    return _out(plan)


@router.post("/plans/{plan_id}/resume")
def resume_plan(plan_id: int, viewer: Writer, session: Db) -> PlanOut:
    """Let a plan run again."""
    plan = scope.find(session, Plan, plan_id, viewer, "plans.write")
    planning.resume(session, plan, actor=viewer.actor, now=clock.now())
    return _out(plan)


@router.get("/plans/{plan_id}/occurrences")
def list_occurrences(
    plan_id: int, viewer: Reader, session: Db, *, days: Annotated[int, Query(ge=0, le=732)] = 90
) -> Page[OccurrenceOut]:
    """Return the last hundred occurrences of a plan, and those of the coming ``days``, by date."""
    plan = scope.find(session, Plan, plan_id, viewer, "plans.read")
    rows = session.scalars(
        select(Occurrence).where(Occurrence.plan_id == plan.id).order_by(Occurrence.due_at.desc()).limit(100)
    ).all()
    past = [
        OccurrenceOut(id=row.id, key=row.key, due_at=row.due_at, state=row.state, order_id=row.order_id)
        for row in reversed(rows)
    ]
    now = clock.now()
    ahead = [
        OccurrenceOut(id=None, key=target.key, due_at=target.due_at, state="ahead", order_id=None)
        for target in schedule.ahead(plan, until=now + timedelta(days=days))
    ]
    return Page(items=past + ahead)


@router.get("/orders/{order_id}/checklist")
def get_checklist(order_id: int, viewer: OrderReader, session: Db) -> Page[CheckOut]:
    """Return the checklist of an order with the answers given so far."""
    order = scope.find(session, Order, order_id, viewer, "orders.read")
    return Page(items=_checks(session, order))


@router.post("/orders/{order_id}/checklist/{item_key}")
def answer(order_id: int, item_key: str, viewer: OrderReader, session: Db, found: CheckIn) -> Page[CheckOut]:
    """Answer an item of an order's checklist."""
    order = desk.locked(session, scope.find(session, Order, order_id, viewer, "orders.read").id)
    authority.require(viewer, order, "finish", desk.path_of(session, order))
    answers.answer(session, order, item_key, found.value, note=found.note, actor=viewer.actor, now=clock.now())
    return Page(items=_checks(session, order))


def _checks(session: Db, order: Order) -> list[CheckOut]:
    results, repairs = answers.results_of(session, order), answers.repairs_of(session, order)
    return [
        CheckOut(
            key=item["key"],
            name=item["name"],
            name_zh=item.get("name_zh"),
            kind=item["kind"],
            unit=item.get("unit"),
            low=item.get("low"),
            high=item.get("high"),
            choices=item.get("choices"),
            value=results[item["key"]].value["value"] if item["key"] in results else None,
            verdict=results[item["key"]].verdict if item["key"] in results else None,
            note=results[item["key"]].note if item["key"] in results else None,
            repair_id=repairs[item["key"]].id if item["key"] in repairs else None,
            at=results[item["key"]].at if item["key"] in results else None,
        )
        for item in checklists.items_of(session, order)
    ]
