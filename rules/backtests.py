"""Backtests: what a definition would have raised on stored history, beside what the one in force would have (RUL-15).

A person asks, within sight, and reads how far it is and what came of it, or gives it up. ``rules.backtest_runs``
carries it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from assets.models import Asset
from kernel import audit
from kernel.db import Json
from kernel.errors import Conflict, Invalid, NotFound
from rules import conditions
from rules.models import SEVERITIES, Backtest, BacktestAlarm, BacktestAsset

MOST_ASSETS: Final = 2_000
MOST_DAYS: Final = 800
MOST_OPEN: Final = 3
"""Backtests of one person that wait or run."""
WINDOW_H: Final = 24.0
SIDES: Final = ("draft", "current")


class Wanted(msgspec.Struct, frozen=True):
    """What is run over history. ``current`` is the definition in force, if it is compared with one.

    ``order_from`` is the least severity that opens an order. ``window_h``: an order is taken to stay open so long, and
    a report so near to an alarm is taken to be about it.
    """

    definition: Json
    assets: list[int]
    start_ms: int
    end_ms: int
    current: Json | None = None
    version: int | None = None
    current_version: int | None = None
    order_from: str | None = "major"
    window_h: float = WINDOW_H


def ask(
    session: Session,
    wanted: Wanted,
    *,
    name: str,
    alarm_type_id: int | None,
    company_id: int,
    account_id: int,
    actor: str,
    now: datetime,
) -> Backtest:
    """Queue a backtest on assets that the asker may read.

    Raises:
        DefinitionRefused: the definition breaks the grammar.
        Invalid: nothing is chosen, too much is, the range cannot be read, or too many of one's own run.
    """
    conditions.parse(wanted.definition)
    _check(wanted)
    mine = select(func.count()).where(Backtest.account_id == account_id, Backtest.state.in_(("queued", "running")))
    if (session.scalar(mine) or 0) >= MOST_OPEN:
        raise Invalid("At most {most} backtests run at once; please wait for one to end.", field="", most=MOST_OPEN)
    row = Backtest(
        company_id=company_id,
        account_id=account_id,
        actor=actor,
        alarm_type_id=alarm_type_id,
        name=name[:200],
        state="queued",
        wanted=msgspec.to_builtins(wanted),
        assets=len(wanted.assets),
        asked_at=now,
    )
    session.add(row)
    session.flush()
    return row


def _check(wanted: Wanted) -> None:
    if not wanted.assets:
        raise Invalid("Please choose at least one asset.", field="assets")
    if len(wanted.assets) > MOST_ASSETS:
        raise Invalid("At most {most} assets fit into one backtest.", field="assets", most=MOST_ASSETS)
    if wanted.end_ms <= wanted.start_ms:
        raise Invalid("The end of the range must lie after its beginning.", field="to")
    if wanted.end_ms - wanted.start_ms > MOST_DAYS * 86_400_000:
        raise Invalid("At most {most} days fit into one backtest.", field="from", most=MOST_DAYS)
    if wanted.order_from is not None and wanted.order_from not in SEVERITIES:
        raise Invalid("There is no such severity.", field="order_from")
    if not 0 <= wanted.window_h <= 24 * 366:
        raise Invalid("Between 0 and {most} hours, please.", field="window_h", most=24 * 366)


def find(session: Session, identity: int, account_id: int) -> Backtest:
    """Return a backtest of one's own.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    row = session.scalars(
        select(Backtest).where(Backtest.id == identity, Backtest.account_id == account_id)
    ).one_or_none()
    if row is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return row


def listed(
    session: Session, account_id: int, *, after: int | None, limit: int, alarm_type_id: int | None = None
) -> Sequence[Backtest]:
    """Return one's own backtests, the newest first, of one alarm type or of all."""
    query = select(Backtest).where(Backtest.account_id == account_id).order_by(Backtest.id.desc()).limit(limit)
    if after is not None:
        query = query.where(Backtest.id < after)
    if alarm_type_id is not None:
        query = query.where(Backtest.alarm_type_id == alarm_type_id)
    return session.scalars(query).all()


def cancel(session: Session, row: Backtest, *, now: datetime) -> None:
    """Give a backtest up; what is through stays.

    Raises:
        Conflict: it has ended already.
    """
    session.refresh(row, with_for_update=True)
    if row.state not in {"queued", "running"}:
        raise Conflict("This backtest has ended already.")
    row.state, row.ended_at = "cancelled", now
    record(session, row, "cancel", now)


def record(session: Session, row: Backtest, verb: str, now: datetime) -> None:
    """Write down in the audit trail what became of a backtest."""
    audit.record(
        session,
        f"backtest.{verb}",
        subject=f"backtest:{row.id}",
        actor=row.actor,
        at=now,
        after={"name": row.name, "assets": row.assets, "done": row.done},
        company_id=row.company_id,
    )


# What came of it ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Totals:
    """What one side comes to over all assets that are through."""

    samples: int
    alarms: int
    orders: int
    active_ms: int
    assets: int
    """Assets with at least one alarm."""


def totals(session: Session, row: Backtest) -> dict[str, Totals]:
    """Return what each side comes to so far."""
    query = (
        select(
            BacktestAsset.side,
            func.sum(BacktestAsset.samples),
            func.sum(BacktestAsset.alarms),
            func.sum(BacktestAsset.orders),
            func.sum(BacktestAsset.active_ms),
            func.count().filter(BacktestAsset.alarms > 0),
        )
        .where(BacktestAsset.backtest_id == row.id)
        .group_by(BacktestAsset.side)
    )
    return {side: Totals(*(int(number) for number in sums)) for side, *sums in session.execute(query)}


def alarms(
    session: Session,
    row: Backtest,
    *,
    visible: ColumnElement[bool],
    side: str = "draft",
    asset_id: int | None = None,
    after: int | None = None,
    limit: int,
) -> Sequence[tuple[BacktestAlarm, Asset]]:
    """Return alarms that one side would have raised on assets still within sight, asset by asset, in order of time."""
    query = (
        select(BacktestAlarm, Asset)
        .join(Asset, Asset.id == BacktestAlarm.asset_id)
        .where(BacktestAlarm.backtest_id == row.id, BacktestAlarm.side == side, visible)
        .order_by(BacktestAlarm.id)
        .limit(limit)
    )
    if asset_id is not None:
        query = query.where(BacktestAlarm.asset_id == asset_id)
    if after is not None:
        query = query.where(BacktestAlarm.id > after)
    return [(alarm, asset) for alarm, asset in session.execute(query)]
