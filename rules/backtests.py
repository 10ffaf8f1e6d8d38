"""Backtests: what a definition would have raised on stored history, beside what the one in force would have (RUL-15).

A person asks, within sight; rows say how far it is. It is carried out asset by asset, each in a transaction of its
own, by a process that reads the telemetry store: claimed by a row lock, taken up where it stood if that process died,
and ended between two assets when the person gives it up. Nothing of it touches alarms, orders or the engine.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.orm import Session, sessionmaker

from assets import measured
from assets.measured import Span
from assets.models import Asset
from kernel import audit, clock, db, jobs, log
from kernel.db import Json
from kernel.errors import Conflict, FixwrightError, Invalid, NotFound
from rules import compiled, conditions, history, overrides, replay, standing, surroundings
from rules.compiled import Compiled
from rules.conditions import AlarmDefinition
from rules.context import NOWHERE, Context, series_of
from rules.episodes import is_worse
from rules.faults import DefinitionRefused
from rules.models import SEVERITIES, Backtest, BacktestAlarm, BacktestAsset, RuleOverride
from rules.outcome import HOLD_FOREVER_MS, Instance, Watched
from rules.replay import Episode
from telemetry.store import TelemetryStore

KEPT: Final = timedelta(days=90)
MOST_ASSETS: Final = 2_000
MOST_DAYS: Final = 800
MOST_OPEN: Final = 3
"""Backtests of one person that wait or run."""
MOST_ALARMS: Final = 2_000
"""Alarms of one asset and side that are listed; all are counted."""
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
    _record(session, row, "cancel", now)


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


# Carrying out ------------------------------------------------------------------------------------------------------


def run_next(sessions: sessionmaker[Session], store: TelemetryStore, *, is_stopping: Callable[[], bool]) -> bool:
    """Carry out the next backtest that waits, or whose runner died; False when there is none.

    One that is interrupted waits again, and goes on where it stood.
    """
    now = clock.now()
    with db.transaction(sessions) as session:
        row = jobs.take(session, Backtest, now)
        if row is None:
            return False
        identity, wanted, kind = row.id, msgspec.convert(row.wanted, Wanted), row.alarm_type_id
        through = set(
            session.scalars(select(BacktestAsset.asset_id).where(BacktestAsset.backtest_id == identity).distinct())
        )
    try:
        plans = _Plans(wanted, kind)
        for asset_id in wanted.assets:
            if asset_id in through:
                continue
            if is_stopping():
                return _put_back(sessions, identity)
            if not _one(sessions, store, plans, identity, asset_id):
                return True
    except Exception as error:  # noqa: BLE001 - the edge of a backtest: it ends as failed, and says why
        _fail(sessions, identity, error)
    else:
        _finish(sessions, identity)
    return True


def sweep(sessions: sessionmaker[Session]) -> None:
    """Forget backtests whose time is over."""
    with db.transaction(sessions) as session:
        session.execute(delete(Backtest).where(Backtest.ended_at < clock.now() - KEPT))


class _Plans:
    """The definitions of a backtest, compiled once for all assets that follow them."""

    def __init__(self, wanted: Wanted, alarm_type_id: int | None) -> None:
        self.wanted = wanted
        self.alarm_type_id = alarm_type_id
        said = {"draft": wanted.definition, "current": wanted.current}
        self.sides = {side: conditions.parse(stored) for side, stored in said.items() if stored is not None}
        self._compiled = {side: _anywhere(one) for side, one in self.sides.items()}
        self.metrics = sorted({metric for one in self.sides.values() for metric in one.metrics()})

    def on(self, side: str, patch: Json | None) -> tuple[AlarmDefinition, Compiled | None]:
        """Return a side's definition on an asset, with what that asset does differently where it fits."""
        definition = self.sides[side]
        if patch:
            try:
                patched = overrides.with_overrides(definition, patch)
                return patched, _anywhere(patched)
            except DefinitionRefused:
                pass
        return definition, self._compiled[side]


def _anywhere(definition: AlarmDefinition) -> Compiled | None:
    """Return a definition compiled for all assets, None where it depends on where it stands."""
    return None if surroundings.is_placed(definition) else compiled.compile_definition(definition)


