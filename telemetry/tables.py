"""The tables inside the embedded store's file: which exist, what they may hold, and when some become one.

For ``telemetry.duckdb`` alone. A *hot* table holds readings as they came, a *segment* holds them sorted by
series and time. The catalogue is a table too, so that a reader sees tables and content of one moment.
"""

# ruff: noqa: S608 - tables are named by number, and every value written into a query is an integer of ours

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from itertools import groupby
from typing import Any, Literal

import duckdb
import numpy as np
from numpy.typing import NDArray

from telemetry import slices
from telemetry.readings import Flag, Readings

FORMAT = 3
"""A file that states a higher one was written by a newer Fixwright."""

NAMES = "series, ts_ms, value, text, flags, sent"
COLUMNS = "series BIGINT, ts_ms BIGINT, value DOUBLE, text VARCHAR, flags UTINYINT"
SENT = "sent DOUBLE"
"""The number as it was sent. A column of nothing takes no room in a segment, but eight bytes a row in the log of a
hot table: that one gets it with the first reading that was converted."""
GOOD = f"(flags & {int(Flag.BAD)}) = 0"
"""SQL for the readings that are made into minutes, hours and buckets."""
_EVER_MS = 2**62


@dataclass(frozen=True, slots=True)
class Table:
    """One table of readings. Times and rows are bounds: nothing in it lies outside, though less may be inside."""

    number: int
    kind: Literal["hot", "segment"]
    rows: int
    first_ms: int
    last_ms: int
    is_rolled: bool = False
    """Whether the minutes and hours of a segment hold its readings; see ``telemetry.tiers``."""
    has_sent: bool = field(default=True, compare=False)
    """Whether it has the column ``sent``; it may get it any time."""

    @property
    def name(self) -> str:
        """Return the name in SQL."""
        return f"{self.kind}_{self.number}"

    @property
    def columns(self) -> str:
        """Return SQL for ``NAMES`` of its rows."""
        return NAMES if self.has_sent else NAMES.replace("sent", "NULL::DOUBLE AS sent")


def create(cursor: duckdb.DuckDBPyConnection) -> int:
    """Create the catalogue where there is none yet, and return the format of the file."""
    cursor.execute("CREATE TABLE IF NOT EXISTS format (number INTEGER)")
    cursor.execute("INSERT INTO format SELECT ? WHERE NOT EXISTS (FROM format)", [FORMAT])
    cursor.execute(
        "CREATE TABLE IF NOT EXISTS tables (number BIGINT, kind VARCHAR, rows BIGINT, first_ms BIGINT, last_ms BIGINT)"
    )
    cursor.execute(f"CREATE TABLE IF NOT EXISTS latest ({COLUMNS}, {SENT})")
    (number,) = cursor.execute("SELECT number FROM format").fetchall()[0]
    if number <= FORMAT:
        # Files of format 1 knew no tiers: their segments are rolled one after the other.
        cursor.execute("ALTER TABLE tables ADD COLUMN IF NOT EXISTS is_rolled BOOLEAN DEFAULT FALSE")
        # Those of format 2 converted nothing.
        cursor.execute(f"ALTER TABLE latest ADD COLUMN IF NOT EXISTS {SENT}")
        cursor.execute("ALTER TABLE tables ADD COLUMN IF NOT EXISTS has_sent BOOLEAN DEFAULT FALSE")
        cursor.execute(
            "UPDATE tables SET has_sent = TRUE WHERE NOT has_sent AND concat(kind, '_', number) IN"
            " (SELECT table_name FROM duckdb_columns() WHERE column_name = 'sent')"
        )
        cursor.execute("UPDATE format SET number = ?", [FORMAT])
    return int(number)


def listed(cursor: duckdb.DuckDBPyConnection) -> list[Table]:
    """Return the tables that count, oldest first; the last hot one takes what is written."""
    rows = cursor.execute(
        "SELECT number, kind, rows, first_ms, last_ms, is_rolled, has_sent FROM tables ORDER BY number"
    ).fetchall()
    return [Table(*row) for row in rows]


def drop_unlisted(cursor: duckdb.DuckDBPyConnection, others: Collection[str] = ()) -> None:
    """Drop copies that a kill left behind between sorting and swapping; their sources are still listed."""
    known = {table.name for table in listed(cursor)} | {"format", "tables", "latest", *others}
    for (name,) in cursor.execute("SELECT table_name FROM duckdb_tables()").fetchall():
        if name not in known:
            cursor.execute(f"DROP TABLE {name}")


def add_hot(cursor: duckdb.DuckDBPyConnection) -> Table:
    """Create and list an empty hot table."""
    hot = Table(_next_number(cursor), "hot", 0, -_EVER_MS, _EVER_MS, has_sent=False)
    cursor.execute(f"CREATE TABLE {hot.name} ({COLUMNS})")
    _list(cursor, hot)
    return hot


def with_sent(cursor: duckdb.DuckDBPyConnection, table: Table) -> Table:
    """Return a table with the column ``sent``, which it is given where it lacks it."""
    if table.has_sent:
        return table
    cursor.execute(f"ALTER TABLE {table.name} ADD COLUMN {SENT}")
    cursor.execute("UPDATE tables SET has_sent = TRUE WHERE number = ?", [table.number])
    return replaced(table, has_sent=True)


