"""Derived metrics, worked out beside ingest out of stored readings, from the ledger of what is due (TEL-7).

One process does it, the one that leads; it never holds up the path. A round takes notes from the ledger, works their
hours out, stores what changed as readings, lets rules judge what is new, and only then removes the notes: wherever a
kill falls, the next round does the same again and finds what is there already.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from assets import derivations, dirty, keeping, measured, meters
from assets.derivations import Derived
from assets.measured import Span
from assets.models import Asset, Binding
from ingest import crash, hours, housekeeping
from ingest.hours import Points, Work
from ingest.licence import Deposed
from ingest.patience import TRANSIENT
from kernel import clock, db, log
from kernel.errors import Unavailable
from kernel.settings import Settings
from telemetry import series
from telemetry.models import Series
from telemetry.readings import Int64s, Readings, concatenate
from telemetry.retention import HOUR_MS
from telemetry.series import Pair
from telemetry.store import TelemetryStore

NOTES: Final = 200
"""Notes that are taken up in one round."""
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
        for one, since_ms in work:
            self._work_out(one, since_ms, now, judge)
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
        work = []
        for (asset_id, metric), merged in spans.items():
            asset = assets[asset_id]
            for recipe in recipes[asset.type_id]:
                if recipe.source == metric:
                    work += [(one, since[asset.type_id]) for one in _works(session, asset_id, recipe, merged)]
        return work

    def _work_out(self, work: Work, since_ms: int, now: datetime, judge: Judge) -> None:
        until_ms = dirty.over_until(clock.to_ms(now) - dirty.SLACK_MS)
        found = hours.work_out(self._store, work, since_ms=since_ms, until_ms=until_ms)
        told = [(work.metric.key, found.values, found.stored_values)]
        if work.metric.total is not None:
            told.append((work.metric.total, found.totals, found.stored_totals))
        wanted = {(span.device_id, key) for key, points, _ in told for span in work.sources if len(_of(points, span))}
        if not wanted:
            return
        with db.transaction(self._sessions) as session:
            known = _known(session, wanted)
            numbers = known | series.ensure(session, sorted(wanted - set(known)), now=now)
        newest = self._store.latest(list(numbers.values()))
        changed = [_readings(points.unlike(stored), work.sources, key, numbers) for key, points, stored in told]
        self._store.write(concatenate(changed))
        crash.here("after_derived")
        # Also what was stored already: a kill may have come between the store and the rules, who know what they know.
        news = concatenate([_readings(points, work.sources, key, numbers) for key, points, _ in told])
        known_ms = [newest[number].ts_ms if number in newest else 0 for number in news.series.tolist()]
        news = news.select((news.ts_ms >= known_ms) & (news.ts_ms >= until_ms - NEWS_MS))
        fresh = {work.asset_id} if len(known) < len(wanted) else set[int]()
        if len(news) or fresh:
            judge(news, fresh)


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


def _works(session: Session, asset_id: int, metric: Derived, spans: Iterable[tuple[int, int]]) -> list[Work]:
    wanted = [metric.source, metric.key, *([metric.total] if metric.total else [])]
    by_metric: dict[str, list[Span]] = {}
    for span in measured.of_asset(session, asset_id, wanted):
        by_metric.setdefault(span.metric, []).append(span)
    changes = meters.standing(session, asset_id)
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


def _readings(points: Points, sources: Sequence[Span], key: str, numbers: Mapping[Pair, int]) -> Readings:
    """Return points as readings of the device that spoke at their instant."""
    parts = []
    for span in sources:
        mine = _of(points, span)
        if len(mine):
            number: Int64s = np.full(len(mine), numbers[span.device_id, key], np.int64)
            parts.append(Readings(number, mine.ts_ms, mine.value, None, mine.flags))
    return concatenate(parts)


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
