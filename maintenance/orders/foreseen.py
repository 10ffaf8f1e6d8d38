"""Which past orders a backtest would have caught: a report near an alarm that it would have raised on the asset.

For whoever judges a draft rule by the failures that are known. Planned work is no failure and is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import ColumnElement, and_, func, literal, select
from sqlalchemy.orm import Session

from assets.models import Asset
from kernel import clock
from maintenance.orders.models import Order
from rules.backtests import SIDES
from rules.models import Backtest, BacktestAlarm

PLANNED: Final = "plan"


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A past order, and which sides (``draft``, ``current``) would have told of it."""

    order: Order
    asset: Asset
    caught_by: tuple[str, ...]


def counted(session: Session, row: Backtest, visible: ColumnElement[bool]) -> Mapping[str, int]:
    """Return how many past orders there are (``orders``), and how many each side would have caught."""
    sums = [func.count().filter(_caught(row, side)) for side in SIDES]
    total, *caught = session.execute(select(func.count(Order.id), *sums).where(_past(row, visible))).one()
    return {"orders": total, **dict(zip(SIDES, caught, strict=True))}


def listed(
    session: Session, row: Backtest, visible: ColumnElement[bool], *, after: int | None = None, limit: int
) -> Sequence[Foreseen]:
    """Return the past orders on the assets of a backtest within its span, the newest first."""
    query = (
        select(Order, Asset, *(_caught(row, side) for side in SIDES))
        .join(Asset, Asset.id == Order.asset_id)
        .where(_past(row, visible))
        .order_by(Order.id.desc())
        .limit(limit)
    )
    if after is not None:
        query = query.where(Order.id < after)
    return [
        Foreseen(order, asset, tuple(side for side, is_caught in zip(SIDES, caught, strict=True) if is_caught))
        for order, asset, *caught in session.execute(query)
    ]


def _past(row: Backtest, visible: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition that an order is no planned work, on an asset of a backtest and within its span."""
    start, end = clock.from_ms(row.wanted["start_ms"]), clock.from_ms(row.wanted["end_ms"])
    return and_(
        Order.asset_id.in_(row.wanted["assets"]),
        Order.origin != PLANNED,
        Order.created_at >= start,
        Order.created_at < end,
        visible,
    )


def _caught(row: Backtest, side: str) -> ColumnElement[bool]:
    """Return the condition that a report falls within the window around an alarm of one side."""
    window, end = timedelta(hours=row.wanted["window_h"]), clock.from_ms(row.wanted["end_ms"])
    return (
        select(literal(1))
        .where(
            BacktestAlarm.backtest_id == row.id,
            BacktestAlarm.side == side,
            BacktestAlarm.asset_id == Order.asset_id,
            BacktestAlarm.raised_at <= Order.created_at + window,
            func.coalesce(BacktestAlarm.ended_at, end) >= Order.created_at - window,
        )
        .correlate(Order)
        .exists()
    )
