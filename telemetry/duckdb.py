"""The embedded store: one DuckDB file, owned by one process, fast enough that ingest never waits for it.

Batches are appended to a *hot* table in the order they come. When that is full it is sealed and sorted by
series and time into a *segment*, beside the writes; eight segments merge into a larger one. A curve is then
a few neighbouring row groups of each segment whose time overlaps, and what has expired is mostly whole tables.
Minutes and hours outlive the exact readings (``telemetry.tiers``), and a range finds the right tier by itself.

No unique index stands in the way of a write. The newest time of every series is in memory: a row beyond it is
certainly new, and only the others (late or redelivered) are looked up. So every key is in the store once, always.

Durability: ``write`` returns after the commit is in the write-ahead log and the log is flushed to the disk; the
window in which an acknowledged reading can be lost is zero, also at a power cut if the disk keeps its word.
"""

# ruff: noqa: S608 - tables are named by number, and every value written into a query is an integer of ours

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np

from kernel.errors import Misconfigured, Unavailable
from telemetry import buckets, quality, tables, tiers
from telemetry.batch import Batch
from telemetry.newest import Newest
from telemetry.readings import Buckets, Int64s, Latest, Mask, Readings, Written
from telemetry.retention import Horizon, Policy
from telemetry.tables import Table
from telemetry.tiers import registered

HOT_ROWS = 2_000_000
FAN_IN = 8
SEGMENT_ROWS = 24_000_000
"""No merge makes a larger one: sorting this many rows takes seconds, which is what one bounded step may take.
Eight hot tables must fit though each is sealed a batch or two late, or nothing would ever merge."""

ROUNDS = 3
"""How often housekeeping looks again for what came late while it worked, before it forgets."""

# The log is written into the file after each compaction; this is the guard for a process that never compacts.
_CHECKPOINT_THRESHOLD = "512MB"

