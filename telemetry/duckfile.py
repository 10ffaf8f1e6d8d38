"""One DuckDB file, open in one process: its connections, moments and transactions, and what is known of its tables.

For the store, which writes and reads, and its upkeep, which sorts and forgets. Both take the locks in the same order:
*maintaining*, held for a whole step, before *writing*, held for milliseconds.
"""

# ruff: noqa: S608 - tables are named by number, and every value written into a query is an integer of ours

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from kernel.errors import Misconfigured, Unavailable
from telemetry import tables, tiers
from telemetry.newest import Newest
from telemetry.readings import Readings
from telemetry.tables import Table
from telemetry.tiers import registered

# The log is written into the file after each compaction; this is the guard for a process that never compacts.
_CHECKPOINT_THRESHOLD = "512MB"

# Half the cores: broker, pages and the path itself need the others, and on two of them the hand-over of a batch
# between threads costs more than it brings. Writer, reader and compaction each bring a thread of their own besides.
_THREADS = max(1, (os.cpu_count() or 1) // 2)

_open_files: set[Path] = set()
_open_files_lock = threading.Lock()


@dataclass(slots=True)
class Move:
    """Tables being sorted into a new one, and the corrections they took meanwhile."""

    sources: frozenset[Table]
    corrections: list[Readings] = field(default_factory=list)


class DuckFile:
    """An open file. ``hot`` is the table that batches are appended to, ``hot_count`` how many rows it has.

    Raises:
        kernel.errors.Misconfigured: the file is open in another process or already in this one, was written
            by a newer version, or is no DuckDB file.
    """

    def __init__(self, path: Path, *, memory_mb: int) -> None:
        self.path = path.resolve()
        self._memory_mb = memory_mb
        self.move: Move | None = None
        self.rolling: Table | None = None
        """A table whose buckets are being built: whoever corrects it meanwhile marks the hour."""
        self.maintaining = threading.Lock()
        self.writing = threading.Lock()
        self._claim()
        try:
            self._open()
        except BaseException:
            self._release()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self.writer.close()
        self._db.close()
        self._release()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return another connection to the file; whoever takes it closes it."""
        return self._db.cursor()

    def mend(self) -> None:
        """Reopen the file after DuckDB gave up on it, as it does when the disk is full in the wrong moment."""
        if self.is_broken:
            with contextlib.suppress(duckdb.Error):
                self.writer.close()
            with contextlib.suppress(duckdb.Error):
                self._db.close()
            try:
                self._open()
            except Misconfigured as error:
                raise Unavailable(error.sentence, **error.values) from error

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[Table]]]:
        """Give a cursor on one moment of the store, and the tables of that moment."""
        with self.translated(), contextlib.closing(self._db.cursor()) as cursor:
            cursor.begin()
            yield cursor, tables.listed(cursor)
            cursor.rollback()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a transaction of the writer, to be held under *writing*."""
        self.writer.begin()
        try:
            yield self.writer
            self.writer.commit()
        except BaseException:
            # A commit that fails, as for want of memory, may leave the writer in a transaction that takes nothing.
            with contextlib.suppress(duckdb.Error):
                self.writer.rollback()
            raise

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Say what fails in DuckDB as ``Unavailable``."""
        try:
            yield
        except duckdb.Error as error:
            if isinstance(error, (duckdb.FatalException, duckdb.InternalException)):
                self.is_broken = True
            raise Unavailable("The telemetry store failed: {reason}", reason=str(error)) from error

    def _claim(self) -> None:
        with _open_files_lock:
            if self.path in _open_files:
                raise _in_use(self.path)
            _open_files.add(self.path)

    def _release(self) -> None:
        with _open_files_lock:
            _open_files.discard(self.path)

    def _open(self) -> None:
        self._db = _connect(self.path, self._memory_mb)
        self.writer = self._db.cursor()
        self.move = None
        self.rolling = None
        self.is_broken = False
        newest = Newest()
        with self.transaction() as cursor:
            if tables.create(cursor) > tables.FORMAT:
                raise Misconfigured("{path} was written by a newer version of Fixwright.", path=self.path)
            tiers.create(cursor)
            tables.drop_unlisted(cursor, tiers.OWN_TABLES)
            # What was newest when the last hot table was sorted stands in ``latest``; what came since is hot.
            newest.advance(select(cursor, f"SELECT {tables.NAMES} FROM latest ORDER BY series"))
            hot = [table for table in tables.listed(cursor) if table.kind == "hot"]
            for table in hot:
                newest.advance(_newest_in(cursor, table))
            # More than one means that a kill interrupted a compaction: the others are sorted first.
            self.hot = hot[-1] if hot else tables.add_hot(cursor)
            (self.hot_count,) = cursor.execute(f"SELECT count(*) FROM {self.hot.name}").fetchall()[0]
        self.newest = newest


def _connect(path: Path, memory_mb: int) -> duckdb.DuckDBPyConnection:
    path.parent.mkdir(parents=True, exist_ok=True)
    config: dict[str, str | bool | int | float | list[str]] = {
        "checkpoint_threshold": _CHECKPOINT_THRESHOLD,
        "threads": _THREADS,
        "memory_limit": f"{memory_mb}MiB",
    }
    try:
        return duckdb.connect(str(path), config=config)
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


def select(cursor: duckdb.DuckDBPyConnection, query: str) -> Readings:
    """Return what a query finds as readings."""
    return tables.readings(cursor.execute(query).fetchnumpy())


def _newest_in(cursor: duckdb.DuckDBPyConnection, table: Table) -> Readings:
    newest = f"SELECT series, max(ts_ms) AS ts_ms FROM {table.name} GROUP BY series"
    return select(
        cursor, f"SELECT {table.columns} FROM {table.name} JOIN ({newest}) USING (series, ts_ms) ORDER BY series"
    )


def keep_newest(cursor: duckdb.DuckDBPyConnection, table: str, newest: Readings) -> None:
    """Write the newest readings of all series into a table of their own."""
    with registered(cursor, "newest", tables.columns(newest)):
        cursor.execute(f"CREATE OR REPLACE TABLE {table} ({tables.COLUMNS}, {tables.SENT})")
        cursor.execute(f"INSERT INTO {table} SELECT {tables.NAMES} FROM newest")


def correct(cursor: duckdb.DuckDBPyConnection, table: str, content: Readings, *, has_sent: bool = True) -> None:
    """Overwrite the readings of a table that have the keys of others."""
    with registered(cursor, "corrected", tables.columns(content)):
        cursor.execute(
            f"UPDATE {table} SET value = corrected.value, text = corrected.text, flags = corrected.flags"
            f"{', sent = corrected.sent' if has_sent else ''}"
            f" FROM corrected WHERE {table}.series = corrected.series AND {table}.ts_ms = corrected.ts_ms"
        )
