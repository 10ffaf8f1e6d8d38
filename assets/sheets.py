"""Readings as files that other programs open: CSV, XLSX and Parquet, whatever their number.

Columns are gathered in a DuckDB file of their own beside the result, which then writes the file: so ten million
readings take bounded memory, from whichever store they come. A text that a spreadsheet would take for a formula
is written as text: behind an apostrophe in CSV, as a cell of type text in XLSX. In Parquet it stays as it is.
"""

# ruff: noqa: S608 - columns and formats are ours; a path is quoted

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
import numpy as np
from numpy.typing import NDArray
from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell

Format = Literal["csv", "xlsx", "parquet"]
MOST_CELL_ROWS: Final = 1_048_575
"""Rows below the heading that one sheet of a workbook holds."""
_AT_ONCE: Final = 20_000
_MEMORY: Final = "256MB"
_FORMULA: Final = "^[=+@\\t\\r-]"

LABELS: Final = ("asset", "asset_name", "metric", "unit")
"""Of each block of rows the same; given with its name."""
RAW: Final = {
    "value": "DOUBLE",
    "text": "VARCHAR",
    "quality": "VARCHAR",
    "reason": "VARCHAR",
    "original": "DOUBLE",
    "original_unit": "VARCHAR",
}
BUCKETS: Final = {
    "end": "TIMESTAMP",
    "count": "BIGINT",
    **dict.fromkeys(("min", "max", "mean", "sum", "first", "last"), "DOUBLE"),
}
Columns = dict[str, NDArray[Any]]


class Gathering:
    """The rows of one file while they are gathered: a block a metric of an asset and stretch of time.

    ``columns`` are ``RAW`` or ``BUCKETS``; every row has ``time`` as wall clock of the zone in milliseconds, and
    ``offset`` as that clock's distance from UTC in minutes.
    """

    def __init__(self, folder: Path, columns: dict[str, str]) -> None:
        self.rows = 0
        self._path = folder / "gathering.duckdb"
        self._path.unlink(missing_ok=True)
        self._db = duckdb.connect(str(self._path), config={"memory_limit": _MEMORY, "threads": 1})
        self._columns = columns
        listed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        labels = ", ".join(f"{name} VARCHAR" for name in LABELS)
        self._db.execute(f"CREATE TABLE label (block INTEGER, {labels})")
        self._db.execute(f'CREATE TABLE reading (block INTEGER, "time" TIMESTAMP, "offset" SMALLINT, {listed})')
        self._blocks = 0

    def label(self, *labels: str) -> int:
        """Return the number of a block whose rows carry these labels."""
        self._blocks += 1
        self._db.execute("INSERT INTO label VALUES (?, ?, ?, ?, ?)", [self._blocks, *labels])
        return self._blocks

    def add(self, block: int, time_ms: NDArray[np.int64], offset_min: NDArray[np.int64], columns: Columns) -> None:
        """Add rows to a block; NaN becomes nothing."""
        known = {"time": time_ms, "offset": offset_min, **columns}
        self._db.register("fresh", known)
        try:
            picked = ", ".join(
                f'make_timestamp_ms("{name}")' if kind == "TIMESTAMP" else f'"{name}"'
                for name, kind in self._columns.items()
            )
            self._db.execute(
                f'INSERT INTO reading SELECT {int(block)}, make_timestamp_ms("time"), "offset", {picked} FROM fresh'
            )
        finally:
            self._db.unregister("fresh")
        self.rows += len(time_ms)

    def write(self, path: Path, kind: Format, beat: Callable[[], None]) -> None:
        """Write the file.

        Raises:
            ValueError: a workbook would have more rows than a sheet holds.
        """
        if kind == "xlsx":
            if self.rows > MOST_CELL_ROWS:
                raise ValueError(f"a sheet holds {MOST_CELL_ROWS} rows, and these are {self.rows}; choose CSV")
            self._workbook(path, beat)
            return
        how = "FORMAT parquet, COMPRESSION zstd" if kind == "parquet" else "FORMAT csv, HEADER"
        quoted = str(path).replace("'", "''")
        self._db.execute(f"COPY ({self._select(is_text=kind == 'csv')}) TO '{quoted}' ({how})")

    def _select(self, *, is_text: bool) -> str:
        """Return SQL for the rows as they are shown."""
        labels = [f"{_safe(name)} AS {name}" if is_text else name for name in LABELS]
        offset = (
            "CASE WHEN \"offset\" < 0 THEN '-' ELSE '+' END || lpad((abs(\"offset\") // 60)::VARCHAR, 2, '0')"
            " || ':' || lpad((abs(\"offset\") % 60)::VARCHAR, 2, '0')"
        )
        shown = []
        for name in ("time", *self._columns):
            kind = self._columns.get(name, "TIMESTAMP")
            if kind == "TIMESTAMP" and is_text:
                clock = f"strftime(\"{name}\", '%Y-%m-%dT%H:%M:%S.%g')"
                shown.append(f'{clock} || {offset} AS "{name}"' if name == "time" else f'{clock} AS "{name}"')
            elif kind == "VARCHAR" and is_text:
                shown.append(f'{_safe(name)} AS "{name}"')
            else:
                shown.append(f'"{name}"')
        zone = "" if is_text else ', "offset" AS utc_offset_min'
        return (
            f"SELECT {', '.join([*labels, *shown])}{zone} FROM reading JOIN label USING (block) ORDER BY reading.rowid"
        )

    def _workbook(self, path: Path, beat: Callable[[], None]) -> None:
        book = Workbook(write_only=True)
        sheet = book.create_sheet("readings")
        cursor = self._db.execute(self._select(is_text=False))
        sheet.append([name for name, *_ in cursor.description or ()])
        while rows := cursor.fetchmany(_AT_ONCE):
            beat()
            for row in rows:
                sheet.append([_cell(sheet, value) for value in row])
        book.save(path)

    def close(self) -> None:
        """Remove what was gathered."""
        self._db.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def gathering(folder: Path, columns: dict[str, str]) -> Iterator[Gathering]:
    """Yield a gathering, and remove it in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with closing(Gathering(folder, columns)) as made:
        yield made


def _safe(name: str) -> str:
    return f"CASE WHEN regexp_matches(\"{name}\", '{_FORMULA}') THEN '''' || \"{name}\" ELSE \"{name}\" END"


def _cell(sheet: Any, value: Any) -> Any:  # noqa: ANN401 - openpyxl's own types
    if not isinstance(value, str):
        return value
    # Control characters have no place in a workbook; a text stays a text even where it looks like a formula.
    cell = WriteOnlyCell(sheet, "".join(letter if letter >= " " or letter in "\t\n" else "�" for letter in value))
    cell.data_type = "s"
    return cell