def sort(cursor: duckdb.DuckDBPyConnection, sources: Sequence[Table], *, slice_rows: int) -> Table:
    """Write the rows of some tables into a new segment, not listed yet, and return it."""
    return write(cursor, union(sources), is_rolled=all(table.is_rolled for table in sources), slice_rows=slice_rows)


def write(
    cursor: duckdb.DuckDBPyConnection, rows: str, *, is_sorted: bool = False, is_rolled: bool, slice_rows: int
) -> Table:
    """Write the rows of a query into a new segment, not listed yet, and return it.

    No more than about ``slice_rows`` of them are sorted at once, so that a segment may be larger than memory.
    """
    number = _next_number(cursor)
    name = Table(number, "segment", 0, 0, 0).name
    # A failed earlier attempt may have left a table of this number.
    cursor.execute(f"CREATE OR REPLACE TABLE {name} ({COLUMNS}, {SENT})")
    if is_sorted:
        # A table made of one segment keeps its order.
        cursor.execute(f"INSERT INTO {name} {rows}")
    else:
        for part in slices.of(cursor, rows, slice_rows):
            cursor.execute(f"INSERT INTO {name} SELECT * FROM ({rows}) WHERE {part} ORDER BY series, ts_ms")
    count, first_ms, last_ms = cursor.execute(f"SELECT count(*), min(ts_ms), max(ts_ms) FROM {name}").fetchall()[0]
    return Table(number, "segment", count, first_ms or 0, last_ms or 0, is_rolled)


def replace(cursor: duckdb.DuckDBPyConnection, sources: Sequence[Table], segment: Table) -> None:
    """List a segment in place of the tables it was sorted from, and drop those."""
    if segment.rows:
        _list(cursor, segment)
    else:
        cursor.execute(f"DROP TABLE {segment.name}")
    for table in sources:
        drop(cursor, table)


def drop(cursor: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Drop a table with all it holds."""
    cursor.execute("DELETE FROM tables WHERE number = ?", [table.number])
    cursor.execute(f"DROP TABLE {table.name}")


def mergeable(tables: Sequence[Table], *, fan_in: int, least_rows: int, most_rows: int) -> list[Table]:
    """Return ``fan_in`` segments of like size that follow each other in time and fit into one, or nothing.

    Sizes are compared by powers of ``fan_in`` above ``least_rows``, so that each row is rewritten a
    logarithmic number of times.
    """

    def tier(table: Table) -> int:
        size = 0
        while table.rows >= least_rows * fan_in ** (size + 1):
            size += 1
        return size

    segments = sorted((table for table in tables if table.kind == "segment"), key=lambda table: table.first_ms)
    for _, alike in groupby(sorted(segments, key=tier), key=tier):
        run = list(alike)[:fan_in]
        if len(run) == fan_in and sum(table.rows for table in run) <= most_rows:
            return run
    return []


def union(tables: Sequence[Table], *, where: str = "TRUE", start_ms: int = -_EVER_MS, end_ms: int = _EVER_MS) -> str:
    """Return SQL for the rows of all tables with start <= ts < end and a further condition.

    The condition stands inside every branch, so that the zone maps of each table are asked.
    """
    branches = [
        f"SELECT {table.columns} FROM {table.name} WHERE ts_ms >= {start_ms} AND ts_ms < {end_ms} AND {where}"
        for table in tables
        if table.first_ms < end_ms and table.last_ms >= start_ms
    ]
    return " UNION ALL ".join(branches) or f"SELECT {NAMES} FROM latest WHERE FALSE"


def columns(readings: Readings) -> dict[str, NDArray[Any]]:
    """Return a batch as DuckDB scans it from memory; NaN arrives there as NULL."""
    none = np.full(len(readings), None, np.object_)
    return {
        "series": readings.series,
        "ts_ms": readings.ts_ms,
        "value": readings.value,
        "text": none if readings.text is None else np.array(readings.text, np.object_),
        "flags": readings.flags,
        "sent": np.full(len(readings), np.nan) if readings.sent is None else readings.sent,
    }


def readings(found: dict[str, Any]) -> Readings:
    """Return a result with the columns of ``NAMES`` as readings; NULL becomes NaN or None."""
    text = found["text"]
    texts = np.ma.getmaskarray(text)
    sent = np.ma.filled(np.ma.asarray(found["sent"], np.float64), np.nan)
    return Readings(
        series=np.asarray(found["series"], np.int64),
        ts_ms=np.asarray(found["ts_ms"], np.int64),
        value=np.ma.filled(np.ma.asarray(found["value"], np.float64), np.nan),
        text=None if texts.all() else [None if none else str(entry) for entry, none in zip(text, texts, strict=True)],
        flags=np.asarray(found["flags"], np.uint8),
        sent=None if np.isnan(sent).all() else sent,
    )


def _list(cursor: duckdb.DuckDBPyConnection, table: Table) -> None:
    row = [table.number, table.kind, table.rows, table.first_ms, table.last_ms, table.is_rolled, table.has_sent]
    names = "number, kind, rows, first_ms, last_ms, is_rolled, has_sent"
    cursor.execute(f"INSERT INTO tables ({names}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def _next_number(cursor: duckdb.DuckDBPyConnection) -> int:
    (highest,) = cursor.execute("SELECT coalesce(max(number), 0) FROM tables").fetchall()[0]
    return int(highest) + 1