# Half the cores: broker, pages and the path itself need the others, and on two of them the hand-over of a batch
# between threads costs more than it brings. Writer, reader and compaction each bring a thread of their own besides.
_THREADS = max(1, (os.cpu_count() or 1) // 2)

_open_files: set[Path] = set()
_open_files_lock = threading.Lock()


@dataclass(slots=True)
class _Move:
    """Tables being sorted into a new one, and the corrections they took meanwhile."""

    sources: frozenset[Table]
    corrections: list[Readings] = field(default_factory=list)


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
        self, path: Path, *, hot_rows: int = HOT_ROWS, segment_rows: int = SEGMENT_ROWS, fan_in: int = FAN_IN
    ) -> None:
        self.path = path.resolve()
        self._hot_rows = hot_rows
        self._segment_rows = segment_rows
        self._fan_in = fan_in
        self._move: _Move | None = None
        self._rolling: Table | None = None
        # Always taken in this order. Writing is held for milliseconds, maintaining for a whole step.
        self._maintaining = threading.Lock()
        self._writing = threading.Lock()
        self._claim()
        try:
            self._open()
        except BaseException:
            self._release()
            raise

    def write(self, readings: Readings) -> Written:
        """Store a batch; see ``TelemetryStore.write``."""
        batch = Batch(readings)
        with self._writing, self._translated():
            self._mend()
            self._settle(batch)
        return batch.written()

    def latest(self, series: Sequence[int]) -> dict[int, Latest]:
        """Return the newest readings, from memory; see ``TelemetryStore.latest``."""
        return self._newest.latest(series)

    def newest(self, series: Int64s) -> Readings:
        """Return the newest readings as columns, from memory; see ``TelemetryStore.newest``."""
        return self._newest.readings(series)

    def samples(self, series: int, start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return readings of one series, oldest first; see ``TelemetryStore.samples``."""
        buckets.check_samples(start_ms, end_ms, limit)
        with self._snapshot() as (cursor, layout):
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
        with self._snapshot() as (cursor, layout):
            rows = tables.union(layout, where=chosen, start_ms=start_ms, end_ms=end_ms)
            (count,) = cursor.execute(f"SELECT count(*) FROM ({rows})").fetchall()[0]
            if count > limit:
                raise buckets.too_many(limit)
            return _select(cursor, f"SELECT * FROM ({rows}) ORDER BY series, ts_ms")

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
        with self._snapshot() as (cursor, layout):
            rows = tables.union(layout, where=chosen, start_ms=start_ms, end_ms=end_ms)
            return _select(cursor, f"SELECT * FROM ({rows}) ORDER BY series, ts_ms LIMIT {int(limit)}")

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
        """Do one step: sort a full hot table, merge segments, or build tiers; see ``TelemetryStore.compact``."""
        with self._maintaining, self._translated():
            sources, newest = self._next_move(full=self._hot_rows)
            if sources:
                self._sort(sources, newest)
                self._checkpoint(is_due=newest is not None)
                return True
            return self._roll_next() or self._mend_hours()

    def expire(self, before_ms: int) -> None:
        """Forget everything older than an instant, tiers too; see ``keep``."""
        self.keep(Policy(Horizon.everything(before_ms)))

    def keep(self, policy: Policy) -> None:
        """Forget what a policy allows; see ``TelemetryStore.keep``.

        A segment of which a part has expired is written anew without it, beside writes, as compaction does: to
        delete millions of rows would hold up writes for a second. What is not in the tiers yet gets there first.
        """
        with self._maintaining, self._translated():
            with self._writing, self._transaction() as cursor:
                # The newest reading of a silent device may expire with the hot table, and must outlive it.
                _keep_newest(cursor, "latest", self._newest.snapshot())
                tiers.adopt(cursor, policy)
            for table in self._roll_expired():
                self._cut(table)
            with contextlib.closing(self._db.cursor()) as cursor:
                tiers.forget(cursor)
            self._checkpoint()

    def close(self) -> None:
        """Write the log into the file and let go of it."""
        with self._maintaining, self._writing:
            self._writer.close()
            self._db.close()
            self._release()

    # Opening

    def _claim(self) -> None:
        with _open_files_lock:
            if self.path in _open_files:
                raise _in_use(self.path)
            _open_files.add(self.path)

    def _release(self) -> None:
        with _open_files_lock:
            _open_files.discard(self.path)

    def _open(self) -> None:
        self._db = _connect(self.path)
        self._writer = self._db.cursor()
        self._move = None
        self._rolling = None
        self._is_broken = False
        newest = Newest()
        with self._transaction() as cursor:
            if tables.create(cursor) > tables.FORMAT:
                raise Misconfigured("{path} was written by a newer version of Fixwright.", path=self.path)
            tiers.create(cursor)
            tables.drop_unlisted(cursor, tiers.OWN_TABLES)
            # What was newest when the last hot table was sorted stands in ``latest``; what came since is hot.
            newest.advance(_select(cursor, f"SELECT {tables.NAMES} FROM latest ORDER BY series"))
            hot = [table for table in tables.listed(cursor) if table.kind == "hot"]
            for table in hot:
                newest.advance(_newest_in(cursor, table))
            # More than one means that a kill interrupted a compaction: the others are sorted first.
            self._hot = hot[-1] if hot else tables.add_hot(cursor)
            (self._hot_count,) = cursor.execute(f"SELECT count(*) FROM {self._hot.name}").fetchall()[0]
        self._newest = newest

    def _mend(self) -> None:
        """Reopen the file after DuckDB gave up on it, as it does when the disk is full in the wrong moment."""
        if self._is_broken:
            with contextlib.suppress(duckdb.Error):
                self._writer.close()
            with contextlib.suppress(duckdb.Error):
                self._db.close()
            try:
                self._open()
            except Misconfigured as error:
                raise Unavailable(error.sentence, **error.values) from error

    # Writing

    def _settle(self, batch: Batch) -> None:
        final = batch.final
        late = np.flatnonzero(final.ts_ms <= self._newest.ts_ms(final.series))
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
        with registered(self._writer, "sought", keys):
            # Newest tables first: what is late is mostly a redelivery of what has just been written.
            for table in reversed(tables.listed(self._writer)):
                rows = tables.union([table], where=series, start_ms=bounds[0], end_ms=bounds[1])
                found = self._writer.execute(
                    f"SELECT key, {tables.NAMES} FROM ({rows}) JOIN sought USING (series, ts_ms)"
                ).fetchnumpy()
                if len(found["key"]):
                    yield table, np.asarray(found["key"], np.int64), tables.readings(found)
                    missing -= len(found["key"])
                if not missing:
                    return

    def _commit(self, fresh: Readings, corrections: list[tuple[Table, Readings]]) -> None:
        hot = self._hot
        with self._transaction() as cursor:
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
                _correct(cursor, changed.name, content, has_sent=changed.has_sent)
                _correct(cursor, "latest", content)
                if table.is_rolled or table == self._rolling:
                    tiers.mark(cursor, content)
        self._hot = hot
        self._hot_count += len(fresh)
        self._newest.advance(fresh)
        for table, content in corrections:
            self._newest.advance(content)
            if self._move and table in self._move.sources:
                self._move.corrections.append(content)

    # Compaction

    def _next_move(self, *, full: int) -> tuple[list[Table], Readings | None]:
        """Return the tables to sort next, and the newest readings when they contain hot ones.

        The hot table is sealed once it holds ``full`` rows.
        """
        with self._writing:
            layout = tables.listed(self._writer)
            hot = [table for table in layout if table.kind == "hot" and table != self._hot]
            if not hot and self._hot_count >= full:
                hot = [self._hot]
                with self._transaction() as cursor:
                    added = tables.add_hot(cursor)
                self._hot, self._hot_count = added, 0
            sources = hot[:1] or self._mergeable(layout)
            if sources:
                self._move = _Move(frozenset(sources))
            return sources, self._newest.snapshot() if hot else None

    def _mergeable(self, layout: list[Table]) -> list[Table]:
        """Return segments to merge; what is rolled stays apart from what is not."""
        for is_rolled in (False, True):
            alike = [table for table in layout if table.is_rolled == is_rolled]
            found = tables.mergeable(
                alike, fan_in=self._fan_in, least_rows=self._hot_rows, most_rows=self._segment_rows
            )
            if found:
                return found
        return []

    def _sort(self, sources: list[Table], newest: Readings | None) -> None:
        try:
            with contextlib.closing(self._db.cursor()) as cursor:
                segment = tables.sort(cursor, sources)
                if newest:
                    _keep_newest(cursor, "latest_next", newest)
            with self._writing:
                self._swap(sources, segment, newest)
        finally:
            self._move = None

    def _swap(self, sources: list[Table], segment: Table, newest: Readings | None) -> None:
        move = self._move
        with self._transaction() as cursor:
            tables.replace(cursor, sources, segment)
            if newest:
                cursor.execute("DROP TABLE latest")
                cursor.execute("ALTER TABLE latest_next RENAME TO latest")
            # The copy was sorted from an older moment; what was corrected since is corrected in it too.
            for content in move.corrections if move else ():
                _correct(cursor, segment.name, content)
                _correct(cursor, "latest", content)
        self._move = None

    # Tiers and forgetting

    def _roll_next(self) -> bool:
        """Roll a segment that has grown; smaller ones wait, so that what comes late makes no buckets of its own."""
        with self._snapshot() as (_, layout):
            grown = self._hot_rows * self._fan_in
            due = [table for table in layout if table.kind == "segment" and not table.is_rolled and table.rows >= grown]
        if due:
            self._roll(due[0])
        return bool(due)

    def _roll(self, table: Table) -> None:
        with self._writing:
            self._rolling = table  # whoever corrects it from now on marks the hour
        try:
            with contextlib.closing(self._db.cursor()) as cursor:
                cursor.begin()
                tiers.roll(cursor, table)
                cursor.commit()
        finally:
            with self._writing:
                self._rolling = None

    def _mend_hours(self) -> bool:
        with self._writing:
            if not tiers.has_dirty(self._writer):
                return False
            with self._transaction() as cursor:
                tiers.mend(cursor, tables.listed(cursor))
        return True

    def _roll_expired(self) -> list[Table]:
        """Roll whatever holds something to forget, raise the horizons, and return the segments concerned.

        What came so late that it can be forgotten at once is sorted and rolled first, too. Of what comes during
        the last step that is seen and done again, a few times: then it counts as too late for the tiers.
        """
        for _ in range(ROUNDS):
            self._seal_expired()
            with self._snapshot() as (cursor, layout):
                exact_from = tiers.kept_from_ms(cursor)
            due = [table for table in layout if table.kind == "segment" and table.first_ms < exact_from]
            for table in due:
                if not table.is_rolled and self._has_expired(table):
                    self._roll(table)
            while self._mend_hours():
                pass
            with self._writing, self._transaction() as cursor:
                if not any(tiers.kept(cursor, table)[0] for table in tables.listed(cursor) if table.kind == "hot"):
                    _settle(cursor)
                    break
        else:
            with self._writing, self._transaction() as cursor:
                _settle(cursor)
        with self._snapshot() as (_, layout):
            return [table for table in layout if table.kind == "segment" and table.first_ms < exact_from]

    def _has_expired(self, table: Table) -> bool:
        with self._snapshot() as (cursor, _):
            return tiers.kept(cursor, table)[0] > 0

    def _seal_expired(self) -> None:
        """Sort hot tables that hold something to forget."""
        while True:
            with self._snapshot() as (_, layout):
                hot = [table for table in layout if table.kind == "hot"]
            if not any(self._has_expired(table) for table in hot):
                return
            sources, newest = self._next_move(full=1)
            self._sort(sources, newest)

    def _cut(self, table: Table) -> None:
        """Write a segment anew without what may be forgotten, if there is any."""
        with self._snapshot() as (cursor, _):
            gone, rows, is_sorted = tiers.kept(cursor, table)
        if not gone or not table.is_rolled:
            return
        with self._writing:
            self._move = _Move(frozenset([table]))
        try:
            with contextlib.closing(self._db.cursor()) as cursor:
                segment = tables.write(cursor, rows, is_sorted=is_sorted, is_rolled=True)
            with self._writing:
                self._swap([table], segment, None)
        finally:
            self._move = None

    def _checkpoint(self, *, is_due: bool = False) -> None:
        """Write the log into the file, unless that can wait.

        Writes wait meanwhile, as long as it takes to pack what is hot. Just after the hot table was exchanged that is
        little; at other times it is left to the next exchange if much has come since the last one.
        """
        if not is_due and self._hot_count > self._hot_rows // 8:
            return
        with self._writing, contextlib.suppress(duckdb.TransactionException):
            # Refused while a reader holds an old moment open; the log then waits for the next time.
            self._writer.execute("CHECKPOINT")

    # Reading

    def _reduce(self, series: Sequence[int], edges_ms: Int64s, into_buckets: str) -> Buckets:
        asked = buckets.distinct(series, edges_ms)
        edges = {"start_ms": edges_ms[:-1], "bucket": np.arange(len(edges_ms) - 1)}
        with self._snapshot() as (cursor, layout), registered(cursor, "edges", edges):
            rows, whole = _parts(cursor, layout, asked, edges_ms)
            found = cursor.execute(
                f"SELECT series, bucket, {whole} FROM ({into_buckets.format(rows=rows)}) GROUP BY series, bucket"
            ).fetchnumpy()
        return buckets.arrange(asked, edges_ms, **{name: np.ma.getdata(column) for name, column in found.items()})

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[Table]]]:
        """Give a cursor on one moment of the store, and the tables of that moment."""
        with self._translated(), contextlib.closing(self._db.cursor()) as cursor:
            cursor.begin()
            yield cursor, tables.listed(cursor)
            cursor.rollback()

    # Edges to DuckDB

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        self._writer.begin()
        try:
            yield self._writer
        except BaseException:
            with contextlib.suppress(duckdb.Error):
                self._writer.rollback()
            raise
        self._writer.commit()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            if isinstance(error, (duckdb.FatalException, duckdb.InternalException)):
                self._is_broken = True
            raise Unavailable("The telemetry store failed: {reason}", reason=str(error)) from error


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


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return duckdb.connect(str(path), config={"checkpoint_threshold": _CHECKPOINT_THRESHOLD, "threads": _THREADS})
    except duckdb.Error as error:
        if "lock" in str(error):
            raise _in_use(path) from error
        raise Misconfigured("{path} cannot be opened: {reason}", path=path, reason=str(error)) from error


def _in_use(path: Path) -> Misconfigured:
    return Misconfigured(
        "{path} is open in another process, and only one may hold it. Stop that one, or set"
        " FIXWRIGHT_TELEMETRY_URL to a telemetry server that several processes can share.",
        path=path,
    )


def _settle(cursor: duckdb.DuckDBPyConnection) -> None:
    """Let the tiers answer for what may be forgotten, once they hold every correction of it."""
    while tiers.has_dirty(cursor):
        tiers.mend(cursor, tables.listed(cursor))
    tiers.settle(cursor)


def _select(cursor: duckdb.DuckDBPyConnection, query: str) -> Readings:
    return tables.readings(cursor.execute(query).fetchnumpy())


def _newest_in(cursor: duckdb.DuckDBPyConnection, table: Table) -> Readings:
    newest = f"SELECT series, max(ts_ms) AS ts_ms FROM {table.name} GROUP BY series"
    return _select(
        cursor, f"SELECT {table.columns} FROM {table.name} JOIN ({newest}) USING (series, ts_ms) ORDER BY series"
    )


def _keep_newest(cursor: duckdb.DuckDBPyConnection, table: str, newest: Readings) -> None:
    with registered(cursor, "newest", tables.columns(newest)):
        cursor.execute(f"CREATE OR REPLACE TABLE {table} ({tables.COLUMNS}, {tables.SENT})")
        cursor.execute(f"INSERT INTO {table} SELECT {tables.NAMES} FROM newest")


def _correct(cursor: duckdb.DuckDBPyConnection, table: str, content: Readings, *, has_sent: bool = True) -> None:
    with registered(cursor, "corrected", tables.columns(content)):
        cursor.execute(
            f"UPDATE {table} SET value = corrected.value, text = corrected.text, flags = corrected.flags"
            f"{', sent = corrected.sent' if has_sent else ''}"
            f" FROM corrected WHERE {table}.series = corrected.series AND {table}.ts_ms = corrected.ts_ms"
        )