def _one(sessions: sessionmaker[Session], store: TelemetryStore, plans: _Plans, identity: int, asset_id: int) -> bool:
    """Run one asset and write what comes of it; False when the backtest was given up."""
    wanted = plans.wanted
    with db.transaction(sessions) as session:
        asset = session.get(Asset, asset_id)
        spans = [] if asset is None else history.spans_of(session, asset_id, plans.metrics)
        described = history.described(session, asset_id)
        hold_ms = {metric: standing.held_for_ms(described.get(metric)) for metric in plans.metrics}
        bad = {metric for metric, one in described.items() if one.uses_bad}
        known = session.get(RuleOverride, (plans.alarm_type_id, asset_id)) if plans.alarm_type_id else None
        patch = None if known is None else known.patch
        sides = {side: _placed(session, asset_id, *plans.on(side, patch)) for side in plans.sides}
        beyond = {} if asset is None else _beyond(session, asset, plans)
    spans += [Span(name, one.series, 0, 0, measured.FOREVER_MS) for name, one in sorted(beyond.items())]
    # The silence of a whole device is that of all it measures, whatever else the rule looks at.
    heard = sorted({name for _, context, _ in sides.values() for device in context.devices for name in device.series})
    spans += [Span(name, series_of(name), 0, 0, measured.FOREVER_MS) for name in heard]
    samples = history.samples(store, spans, wanted.start_ms, wanted.end_ms, bad=bad)
    watched = {metric: Watched(number, hold_ms.get(metric, HOLD_FOREVER_MS)) for number, metric in enumerate(samples)}
    watched |= {name: replace(watched[name], hold_ms=one.hold_ms) for name, one in beyond.items()}
    summaries: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for side, (definition, context, plan) in sides.items():
        instance = Instance(asset_id, definition, watched, context)
        # Where nothing has ever spoken, nobody hears it fall silent.
        is_deaf = surroundings.hears_devices(definition) and not context.devices
        told = () if is_deaf else replay.replay(instance, samples, wanted.end_ms - 1, plan=plan).episodes
        opens = orders(told, wanted.order_from, round(wanted.window_h * 3_600_000))
        where = {"backtest_id": identity, "asset_id": asset_id, "side": side}
        counts = {
            "samples": sum(len(samples[metric]) for metric in definition.metrics() if metric in samples),
            "alarms": len(told),
            "orders": sum(opens),
            "active_ms": sum((one.ended_ms or wanted.end_ms) - one.raised_ms for one in told),
        }
        summaries.append(where | counts)
        found.extend(
            where | _row(one, opens_order=opened) for one, opened in list(zip(told, opens, strict=True))[:MOST_ALARMS]
        )
    return _write(sessions, identity, summaries if asset is not None else [], found)


def _placed(
    session: Session, asset_id: int, definition: AlarmDefinition, plan: Compiled | None
) -> tuple[AlarmDefinition, Context, Compiled | None]:
    """Return a definition as it stands on an asset now: in its zone, with what its attributes hold."""
    if not surroundings.is_placed(definition):
        return definition, NOWHERE, plan
    around = surroundings.read(session, [(definition, asset_id)])
    return *around.settle(definition, asset_id, measured.now_on(session, [asset_id])), None


def _beyond(session: Session, asset: Asset, plans: _Plans) -> dict[str, Watched]:
    """Return the series of other assets that the sides look at, as they speak now."""
    found: dict[str, Watched] = {}
    for definition in plans.sides.values():
        around = surroundings.read(session, [(definition, asset.id)])
        found |= around.beyond(definition, asset.id, asset.company_id)[0]
    return found


def orders(found: Sequence[Episode], order_from: str | None, window_ms: int) -> list[bool]:
    """Return which episodes would have opened an order; the others join one, or are not severe enough.

    When people would have finished an order nobody knows: it is taken to stay open for ``window_ms``.
    """
    opens: list[bool] = []
    open_until_ms: int | None = None
    for one in found:
        is_severe = order_from is not None and not is_worse(order_from, one.worst.key)
        opened = is_severe and (open_until_ms is None or one.raised_ms >= open_until_ms)
        if opened:
            open_until_ms = one.raised_ms + window_ms
        opens.append(opened)
    return opens


def _row(one: Episode, *, opens_order: bool) -> dict[str, Any]:
    return {
        "began_at": clock.from_ms(one.began_ms),
        "raised_at": clock.from_ms(one.raised_ms),
        "ended_at": None if one.ended_ms is None else clock.from_ms(one.ended_ms),
        "severity": one.worst.key,
        "count": one.last.matched,
        "metric": one.last.metric,
        "peak_value": one.last.peak,
        "opens_order": opens_order,
    }


def _write(
    sessions: sessionmaker[Session], identity: int, summaries: list[dict[str, Any]], found: Iterable[dict[str, Any]]
) -> bool:
    with db.transaction(sessions) as session:
        row = session.get(Backtest, identity, with_for_update=True)
        if row is None or row.state != "running":
            return False
        if summaries:
            session.execute(insert(BacktestAsset), summaries)
        rows = list(found)
        if rows:
            session.execute(insert(BacktestAlarm), rows)
        row.done, row.beat_at = row.done + 1, clock.now()
    return True


def _put_back(sessions: sessionmaker[Session], identity: int) -> bool:
    with db.transaction(sessions) as session:
        row = session.get_one(Backtest, identity, with_for_update=True)
        if row.state == "running":
            row.state = "queued"
    return False


def _finish(sessions: sessionmaker[Session], identity: int) -> None:
    now = clock.now()
    with db.transaction(sessions) as session:
        row = session.get_one(Backtest, identity, with_for_update=True)
        if row.state == "running":
            row.state, row.ended_at = "done", now
            _record(session, row, "run", now)


def _fail(sessions: sessionmaker[Session], identity: int, error: Exception) -> None:
    log.of(__name__).warning("a backtest failed", backtest=identity, error=repr(error))
    told = str(error) if isinstance(error, (ValueError, FixwrightError)) else type(error).__name__
    with db.transaction(sessions) as session:
        row = session.get_one(Backtest, identity, with_for_update=True)
        row.state, row.trouble, row.ended_at = "failed", told[:300], clock.now()


def _record(session: Session, row: Backtest, verb: str, now: datetime) -> None:
    audit.record(
        session,
        f"backtest.{verb}",
        subject=f"backtest:{row.id}",
        actor=row.actor,
        at=now,
        after={"name": row.name, "assets": row.assets, "done": row.done},
        company_id=row.company_id,
    )
