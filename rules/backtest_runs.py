"""Carries backtests out, asset by asset, for whoever asked for one in ``rules.backtests`` and reads there what came.

By a process that reads the telemetry store, each asset in a transaction of its own: claimed by a row lock, taken up
where it stood if that process died, and ended between two assets when the person gives it up. Nothing of it touches
alarms, orders or the engine.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session, sessionmaker

from assets import measured
from assets.measured import Span
from assets.models import Asset
from kernel import clock, db, jobs, log
from kernel.db import Json
from kernel.errors import FixwrightError
from rules import backtests, compiled, conditions, history, overrides, replay, standing, surroundings
from rules.backtests import Wanted
from rules.compiled import Compiled
from rules.conditions import AlarmDefinition
from rules.context import NOWHERE, Context, series_of
from rules.episodes import is_worse
from rules.faults import DefinitionRefused
from rules.models import Backtest, BacktestAlarm, BacktestAsset, RuleOverride
from rules.outcome import HOLD_FOREVER_MS, Instance, Watched
from rules.replay import Episode
from telemetry.store import TelemetryStore

KEPT: Final = timedelta(days=90)
MOST_ALARMS: Final = 2_000
"""Alarms of one asset and side that are listed; all are counted."""


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
            backtests.record(session, row, "run", now)


def _fail(sessions: sessionmaker[Session], identity: int, error: Exception) -> None:
    log.of(__name__).warning("a backtest failed", backtest=identity, error=repr(error))
    told = str(error) if isinstance(error, (ValueError, FixwrightError)) else type(error).__name__
    with db.transaction(sessions) as session:
        row = session.get_one(Backtest, identity, with_for_update=True)
        row.state, row.trouble, row.ended_at = "failed", told[:300], clock.now()
