"""The embedded store: one DuckDB file, owned by one process, fast enough that ingest never waits for it.

Batches are appended to a *hot* table in the order they come. When that is full it is sealed and sorted by
series and time into a *segment*, beside the writes; six segments merge into a larger one, a slice of series after
the other, within the memory it may take (``telemetry.budget``). A curve is then
a few neighbouring row groups of each segment whose time overlaps, and what has expired is mostly whole tables.
Minutes and hours outlive the exact readings (``telemetry.tiers``), and a range finds the right tier by itself.

No unique index stands in the way of a write. The newest time of every series is in memory: a row beyond it is
certainly new, and only the others (late or redelivered) are looked up. So every key is in the store once, always.

Durability: ``write`` returns after the commit is in the write-ahead log and the log is flushed to the disk; the
window in which an acknowledged reading can be lost is zero, also at a power cut if the disk keeps its word.
"""

# ruff: noqa: S608 - tables are named by number, and every value written into a query is an integer of ours

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np

from telemetry import buckets, quality, tables, tiers
from telemetry.batch import Batch
from telemetry.budget import MEMORY_MB, Budget
from telemetry.duckfile import DuckFile, correct, select
from telemetry.readings import Buckets, Int64s, Latest, Mask, Readings, Written
from telemetry.retention import Horizon, Policy
from telemetry.tables import Table
from telemetry.tiers import registered
from telemetry.upkeep import FAN_IN, SEGMENT_ROWS, Upkeep


