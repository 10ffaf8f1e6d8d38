"""Watched trends: what people ask to be told ahead of time, and working it out asset by asset.

Once a day each watched asset is looked at: the hours of the watched metric, in which a day's rhythm is whole, go
through ``rules.trend``. A crossing that is no further away than the lead is told once, as an event, until the
trend is gone again; a planned inspection is proposed from it. Rows are claimed by locks, so any number of
processes may work and a killed one loses nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from assets import measured, types
from assets.models import Asset, AssetType, Binding
from kernel import audit, clock, events
from kernel.db import Json
from kernel.errors import Conflict, Invalid
from people import scope
from people.scope import Viewer
from rules import trend
from rules.events import LimitForeseen
from rules.trend import DAY_MS, Outlook
from rules.trend_tables import TrendForecast, TrendWatch
from telemetry.models import Series
from telemetry.store import TelemetryStore

EVERY: Final = timedelta(days=1)
AT_ONCE: Final = 20
"""Forecasts worked out in one transaction."""
HORIZON_DAYS: Final = 730.0
"""What lies further away is not foretold."""
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchDraft:
    """What a person asks to be told: that ``metric`` reaches ``limit`` within ``lead_days``."""

    metric: str
    limit: float
    is_rising: bool = True
    window_days: int = 90
    lead_days: int = 30


def watch(session: Session, kind: AssetType, draft: WatchDraft, *, actor: str, now: datetime) -> TrendWatch:
    """Watch a metric of a type and of the types below it.

    Raises:
        Invalid: the type has no such numeric metric, or a number of days is out of bounds.
        Conflict: it is watched in this direction already.
    """
    _check(session, kind, draft)
    if session.scalar(select(TrendWatch.id).where(*_same(kind, draft))) is not None:
        raise Conflict("This metric is watched in this direction already.", field="metric")
    made = TrendWatch(company_id=kind.company_id, asset_type_id=kind.id, changed_at=now, **asdict(draft))
    session.add(made)
    session.flush()
    _tell(session, made, "watch", actor, now, after=asdict(draft))
    return made


def change(session: Session, watched: TrendWatch, draft: WatchDraft, *, actor: str, now: datetime) -> None:
    """Change a watch; every forecast of it is worked out anew.

    Raises:
        Invalid: the type has no such numeric metric, or a number of days is out of bounds.
        Conflict: another watch says the same.
    """
    kind = watched.asset_type
    _check(session, kind, draft)
    if session.scalar(select(TrendWatch.id).where(*_same(kind, draft), TrendWatch.id != watched.id)) is not None:
        raise Conflict("This metric is watched in this direction already.", field="metric")
    before = {name: getattr(watched, name) for name in asdict(draft)}
    for name, value in asdict(draft).items():
        setattr(watched, name, value)
    watched.changed_at = now
    session.flush()
    afresh = {"next_at": now, "told_at": None, "outlook": None, "likely_at": None}
    session.execute(update(TrendForecast).where(TrendForecast.watch_id == watched.id).values(**afresh))
    _tell(session, watched, "change", actor, now, before=before, after=asdict(draft))


def stop(session: Session, watched: TrendWatch, *, actor: str, now: datetime) -> None:
    """Watch no more; what was foretold goes with it."""
    _tell(session, watched, "stop", actor, now, before={"metric": watched.metric, "limit": watched.limit})
    session.delete(watched)
    session.flush()


def watches(session: Session, company_id: int) -> Sequence[TrendWatch]:
    """Return what a company watches."""
    query = select(TrendWatch).where(TrendWatch.company_id == company_id)
    return session.scalars(query.order_by(TrendWatch.asset_type_id, TrendWatch.metric, TrendWatch.id)).all()


def foretold(session: Session, viewer: Viewer, *, limit: int = 200) -> Sequence[TrendForecast]:
    """Return the crossings that are foretold within the viewer's sight, the nearest first."""
    query = (
        select(TrendForecast)
        .where(
            scope.visible(TrendForecast, viewer, "rules.read"),
            TrendForecast.outlook.in_((Outlook.CROSSES, Outlook.CROSSED)),
        )
        .order_by(TrendForecast.likely_at.nulls_first(), TrendForecast.asset_id)
        .limit(limit)
    )
    return session.scalars(query).all()


