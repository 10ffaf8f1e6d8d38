"""Minutes and hours inside the embedded store's file: how exact readings become buckets, and what stands for them.

For ``telemetry.duckdb`` alone. Each segment is *rolled* once: its readings are added to the tables ``minute`` and
``hour`` in the transaction that marks it, so a kill rolls it again or not at all. A bucket may consist of several
rows, from several segments: count, sum, least, greatest, first and last add up whoever reads them. So late data
needs no care. A correction inside a rolled segment marks its hour as *dirty*, and housekeeping works that hour out
anew from what is exact.

Until when each series is exact, and until when it has minutes, stands in ``horizon`` (``series`` -1 is everybody
not listed): below, a coarser tier answers. That only ever rises; ``forget_ms`` is what the policy says now.
"""

# ruff: noqa: S608 - tables are named by number, and every value written into a query is an integer of ours

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from telemetry import slices, tables
from telemetry.readings import Int64s, Readings
from telemetry.retention import HOUR_MS, MINUTE_MS, Horizon, Policy
from telemetry.tables import Table

WIDTHS: Final = {"minute": MINUTE_MS, "hour": HOUR_MS}
OWN_TABLES: Final = frozenset({"minute", "hour", "horizon", "cited", "dirty"})
DIRTY_AT_ONCE: Final = 500
"""Hours worked out anew in one step; writes wait meanwhile."""

_COLUMNS: Final = (
    "series BIGINT, ts_ms BIGINT, count BIGINT, lowest DOUBLE, highest DOUBLE, total DOUBLE,"
    " first_ms BIGINT, first DOUBLE, last_ms BIGINT, last DOUBLE"
)
_PARTS: Final = (
    "count(*) AS count, min(value) AS lowest, max(value) AS highest, sum(value) AS total, min(ts_ms) AS first_ms,"
    " arg_min(value, ts_ms) AS first, max(ts_ms) AS last_ms, arg_max(value, ts_ms) AS last"
)
_EVERYBODY: Final = -1


def create(cursor: duckdb.DuckDBPyConnection) -> None:
    """Create what the tiers need where it is missing."""
    for tier in WIDTHS:
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {tier} ({_COLUMNS})")
    cursor.execute(
        "CREATE TABLE IF NOT EXISTS horizon"
        " (series BIGINT, raw_ms BIGINT, minute_ms BIGINT, hour_ms BIGINT, has_minutes BOOLEAN, forget_ms BIGINT)"
    )
    cursor.execute(
        f"INSERT INTO horizon SELECT {_EVERYBODY}, 0, 0, 0, TRUE, 0 WHERE NOT EXISTS (FROM horizon WHERE series < 0)"
    )
    cursor.execute("CREATE TABLE IF NOT EXISTS cited (series BIGINT, from_ms BIGINT, to_ms BIGINT)")
    cursor.execute("CREATE TABLE IF NOT EXISTS dirty (series BIGINT, hour_ms BIGINT)")


# Building ----------------------------------------------------------------------------------------------------------


def roll(cursor: duckdb.DuckDBPyConnection, table: Table, *, slice_rows: int) -> None:
    """Add a segment's readings to the tiers and mark it, in the transaction of the caller.

    No more than about ``slice_rows`` of them are at work at once. Below the horizon of its series a bucket that
    exists already stays as it is: nobody can tell any more whether a reading that comes so late is in it.
    """
    latest_ms = cursor.execute("SELECT max(raw_ms) FROM horizon").fetchall()[0][0]
    parts = list(slices.of(cursor, f"FROM {table.name}", slice_rows, unit_ms=HOUR_MS))
    for (tier, width), part in product(WIDTHS.items(), parts):
        fresh = (
            f"SELECT series, ts_ms // {width} * {width} AS ts_ms, {_PARTS.replace('ts_ms', 'rows.ts_ms')}"
            f" FROM {table.name} rows WHERE {part} AND value IS NOT NULL AND {tables.GOOD}{_with_minutes(tier)}"
            " GROUP BY ALL"
        )
        if table.first_ms < latest_ms:
            fresh = (
                f"SELECT fresh.* FROM ({fresh}) fresh {_horizons('fresh')} WHERE fresh.ts_ms >= {_value('raw_ms')}"
                f" OR NOT EXISTS (FROM {tier} old WHERE old.series = fresh.series AND old.ts_ms = fresh.ts_ms)"
            )
        cursor.execute(f"INSERT INTO {tier} SELECT * FROM ({fresh}) ORDER BY series, ts_ms")
    cursor.execute("UPDATE tables SET is_rolled = TRUE WHERE number = ?", [table.number])


