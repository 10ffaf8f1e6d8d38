"""Backtests over JSON: run a draft over stored history, see how far it is, and what it would have raised."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.backtester import Backtester
from api.v1 import rules as v1_rules
from api.v1.telemetry import interval
from assets import types
from assets.models import Asset
from kernel import clock
from kernel.errors import Invalid, NotFound
from maintenance.orders import foreseen, policies
from maintenance.orders.models import Order
from people import scope
from people.models import OrgUnit
from people.scope import Viewer
from rules import backtests, library, visible
from rules.backtests import Wanted
from rules.models import AlarmType, Backtest, RuleVersion

router = APIRouter(prefix="/rules/backtests", tags=["rules"])
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]
Side = Literal["draft", "current"]


class BacktestIn(BaseModel):
    """What to run, on what, and over which span. A rule of the library, a draft, or both: then they are compared."""

    rule_id: int | None = Field(None, description="A rule of the library: it is run, or a draft is compared with it.")
    version: int | None = Field(None, description="Run this version of it; the one in force when left out.")
    definition: dict[str, Any] | None = Field(None, description="A draft. A saved version is run when left out.")
    asset_ids: list[int] = Field(
        [],
        max_length=backtests.MOST_ASSETS,
        description="On these assets; when left out on all that the rule is for, or on all of a type.",
    )
    asset_type_id: int | None = Field(None, description="On all assets of a type and of those inheriting from it.")
    from_: str | None = Field(None, alias="from", description="A day before `to` when left out.")
    to: str | None = Field(None, description="Now when left out.")
    order_from: v1_rules.Severity | None = Field(
        None, description="The least severity that opens an order; that of the rule, else major, when left out."
    )
    window_h: float = Field(
        backtests.WINDOW_H,
        description="An order is taken to stay open so long, and a report so near to an alarm to be about it.",
    )


class TotalsOut(BaseModel):
    """What one side comes to so far."""

    model_config = ConfigDict(from_attributes=True)

    samples: int
    alarms: int
    orders: int = Field(description="Orders it would have opened.")
    active_ms: int = Field(description="Time in alarm.")
    assets: int = Field(description="Assets with at least one alarm.")


class BacktestOut(BaseModel):
    """A backtest, how far it is, and what it comes to so far."""

    id: int
    name: str
    rule_id: int | None
    state: str = Field(description="queued, running, done, failed or cancelled.")
    percent: int
    assets: int
    trouble: str | None
    from_: datetime = Field(serialization_alias="from")
    to: datetime
    version: int | None = Field(description="The version that was run; none for a draft.")
    compared_with: int | None = Field(description="The version it is compared with.")
    definition: dict[str, Any]
    window_h: float
    asked_at: datetime
    ended_at: datetime | None
    draft: TotalsOut | None
    current: TotalsOut | None


class BacktestAlarmOut(BaseModel):
    """An alarm that would have been raised; times are device time."""

    model_config = ConfigDict(from_attributes=True)

    asset_id: int
    side: str
    began_at: datetime
    raised_at: datetime
    ended_at: datetime | None
    severity: str = Field(description="The worst it would have had.")
    count: int
    metric: str
    peak_value: float | None
    opens_order: bool


class ForeseenOut(BaseModel):
    """A past order on one of the assets, and whether it would have been told of."""

    order_id: int
    number: str
    asset_id: int
    origin: str
    created_at: datetime
    caught: bool
    caught_by_current: bool


@router.post("", status_code=202)
def ask(request: Request, db: Db, viewer: Writer, body: BacktestIn) -> BacktestOut:
    """Queue a backtest; its state tells when it is through."""
    return shown(db, queue(request, db, viewer, body))


def queue(request: Request, db: Session, viewer: Viewer, body: BacktestIn) -> Backtest:
    """Queue a backtest on assets within sight.

    Raises:
        NotFound: the rule, its version or an asset lies outside the viewer's sight.
        Invalid: what is asked for cannot be read, or is too much.
    """
    kind = None if body.rule_id is None else visible.find(db, viewer, body.rule_id)
    definition, current, version = _sides(db, kind, body)
    start_ms, end_ms = interval(body.from_, body.to)
    wanted = Wanted(
        definition=definition,
        assets=_assets(db, viewer, kind, body),
        start_ms=start_ms,
        end_ms=end_ms,
        current=None if current is None else current.definition,
        version=version,
        current_version=None if current is None else current.number,
        order_from=_order_from(db, kind, body),
        window_h=body.window_h,
    )
    row = backtests.ask(
        db,
        wanted,
        name=kind.key if kind is not None else "draft",
        alarm_type_id=None if kind is None else kind.id,
        company_id=viewer.company_id,
        account_id=viewer.account_id,
        actor=viewer.actor,
        now=clock.now(),
    )
    backtester_of(request).wake()
    return row


def _sides(
    db: Session, kind: AlarmType | None, body: BacktestIn
) -> tuple[dict[str, Any], RuleVersion | None, int | None]:
    """Return what is run, the version it is compared with, and the number of the version that is run."""
    if kind is None:
        if body.definition is None:
            raise Invalid("Give a rule or a draft to run.", field="definition")
        return body.definition, None, None
    current = library.in_force(db, kind)
    if body.definition is not None:
        return body.definition, current, None
    if body.version is None or body.version == current.number:
        return current.definition, None, current.number
    chosen = db.scalars(
        select(RuleVersion).where(RuleVersion.alarm_type_id == kind.id, RuleVersion.number == body.version)
    ).one_or_none()
    if chosen is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return chosen.definition, current, chosen.number


def _order_from(db: Session, kind: AlarmType | None, body: BacktestIn) -> str | None:
    if "order_from" in body.model_fields_set:
        return body.order_from
    return "major" if kind is None else policies.least_of(db, [kind])[kind.id]


def _assets(db: Session, viewer: Viewer, kind: AlarmType | None, body: BacktestIn) -> list[int]:
    seen = scope.visible(Asset, viewer, "telemetry.read")
    if body.asset_ids:
        found = db.scalars(select(Asset.id).where(Asset.id.in_(body.asset_ids), seen).order_by(Asset.id)).all()
        if set(found) != set(body.asset_ids):
            raise NotFound("There is nothing here, or it is not yours to see.")
        return list(found)
    type_id = body.asset_type_id
    if type_id is None and kind is not None:
        if kind.asset_id is not None:
            return _assets(db, viewer, None, body.model_copy(update={"asset_ids": [kind.asset_id]}))
        type_id = kind.asset_type_id
    if type_id is None:
        raise Invalid("Please choose at least one asset.", field="assets")
    inheriting = [one for one, line in types.lineage(db, viewer.company_id).items() if type_id in line]
    query = select(Asset.id).where(Asset.type_id.in_(inheriting), Asset.status != "scrapped", seen)
    if kind is not None:
        path = db.get_one(OrgUnit, kind.unit_id).path
        below = select(OrgUnit.id).where(OrgUnit.path.startswith(path, autoescape=True))
        query = query.where(Asset.unit_id.in_(below))
    return list(db.scalars(query.order_by(Asset.id).limit(backtests.MOST_ASSETS + 1)))


def backtester_of(request: Request) -> Backtester:
    """Return what carries backtests out in this process."""
    found: Backtester = request.app.state.backtester
    return found


@router.get("")
def own(
    db: Db,
    viewer: Reader,
    *,
    rule_id: int | None = None,
    limit: paging.Limit = 50,
    cursor: paging.Cursor = None,
) -> paging.Page[BacktestOut]:
    """List one's own backtests, the newest first."""
    after = paging.read(cursor, (int,))
    rows = backtests.listed(
        db, viewer.account_id, after=after[0] if after else None, limit=limit + 1, alarm_type_id=rule_id
    )
    page, following = paging.cut(rows, limit, lambda row: (row.id,))
    return paging.Page(items=[shown(db, row) for row in page], next=following)