def counts(session: Session, viewer: Viewer, watch_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """Return for each watch how many assets within the viewer's sight have which outlook."""
    query = (
        select(TrendForecast.watch_id, TrendForecast.outlook, func.count())
        .where(TrendForecast.watch_id.in_(watch_ids), TrendForecast.outlook.is_not(None))
        .where(scope.visible(TrendForecast, viewer, "rules.read"))
        .group_by(TrendForecast.watch_id, TrendForecast.outlook)
    )
    found: dict[int, dict[str, int]] = {}
    for watch_id, outlook, number in session.execute(query):
        found.setdefault(watch_id, {})[str(outlook)] = number
    return found


def of_asset(session: Session, asset: Asset) -> Sequence[TrendForecast]:
    """Return everything foretold of an asset, whatever the outlook."""
    query = select(TrendForecast).where(TrendForecast.asset_id == asset.id, TrendForecast.outlook.is_not(None))
    return session.scalars(query.order_by(TrendForecast.watch_id)).all()


# Working out ---------------------------------------------------------------------------------------------------------


def enrol(session: Session, now: datetime) -> None:
    """Give every asset that measures what is watched a row, due now; those that have one keep it."""
    for watched in session.scalars(select(TrendWatch)):
        kinds = types.with_descendants(session, watched.company_id, watched.asset_type_id)
        measures = exists(
            select(Series.id)
            .join(Binding, Binding.device_id == Series.device_id)
            .where(Binding.asset_id == Asset.id, Series.metric == watched.metric)
        )
        meant = select(literal(watched.id), Asset.id, Asset.company_id, Asset.unit_id, literal(now)).where(
            Asset.type_id.in_(kinds), Asset.company_id == watched.company_id, Asset.status == "in_service", measures
        )
        rows = insert(TrendForecast).from_select(["watch_id", "asset_id", "company_id", "unit_id", "next_at"], meant)
        session.execute(rows.on_conflict_do_nothing())


def work_out_due(session: Session, store: TelemetryStore, now: datetime) -> int:
    """Work out some forecasts that are due; return how many. Rows another process holds are left to it."""
    due = session.scalars(
        select(TrendForecast)
        .where(TrendForecast.next_at <= now)
        .order_by(TrendForecast.next_at, TrendForecast.watch_id, TrendForecast.asset_id)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True, of=TrendForecast)
    ).all()
    for row in due:
        _work_out(session, store, row, now)
    return len(due)


def _work_out(session: Session, store: TelemetryStore, row: TrendForecast, now: datetime) -> None:
    watched, now_ms = row.watch, clock.to_ms(now)
    end_ms = -(-now_ms // _HOUR_MS) * _HOUR_MS
    hours = 24 * watched.window_days
    spans = measured.of_asset(session, row.asset_id, [watched.metric])
    curves = measured.curves(store, spans, end_ms - hours * _HOUR_MS, end_ms, points=hours) if spans else []
    ts_ms, mean = (curves[0].start_ms, curves[0].mean) if curves else (trend.NO_TIMES, trend.NO_VALUES)
    told = trend.foresee(
        ts_ms, mean, limit=watched.limit, is_rising=watched.is_rising, now_ms=now_ms, horizon_days=HORIZON_DAYS
    )
    row.outlook, row.shape, row.days = told.outlook.value, told.shape and told.shape.value, told.days
    row.level, row.per_day = told.level, told.per_day
    row.earliest_at, row.likely_at, row.latest_at = map(_at, (told.earliest_ms, told.likely_ms, told.latest_ms))
    row.unit_id, row.worked_out_at, row.next_at = row.asset.unit_id, now, now + EVERY
    near = told.likely_ms is not None and told.likely_ms - now_ms <= watched.lead_days * DAY_MS
    if told.outlook is Outlook.CROSSES and near and row.told_at is None:
        row.told_at = now
        happened = LimitForeseen(row.watch_id, row.asset_id)
        events.emit(
            session, happened, subject=f"asset:{row.asset_id}", at=now, actor="system", unit_id=row.asset.unit_id
        )
    elif told.outlook in {Outlook.STEADY, Outlook.NOT_ENOUGH}:
        row.told_at = None
    session.flush()


def _at(ms: int | None) -> datetime | None:
    return None if ms is None else clock.from_ms(ms)


# Checks --------------------------------------------------------------------------------------------------------------


def _check(session: Session, kind: AssetType, draft: WatchDraft) -> None:
    known = types.metrics(session, kind.company_id, [kind.id])[kind.id].get(draft.metric)
    if known is None or known.kind == "text":
        raise Invalid("There is no numeric metric {metric}.", field="metric", metric=draft.metric)
    for field, least, most in (("window_days", trend.LEAST_DAYS, 730), ("lead_days", 1, 365)):
        if not least <= getattr(draft, field) <= most:
            raise Invalid("Choose {least} to {most} days.", field=field, least=least, most=most)


def _same(kind: AssetType, draft: WatchDraft) -> tuple[ColumnElement[bool], ...]:
    return (
        TrendWatch.asset_type_id == kind.id,
        TrendWatch.metric == draft.metric,
        TrendWatch.is_rising == draft.is_rising,
    )


def _tell(
    session: Session,
    watched: TrendWatch,
    verb: str,
    actor: str,
    now: datetime,
    *,
    before: Json | None = None,
    after: Json | None = None,
) -> None:
    audit.record(
        session,
        f"trend.{verb}",
        subject=f"type:{watched.asset_type_id}",
        actor=actor,
        at=now,
        before=before,
        after=after,
        company_id=watched.company_id,
    )