def mark(cursor: duckdb.DuckDBPyConnection, content: Readings) -> None:
    """Note the hours in which rolled readings were corrected."""
    hours = np.unique(np.stack([content.series, content.ts_ms // HOUR_MS * HOUR_MS], axis=1), axis=0)
    with registered(cursor, "marked", {"series": hours[:, 0].copy(), "hour_ms": hours[:, 1].copy()}):
        cursor.execute("INSERT INTO dirty SELECT series, hour_ms FROM marked")


def has_dirty(cursor: duckdb.DuckDBPyConnection) -> bool:
    """Return whether hours are to be worked out anew."""
    return bool(cursor.execute("SELECT count(*) FROM (FROM dirty LIMIT 1)").fetchall()[0][0])


def mend(cursor: duckdb.DuckDBPyConnection, layout: Sequence[Table]) -> None:
    """Work some dirty hours out anew, in the transaction of the caller; an hour no longer exact stays as it is."""
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE mending AS SELECT DISTINCT series, hour_ms FROM dirty"
        f" ORDER BY ALL LIMIT {DIRTY_AT_ONCE}"
    )
    cursor.execute("DELETE FROM dirty USING mending m WHERE dirty.series = m.series AND dirty.hour_ms = m.hour_ms")
    cursor.execute(
        f"DELETE FROM mending WHERE hour_ms < (SELECT coalesce("
        f"(SELECT raw_ms FROM horizon h WHERE h.series = mending.series), {_default('raw_ms')}))"
    )
    bounds = cursor.execute("SELECT min(series), max(series), min(hour_ms), max(hour_ms) FROM mending").fetchall()[0]
    if bounds[0] is not None:
        rows = tables.union(
            [table for table in layout if table.is_rolled],
            where=f"value IS NOT NULL AND {tables.GOOD} AND series BETWEEN {bounds[0]} AND {bounds[1]}",
            start_ms=bounds[2],
            end_ms=bounds[3] + HOUR_MS,
        )
        exact = (
            f"SELECT r.* FROM ({rows}) r SEMI JOIN mending m"
            f" ON m.series = r.series AND m.hour_ms = r.ts_ms // {HOUR_MS} * {HOUR_MS}"
        )
        for tier, width in WIDTHS.items():
            cursor.execute(
                f"DELETE FROM {tier} USING mending m WHERE {tier}.series = m.series"
                f" AND {tier}.ts_ms >= m.hour_ms AND {tier}.ts_ms < m.hour_ms + {HOUR_MS}"
            )
            cursor.execute(
                f"INSERT INTO {tier} SELECT series, ts_ms // {width} * {width} AS ts_ms,"
                f" {_PARTS.replace('ts_ms', 'rows.ts_ms')} FROM ({exact}) rows WHERE TRUE{_with_minutes(tier)}"
                " GROUP BY ALL ORDER BY series, ts_ms"
            )
    cursor.execute("DROP TABLE mending")


# Forgetting --------------------------------------------------------------------------------------------------------


def adopt(cursor: duckdb.DuckDBPyConnection, policy: Policy) -> None:
    """Take over what a policy says; ``settle`` raises the exact horizon once all that it covers is rolled.

    Horizons only ever rise, so what a series has lost stays known when it is kept longer.
    """
    series = [np.full(len(numbers), row) for row, numbers in enumerate(policy.own.values())]
    own = list(policy.own)
    which = np.concatenate([np.empty(0, np.int64), *series]).astype(np.int64)
    columns = {
        "series": np.concatenate([np.empty(0, np.int64), *policy.own.values()]).astype(np.int64),
        "raw_ms": np.array([horizon.raw_ms for horizon in own], np.int64)[which] if own else which,
        "minute_ms": np.array([horizon.minute_ms for horizon in own], np.int64)[which] if own else which,
        "hour_ms": np.array([horizon.hour_ms for horizon in own], np.int64)[which] if own else which,
        "has_minutes": np.array([horizon.has_minutes for horizon in own], np.bool_)[which] if own else which > 0,
        "forget_ms": np.array([horizon.raw_ms for horizon in own], np.int64)[which] if own else which,
    }
    default = policy.default
    with registered(cursor, "wanted", columns):
        cursor.execute("CREATE OR REPLACE TEMP TABLE before AS FROM horizon")
        was = "(FROM before WHERE series = -1)"
        told = (
            f"{default.raw_ms} AS raw_ms, {default.minute_ms} AS minute_ms, {default.hour_ms} AS hour_ms,"
            f" {default.has_minutes} AS has_minutes, {default.raw_ms} AS forget_ms"
        )
        cursor.execute("DELETE FROM horizon")
        cursor.execute(
            "INSERT INTO horizon SELECT n.series,"
            " coalesce(o.raw_ms, e.raw_ms),"
            " greatest(n.minute_ms, coalesce(o.minute_ms, e.minute_ms),"
            # Who begins to have minutes has them of what is rolled from now on.
            " CASE WHEN n.has_minutes AND NOT coalesce(o.has_minutes, e.has_minutes)"
            " THEN (SELECT coalesce(max(last_ms) + 1, 0) FROM tables WHERE is_rolled) ELSE 0 END),"
            " greatest(n.hour_ms, coalesce(o.hour_ms, e.hour_ms)), n.has_minutes, n.forget_ms"
            f" FROM (FROM wanted UNION ALL SELECT series, {told} FROM before"
            " WHERE series NOT IN (SELECT series FROM wanted)) n"
            f" LEFT JOIN before o USING (series) CROSS JOIN {was} e"
        )
        # Who is like everybody again needs no row.
        cursor.execute(
            "DELETE FROM horizon USING (FROM horizon WHERE series = -1) e WHERE horizon.series >= 0"
            " AND horizon.raw_ms = e.raw_ms AND horizon.minute_ms = e.minute_ms AND horizon.hour_ms = e.hour_ms"
            " AND horizon.has_minutes = e.has_minutes AND horizon.forget_ms = e.forget_ms"
        )
        cursor.execute("DROP TABLE before")
    cited = {"series": policy.cited.series, "from_ms": policy.cited.from_ms, "to_ms": policy.cited.to_ms}
    cursor.execute("DELETE FROM cited")
    with registered(cursor, "quoted", cited):
        cursor.execute("INSERT INTO cited SELECT series, from_ms, to_ms FROM quoted")


def settle(cursor: duckdb.DuckDBPyConnection) -> None:
    """Raise the exact horizons to what may be forgotten: from now on the tiers answer for what lies below."""
    cursor.execute("UPDATE horizon SET raw_ms = forget_ms WHERE raw_ms < forget_ms")


def kept_from_ms(cursor: duckdb.DuckDBPyConnection) -> int:
    """Return the instant from which on nothing may be forgotten."""
    return int(cursor.execute("SELECT max(forget_ms) FROM horizon").fetchall()[0][0])


def kept(cursor: duckdb.DuckDBPyConnection, table: Table) -> tuple[int, str, bool]:
    """Return how many readings of a table may be forgotten, SQL for those that stay, and whether they keep its order.

    Where every series has one horizon and nothing is cited it is a bound on time, and the order outlives it.
    """
    (special,) = cursor.execute(
        "SELECT (SELECT count(*) FROM horizon) - 1 + (SELECT count(*) FROM cited WHERE from_ms <= ? AND to_ms > ?)",
        [table.last_ms, table.first_ms],
    ).fetchall()[0]
    (before_ms,) = cursor.execute(f"SELECT {_default('forget_ms')}").fetchall()[0]
    rows = f"SELECT {table.columns} FROM {table.name} WHERE ts_ms >= {before_ms}"
    if special:
        split = (
            f"SELECT rows.* FROM {table.name} rows {_horizons('rows')}"
            f" WHERE rows.ts_ms {{side}} coalesce(h.forget_ms, {before_ms})"
        )
        rows = (
            f"SELECT {table.columns} FROM ({split.format(side='>=')}) UNION ALL"
            f" SELECT {table.columns} FROM ({split.format(side='<')}) old SEMI JOIN cited c"
            " ON c.series = old.series AND c.from_ms <= old.ts_ms AND c.to_ms > old.ts_ms"
        )
    (gone,) = cursor.execute(
        f"SELECT (SELECT count(*) FROM {table.name}) - (SELECT count(*) FROM ({rows}))"
    ).fetchall()[0]
    return int(gone), rows, not special


def forget(cursor: duckdb.DuckDBPyConnection) -> None:
    """Drop minutes and hours past their own horizons; a bucket goes when all of it has."""
    for tier, width in WIDTHS.items():
        cursor.execute(
            f"DELETE FROM {tier} WHERE ts_ms + {width} <= coalesce("
            f"(SELECT {tier}_ms FROM horizon h WHERE h.series = {tier}.series), {_default(f'{tier}_ms')})"
        )


# Answering ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reach:
    """Some series, and from when on they are exact and have minutes."""

    series: tuple[int, ...]
    horizon: Horizon


def reaches(cursor: duckdb.DuckDBPyConnection, asked: Int64s) -> list[Reach]:
    """Return the series asked for by their horizons: almost always one group."""
    rows = cursor.execute(
        "SELECT series, raw_ms, minute_ms, hour_ms, has_minutes FROM horizon"
        f" WHERE series IN ({','.join(map(str, [_EVERYBODY, *asked.tolist()]))})"
    ).fetchall()
    by_series = {row[0]: Horizon(*row[1:]) for row in rows}
    groups: dict[Horizon, list[int]] = {}
    for number in asked.tolist():
        groups.setdefault(by_series.get(number, by_series[_EVERYBODY]), []).append(number)
    return [Reach(tuple(numbers), horizon) for horizon, numbers in groups.items()]


def is_hourly(cursor: duckdb.DuckDBPyConnection, asked: Int64s, found: Sequence[Reach], edges_ms: Int64s) -> bool:
    """Return whether whole hours answer a question exactly: edges and horizons are full hours and none is dirty."""
    if len(asked) == 0 or (edges_ms % HOUR_MS != 0).any():
        return False
    if any(reach.horizon.raw_ms % HOUR_MS for reach in found):
        return False
    numbers = ",".join(map(str, asked.tolist()))
    dirty = cursor.execute(
        f"SELECT count(*) FROM dirty WHERE series IN ({numbers}) AND hour_ms >= ? AND hour_ms < ?",
        [int(edges_ms[0]), int(edges_ms[-1])],
    ).fetchall()
    return int(dirty[0][0]) == 0


def parts(layout: Sequence[Table], reach: Reach, edges_ms: Int64s, *, hourly: bool) -> str:
    """Return SQL for the buckets, exact readings among them as buckets of one, that make up some series over edges.

    What is not rolled yet always speaks for itself; what is rolled does so only from its horizon on.
    """
    start_ms, end_ms = int(edges_ms[0]), int(edges_ms[-1])
    chosen = f"series IN ({','.join(map(str, reach.series))})"
    horizon = reach.horizon
    minutes_end = _up(horizon.raw_ms, MINUTE_MS if horizon.has_minutes else HOUR_MS)
    hours_end = _up(min(horizon.minute_ms, horizon.raw_ms), HOUR_MS)
    if hourly:
        hours_end = minutes_end = end_ms
    elif horizon.hour_ms >= horizon.raw_ms:
        hours_end = minutes_end = 0  # nothing coarser outlives what is exact, which then speaks for itself
    exact_from = max(minutes_end, hours_end)
    exact = [
        tables.union([t for t in layout if not t.is_rolled], where=chosen, start_ms=start_ms, end_ms=end_ms),
        tables.union(
            [t for t in layout if t.is_rolled], where=chosen, start_ms=max(start_ms, exact_from), end_ms=end_ms
        ),
    ]
    single = (
        "SELECT series, ts_ms, 1 AS count, value AS lowest, value AS highest, value AS total, ts_ms AS first_ms,"
        " value AS first, ts_ms AS last_ms, value AS last FROM ({rows}) WHERE value IS NOT NULL AND " + tables.GOOD
    )
    branches = [single.format(rows=rows) for rows in exact]
    for tier, begin, end in (("hour", horizon.hour_ms, hours_end), ("minute", hours_end, minutes_end)):
        begin, end = max(begin, start_ms), min(end, end_ms)  # noqa: PLW2901 - cut to the question
        if begin < end:
            branches.append(f"FROM {tier} WHERE ts_ms >= {begin} AND ts_ms < {end} AND {chosen}")
    return " UNION ALL ".join(branches)


WHOLE: Final = (
    "sum(count)::BIGINT AS count, min(lowest) AS lowest, max(highest) AS highest, sum(total) AS total,"
    " arg_min(first, first_ms) AS first, arg_max(last, last_ms) AS last"
)
"""SQL that puts the parts of a bucket together."""


def _up(ms: int, width: int) -> int:
    return -(-ms // width) * width


def _default(column: str) -> str:
    return f"(SELECT {column} FROM horizon WHERE series = {_EVERYBODY})"


def _horizons(rows: str) -> str:
    return f"LEFT JOIN horizon h ON h.series = {rows}.series"


def _value(column: str) -> str:
    return f"coalesce(h.{column}, {_default(column)})"


def _with_minutes(tier: str) -> str:
    if tier != "minute":
        return ""
    return f" AND coalesce((SELECT has_minutes FROM horizon h WHERE h.series = rows.series), {_default('has_minutes')})"


@contextlib.contextmanager
def registered(cursor: duckdb.DuckDBPyConnection, name: str, columns: dict[str, NDArray[Any]]) -> Iterator[None]:
    """Let a query see columns from memory under a name."""
    cursor.register(name, columns)
    try:
        yield
    finally:
        cursor.unregister(name)