class DuckDbStore:
    """The embedded ``TelemetryStore``.

    Raises:
        kernel.errors.Misconfigured: the file is open in another process or already in this one, was written
            by a newer version, or is no DuckDB file.
    """

    keeps_text = True
    counts_duplicates = True
    can_expire = True
    has_tiers = True

    def __init__(
        self,
        path: Path,
        *,
        memory_mb: int = MEMORY_MB,
        hot_rows: int | None = None,
        segment_rows: int = SEGMENT_ROWS,
        fan_in: int = FAN_IN,
    ) -> None:
        budget = Budget(memory_mb)
        self._file = DuckFile(path, memory_mb=memory_mb)
        self._upkeep = Upkeep(
            self._file,
            hot_rows=hot_rows or budget.hot_rows,
            segment_rows=segment_rows,
            fan_in=fan_in,
            budget=budget,
        )

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def write(self, readings: Readings) -> Written:
        """Store a batch; see ``TelemetryStore.write``."""
        batch = Batch(readings)
        with self._file.writing, self._file.translated():
            self._file.mend()
            self._settle(batch)
        return batch.written()

    def latest(self, series: Sequence[int]) -> dict[int, Latest]:
        """Return the newest readings, from memory; see ``TelemetryStore.latest``."""
        return self._file.newest.latest(series)

    def newest(self, series: Int64s) -> Readings:
        """Return the newest readings as columns, from memory; see ``TelemetryStore.newest``."""
        return self._file.newest.readings(series)

    def samples(self, series: int, start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return readings of one series, oldest first; see ``TelemetryStore.samples``."""
        buckets.check_samples(start_ms, end_ms, limit)
        with self._file.snapshot() as (cursor, layout):
            rows = tables.union(layout, where=f"series = {int(series)}", start_ms=start_ms, end_ms=end_ms)
            return tables.readings(
                cursor.execute(f"SELECT * FROM ({rows}) ORDER BY ts_ms LIMIT {int(limit)}").fetchnumpy()
            )

    def readings(self, series: Sequence[int], start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return exact readings of several series; see ``TelemetryStore.readings``."""
        buckets.check_readings(start_ms, end_ms, limit)
        if not series:
            return Readings.empty()
        chosen = f"series IN ({','.join(str(int(number)) for number in set(series))})"
        with self._file.snapshot() as (cursor, layout):
            rows = tables.union(layout, where=chosen, start_ms=start_ms, end_ms=end_ms)
            (count,) = cursor.execute(f"SELECT count(*) FROM ({rows})").fetchall()[0]
            if count > limit:
                raise buckets.too_many(limit)
            return select(cursor, f"SELECT * FROM ({rows}) ORDER BY series, ts_ms")

    def not_good(self, series: Sequence[int], start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return bad and uncertain readings of several series; see ``TelemetryStore.not_good``."""
        buckets.check_samples(start_ms, end_ms, limit)
        if not series:
            return Readings.empty()
        # The first of the two conditions lets DuckDB pass over whole row groups in which all is well.
        chosen = (
            f"flags > 0 AND (flags & {int(quality.NOT_GOOD)}) <> 0"
            f" AND series IN ({','.join(str(int(number)) for number in set(series))})"
        )
        with self._file.snapshot() as (cursor, layout):
            rows = tables.union(layout, where=chosen, start_ms=start_ms, end_ms=end_ms)
            return select(cursor, f"SELECT * FROM ({rows}) ORDER BY series, ts_ms LIMIT {int(limit)}")

    def range(
        self,
        series: Sequence[int],
        start_ms: int,
        end_ms: int,
        *,
        points: int | None = None,
        step_ms: int | None = None,
    ) -> Buckets:
        """Return equally wide buckets; see ``TelemetryStore.range``."""
        edges_ms = buckets.even(start_ms, end_ms, points=points, step_ms=step_ms)
        width = int(edges_ms[1] - edges_ms[0])
        return self._reduce(series, edges_ms, f"SELECT *, (ts_ms - {start_ms}) // {width} AS bucket FROM ({{rows}})")

    def aggregate(self, series: Sequence[int], edges_ms: Int64s) -> Buckets:
        """Return buckets between given edges; see ``TelemetryStore.aggregate``."""
        return self._reduce(
            series,
            buckets.check_edges(edges_ms),
            "SELECT rows.*, edges.bucket FROM ({rows}) rows ASOF JOIN edges ON rows.ts_ms >= edges.start_ms",
        )

    def compact(self) -> bool:
        """Do one step of upkeep; see ``TelemetryStore.compact``."""
        return self._upkeep.step()

    def expire(self, before_ms: int) -> None:
        """Forget everything older than an instant, tiers too; see ``keep``."""
        self.keep(Policy(Horizon.everything(before_ms)))

    def keep(self, policy: Policy) -> None:
        """Forget what a policy allows; see ``TelemetryStore.keep``."""
        self._upkeep.keep(policy)

    def close(self) -> None:
        """Write the log into the file and let go of it."""
        with self._file.maintaining, self._file.writing:
            self._file.close()

    # Writing

    def _settle(self, batch: Batch) -> None:
        final = batch.final
        late = np.flatnonzero(final.ts_ms <= self._file.newest.ts_ms(final.series))
        is_stored: Mask = np.zeros(len(final), np.bool_)
        corrections = []
        for table, keys, stored in self._look_up(final, late):
            is_stored[keys] = True
            changed = batch.meet(keys, stored)
            if len(changed):
                corrections.append((table, final.select(changed)))
        fresh = final.select(~is_stored) if is_stored.any() else final
        if len(fresh) or corrections:
            self._commit(fresh, corrections)

    def _look_up(self, final: Readings, late: Int64s) -> Iterator[tuple[Table, Int64s, Readings]]:
        """Yield the late keys that each table holds, as numbers into ``final``, with what it holds for them."""
        if not len(late):
            return
        sought = final.select(late)
        bounds = [int(edge) for edge in (sought.ts_ms.min(), sought.ts_ms.max() + 1)]
        series = f"series BETWEEN {sought.series.min()} AND {sought.series.max()}"
        keys = {"key": late, "series": sought.series, "ts_ms": sought.ts_ms}
        missing = len(late)
        with registered(self._file.writer, "sought", keys):
            # Newest tables first: what is late is mostly a redelivery of what has just been written.
            for table in reversed(tables.listed(self._file.writer)):
                rows = tables.union([table], where=series, start_ms=bounds[0], end_ms=bounds[1])
                found = self._file.writer.execute(
                    f"SELECT key, {tables.NAMES} FROM ({rows}) JOIN sought USING (series, ts_ms)"
                ).fetchnumpy()
                if len(found["key"]):
                    yield table, np.asarray(found["key"], np.int64), tables.readings(found)
                    missing -= len(found["key"])
                if not missing:
                    return

    def _commit(self, fresh: Readings, corrections: list[tuple[Table, Readings]]) -> None:
        hot = self._file.hot
        with self._file.transaction() as cursor:
            if fresh.sent is not None:
                hot = tables.with_sent(cursor, hot)
            if len(fresh):
                with registered(cursor, "fresh", tables.columns(fresh)):
                    text = "NULL" if fresh.text is None else "text"
                    sent = "" if not hot.has_sent else ", NULL" if fresh.sent is None else ", sent"
                    cursor.execute(
                        f"INSERT INTO {hot.name} SELECT series, ts_ms, value, {text}, flags{sent} FROM fresh"
                    )
            for table, content in corrections:
                changed = hot if table == hot else table
                if content.sent is not None:
                    changed = tables.with_sent(cursor, changed)
                hot = changed if table == hot else hot
                correct(cursor, changed.name, content, has_sent=changed.has_sent)
                correct(cursor, "latest", content)
                if table.is_rolled or table == self._file.rolling:
                    tiers.mark(cursor, content)
        self._file.hot = hot
        self._file.hot_count += len(fresh)
        self._file.newest.advance(fresh)
        for table, content in corrections:
            self._file.newest.advance(content)
            if self._file.move and table in self._file.move.sources:
                self._file.move.corrections.append(content)

    # Reading

    def _reduce(self, series: Sequence[int], edges_ms: Int64s, into_buckets: str) -> Buckets:
        asked = buckets.distinct(series, edges_ms)
        edges = {"start_ms": edges_ms[:-1], "bucket": np.arange(len(edges_ms) - 1)}
        with self._file.snapshot() as (cursor, layout), registered(cursor, "edges", edges):
            rows, whole = _parts(cursor, layout, asked, edges_ms)
            found = cursor.execute(
                f"SELECT series, bucket, {whole} FROM ({into_buckets.format(rows=rows)}) GROUP BY series, bucket"
            ).fetchnumpy()
        return buckets.arrange(asked, edges_ms, **{name: np.ma.getdata(column) for name, column in found.items()})


_EXACT = (
    "count(*) AS count, min(value) AS lowest, max(value) AS highest, sum(value) AS total,"
    " arg_min(value, ts_ms) AS first, arg_max(value, ts_ms) AS last"
)


def _parts(cursor: duckdb.DuckDBPyConnection, layout: list[Table], asked: Int64s, edges_ms: Int64s) -> tuple[str, str]:
    """Return SQL for what buckets are made of, and for how they are made of it: readings, or parts from the tiers."""
    reaches = tiers.reaches(cursor, asked)
    hourly = tiers.is_hourly(cursor, asked, reaches, edges_ms)
    if hourly or any(reach.horizon.raw_ms > edges_ms[0] for reach in reaches):
        branches = [tiers.parts(layout, reach, edges_ms, hourly=hourly) for reach in reaches]
        return " UNION ALL ".join(branches), tiers.WHOLE
    chosen = f"value IS NOT NULL AND {tables.GOOD} AND series IN ({','.join(map(str, asked.tolist())) or 'NULL'})"
    return tables.union(layout, where=chosen, start_ms=int(edges_ms[0]), end_ms=int(edges_ms[-1])), _EXACT
