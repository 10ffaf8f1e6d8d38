"""Derived metrics, worked out beside ingest out of stored readings, from the ledger of what is due (TEL-7).

One process does it, the one that leads; it never holds up the path. A round takes notes from the ledger, works their
hours out, stores what changed as readings, lets rules judge what is new, and only then removes the notes: wherever a
kill falls, the next round does the same again and finds what is there already.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from assets import derivations, dirty, keeping, measured, meters
from assets.derivations import Derived
from assets.derived_tables import MeterChange
from assets.measured import Span
from assets.models import Asset, Binding
from ingest import crash, hours, housekeeping
from ingest.ahead import Ahead, Reads
from ingest.hours import Points, Work
from ingest.licence import Deposed
from ingest.patience import TRANSIENT
from kernel import clock, db, log
from kernel.errors import Unavailable
from kernel.settings import Settings
from telemetry import derived, series
from telemetry.models import Series
from telemetry.readings import Int64s, Readings, concatenate
from telemetry.retention import HOUR_MS
from telemetry.series import Pair
from telemetry.store import TelemetryStore

NOTES: Final = 200
"""Notes that are taken up in one round."""
POINTS: Final = 200_000
"""Values that are held before they are stored."""
RECENT_MS: Final = 3 * HOUR_MS
"""Hours that are read ahead for all series of a round."""
LOOK_S: Final = 5.0
NEWS_MS: Final = 24 * HOUR_MS
"""What is older is no news to rules, as with late readings (SEMANTICS A18)."""

Judge = Callable[[Readings, set[int]], None]
"""Lets rules see readings that are stored; the assets are those that have a series they had not."""

_log = log.of(__name__)


class Deriving:
    """Works derived metrics out in one process, one round after the other."""

    def __init__(self, sessions: sessionmaker[Session], store: TelemetryStore, settings: Settings) -> None:
        self._sessions = sessions
        self._store = store
        self._lifetimes = housekeeping.lifetimes(settings)

    def round(self, now: datetime, judge: Judge) -> bool:
        """Close hours that are over and work some notes out; return whether more may be due.

        Raises:
            kernel.errors.Unavailable: the store does not answer; the notes stay.
        """
        with db.transaction(self._sessions) as session:
            dirty.close(session, now)
            notes = dirty.take(session, now, limit=NOTES)
            work = self._plan(session, notes, now) if notes else []
        for wave in _waves(work):
            self._work_out(wave, now, judge)
        crash.here("before_settle")
        with db.transaction(self._sessions) as session:
            dirty.settle(session, notes)
        return len(notes) == NOTES

    def _plan(self, session: Session, notes: Sequence[dirty.Span], now: datetime) -> list[tuple[Work, int]]:
        spans = _on_assets(session, notes)
        assets = {
            asset.id: asset for asset in session.scalars(select(Asset).where(Asset.id.in_({key[0] for key in spans})))
        }
        recipes: dict[int, list[Derived]] = {}
        since: dict[int, int] = {}
        now_ms = clock.to_ms(now)
        for company in {asset.company_id for asset in assets.values()}:
            kinds = {asset.type_id for asset in assets.values() if asset.company_id == company}
            recipes |= derivations.of_types(session, company, kinds)
            told = keeping.lifetimes(session, company, kinds)
            since |= {kind: told.get(kind, (self._lifetimes, 0))[0].horizon(now_ms).raw_ms for kind in kinds}
        every = [one for some in recipes.values() for one in some]
        keys = {key for one in every for key in (one.source, one.key, one.total) if key}
        series_of, changes = measured.of_assets(session, assets, keys), meters.standing(session, assets)
        work = []
        for (asset_id, metric), merged in spans.items():
            asset = assets[asset_id]
            for recipe in recipes[asset.type_id]:
                if recipe.source == metric:
                    some = _works(asset_id, recipe, merged, series_of.get(asset_id, []), changes.get(asset_id, []))
                    work += [(one, since[asset.type_id]) for one in some]
        return work

    def _work_out(self, wave: Sequence[tuple[Work, int]], now: datetime, judge: Judge) -> None:
        until_ms = dirty.over_until(clock.to_ms(now) - dirty.SLACK_MS)
        reads = _ahead(self._store, [one for one, _ in wave], until_ms)
        told: list[_Told] = []
        held = 0
        for one, since_ms in wave:
            found = hours.work_out(reads, one, since_ms=since_ms, until_ms=until_ms)
            told.append(_Told(one, one.metric.key, found.values, found.stored_values))
            if one.metric.total is not None:
                told.append(_Told(one, one.metric.total, found.totals, found.stored_totals))
            held += len(found.values) + len(found.totals)
            if held > POINTS:
                self._keep(told, until_ms, now, judge)
                told, held = [], 0
        self._keep(told, until_ms, now, judge)

    def _keep(self, told: Sequence["_Told"], until_ms: int, now: datetime, judge: Judge) -> None:
        """Store what differs, and let rules judge what is new."""
        wanted = {pair for one in told for pair in one.pairs}
        if not wanted:
            return
        with db.transaction(self._sessions) as session:
            known = _known(session, wanted)
            missing = wanted - set(known)
            numbers = known | (series.ensure(session, sorted(missing), now=now) if missing else {})
        newest = self._store.latest(list(numbers.values()))
        changed = concatenate([one.readings(one.points.unlike(one.stored), numbers) for one in told])
        if len(changed):
            self._store.write(changed)
        crash.here("after_derived")
        # Also what was stored already: a kill may have come between the store and the rules, who know what they know.
        news = concatenate([one.readings(one.points, numbers) for one in told])
        known_ms = [newest[number].ts_ms if number in newest else 0 for number in news.series.tolist()]
        news = news.select((news.ts_ms >= known_ms) & (news.ts_ms >= until_ms - NEWS_MS))
        fresh = {one.work.asset_id for one in told if missing.intersection(one.pairs)}
        if len(news) or fresh:
            judge(news, fresh)


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    """What was worked out of one metric, beside what is stored of it."""

    work: Work
    key: str
    points: Points
    stored: Points

    @property
    def pairs(self) -> set[Pair]:
        """The devices that it is stored under, each with the metric."""
        return {(span.device_id, self.key) for span in self.work.sources if len(_of(self.points, span))}

    def readings(self, points: Points, numbers: Mapping[Pair, int]) -> Readings:
        """Return points as readings of the device that spoke at their instant."""
        parts = []
        for span in self.work.sources:
            mine = _of(points, span)
            if len(mine):
                number: Int64s = np.full(len(mine), numbers[span.device_id, self.key], np.int64)
                parts.append(Readings(number, mine.ts_ms, mine.value, None, mine.flags))
        return concatenate(parts)


def _waves(work: Iterable[tuple[Work, int]]) -> list[list[tuple[Work, int]]]:
    """Return work so that of one metric of an asset the later hours come after the earlier ones are stored."""
    waves: list[list[tuple[Work, int]]] = []
    turns: dict[tuple[int, str], int] = {}
    for one in work:
        key = one[0].asset_id, one[0].metric.key
        turn = turns[key] = turns.get(key, -1) + 1
        if turn == len(waves):
            waves.append([])
        waves[turn].append(one)
    return waves


def _ahead(store: TelemetryStore, works: Sequence[Work], until_ms: int) -> Reads:
    """Return a store that has the last hours at hand, where works are about them."""
    recent = [one for one in works if until_ms - derived.hour_of(one.from_ms) <= RECENT_MS]
    if not recent:
        return store
    begin_ms = min(derived.hour_of(one.from_ms) for one in recent) - HOUR_MS
    spans = (span for one in recent for span in (*one.sources, *one.values, *one.totals))
    return Ahead(store, {span.series for span in spans if span.ends_ms > begin_ms}, begin_ms, until_ms)


def _on_assets(session: Session, notes: Sequence[dirty.Span]) -> dict[tuple[int, str], list[tuple[int, int]]]:
    """Return the spans of notes by asset and metric, those that touch each other put together."""
    by_series: dict[int, list[dirty.Span]] = {}
    for note in notes:
        by_series.setdefault(note.series, []).append(note)
    rows = session.execute(
        select(Series.id, Series.metric, Binding.asset_id, Binding.starts_at, Binding.ends_at)
        .join(Binding, Binding.device_id == Series.device_id)
        .where(Series.id.in_(by_series))
    )
    found: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for number, metric, asset_id, starts_at, ends_at in rows:
        starts = clock.to_ms(starts_at)
        ends = measured.FOREVER_MS if ends_at is None else clock.to_ms(ends_at)
        for note in by_series[number]:
            if note.from_ms <= ends and note.to_ms > starts:
                # A device that left takes the hour with it in which it did.
                found.setdefault((asset_id, metric), []).append((max(note.from_ms, starts), note.to_ms))
    return {key: _merged(spans) for key, spans in found.items()}


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1] + HOUR_MS:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((begin, end))
    return merged


def _works(
    asset_id: int,
    metric: Derived,
    spans: Iterable[tuple[int, int]],
    series_of: Iterable[Span],
    changes: Sequence[MeterChange],
) -> list[Work]:
    by_metric: dict[str, list[Span]] = {}
    for span in series_of:
        by_metric.setdefault(span.metric, []).append(span)
    breaks = tuple(meters.as_break(one) for one in changes if one.kind != "total" and one.metric == metric.source)
    stated = tuple(
        (clock.to_ms(one.at), one.total)
        for one in changes
        if one.kind == "total" and one.metric == metric.key and one.total is not None
    )
    sources = hours.parted(by_metric.get(metric.source, []))
    values, totals = (tuple(by_metric.get(key or "", [])) for key in (metric.key, metric.total))
    return [Work(asset_id, metric, sources, values, totals, breaks, stated, begin, end) for begin, end in spans]


def _known(session: Session, pairs: set[Pair]) -> dict[Pair, int]:
    found = series.load(session, {device_id for device_id, _ in pairs})
    return {pair: number for pair, number in found.items() if pair in pairs}


def _of(points: Points, span: Span) -> Points:
    return points.select((points.ts_ms >= span.starts_ms) & (points.ts_ms < span.ends_ms))


# Beside the path ---------------------------------------------------------------------------------------------------

Between = Callable[[Callable[[], Any]], Awaitable[Any]]


async def for_ever(deriving: Deriving, between: Between, judge: Judge, is_mine: Callable[[], bool]) -> None:
    """Work out what is due, as long as it falls to this process; ``between`` runs something on the path's thread."""
    loop = asyncio.get_running_loop()

    def judged(readings: Readings, fresh: set[int]) -> None:
        asyncio.run_coroutine_threadsafe(_awaited(between, lambda: judge(readings, fresh)), loop).result()

    while True:
        try:
            while is_mine() and await asyncio.to_thread(deriving.round, clock.now(), judged):
                pass
        except Deposed:
            return
        except (Unavailable, *TRANSIENT) as error:
            _log.warning("derived metrics wait", reason=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the edge of a round: logged, and the next one tries again
            _log.error("derived metrics could not be worked out", exc_info=error)
        await asyncio.sleep(LOOK_S)


async def _awaited(between: Between, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it gives back
    return await between(work)