@router.get("/{backtest_id}")
def one(db: Db, viewer: Reader, backtest_id: int) -> BacktestOut:
    """Return one of one's own backtests."""
    return shown(db, backtests.find(db, backtest_id, viewer.account_id))


@router.post("/{backtest_id}/cancel")
def cancel(db: Db, viewer: Reader, backtest_id: int) -> BacktestOut:
    """Give a backtest up; what is through stays."""
    row = backtests.find(db, backtest_id, viewer.account_id)
    backtests.cancel(db, row, now=clock.now())
    return shown(db, row)


@router.get("/{backtest_id}/alarms")
def alarms(
    db: Db,
    viewer: Reader,
    backtest_id: int,
    *,
    side: Side = "draft",
    asset_id: Annotated[int | None, Query()] = None,
    limit: paging.Limit = 100,
    cursor: paging.Cursor = None,
) -> paging.Page[BacktestAlarmOut]:
    """List the alarms that one side would have raised, asset by asset."""
    row = backtests.find(db, backtest_id, viewer.account_id)
    after = paging.read(cursor, (int,))
    rows = backtests.alarms(
        db,
        row,
        visible=scope.visible(Asset, viewer, "telemetry.read"),
        side=side,
        asset_id=asset_id,
        after=after[0] if after else None,
        limit=limit + 1,
    )
    page, following = paging.cut(rows, limit, lambda found: (found[0].id,))
    return paging.Page(items=[BacktestAlarmOut.model_validate(alarm) for alarm, _ in page], next=following)


@router.get("/{backtest_id}/orders")
def orders(
    db: Db, viewer: Reader, backtest_id: int, limit: paging.Limit = 100, cursor: paging.Cursor = None
) -> paging.Page[ForeseenOut]:
    """List past orders on the assets within the span, the newest first, and whether they would have been told of."""
    row = backtests.find(db, backtest_id, viewer.account_id)
    after = paging.read(cursor, (int,))
    rows = foreseen.listed(db, row, seen_orders(viewer), after=after[0] if after else None, limit=limit + 1)
    page, following = paging.cut(rows, limit, lambda found: (found.order.id,))
    return paging.Page(items=_told(page), next=following)


def seen_orders(viewer: Viewer) -> ColumnElement[bool]:
    """Return the condition that keeps a query of orders to what the viewer may see."""
    return scope.visible(Order, viewer, "orders.read")


def _told(found: Sequence[foreseen.Foreseen]) -> list[ForeseenOut]:
    return [
        ForeseenOut(
            order_id=one.order.id,
            number=one.order.number,
            asset_id=one.asset.id,
            origin=one.order.origin,
            created_at=one.order.created_at,
            caught="draft" in one.caught_by,
            caught_by_current="current" in one.caught_by,
        )
        for one in found
    ]


def shown(db: Session, row: Backtest) -> BacktestOut:
    """Return a backtest as programs see it."""
    sums = {side: TotalsOut.model_validate(found) for side, found in backtests.totals(db, row).items()}
    return BacktestOut(
        id=row.id,
        name=row.name,
        rule_id=row.alarm_type_id,
        state=row.state,
        percent=row.percent,
        assets=row.assets,
        trouble=row.trouble,
        from_=clock.from_ms(row.wanted["start_ms"]),
        to=clock.from_ms(row.wanted["end_ms"]),
        version=row.wanted["version"],
        compared_with=row.wanted["current_version"],
        definition=row.wanted["definition"],
        window_h=row.wanted["window_h"],
        asked_at=row.asked_at,
        ended_at=row.ended_at,
        draft=sums.get("draft"),
        current=sums.get("current"),
    )
