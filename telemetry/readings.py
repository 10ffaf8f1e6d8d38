"""What a reading is, as columns: for everyone who moves readings between device, store, rules and plots.

A batch is five parallel columns and never a list of objects, because the hot path carries hundreds of
thousands of readings a second. What one reading means is decided here: a number, a boolean (1.0 or 0.0 with
``Flag.BOOLEAN``), a text (``value`` is NaN), or a number no float64 holds exactly (``value`` is the nearest
float64, ``text`` the digits as sent, with ``Flag.EXACT``). A number that was converted when it came in is kept in
both units: ``value`` in that of its metric, ``sent`` as the device said it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntFlag
from typing import Self

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]
Flags = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Texts = list[str | None]
Row = tuple[int, int, float, str | None, int]
"""Series, ts_ms, value, text, flags."""

MAX_SERIES = 2**27
"""Series numbers lie below this, so that arrays indexed by series stay a few GB at worst."""
MAX_TS_MS = 253_402_300_800_000
"""The end of the year 9999: later instants have no date."""
MAX_TEXT = 1000
"""Characters of a text; a store that keeps texts as labels holds no more."""


class Flag(IntFlag):
    """What is known about one reading besides its value. Bits are stored, so they are never renumbered."""

    CLOCK = 1  # the device's clock was wrong; the time is that of reception
    BOOLEAN = 2  # sent as true or false
    EXACT = 4  # the text holds the digits of a number that float64 only approximates
    UNCERTAIN = 8
    BAD = 16  # kept, and shown as bad; rules do not use it unless asked
    HISTORICAL = 32  # sent as history: never the live value, and nothing that rules judge as if it happened now
    STUCK = 64  # one of too many equal readings of a sensor that used to vary; uncertain


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """A batch of readings. All columns have one length; row order carries no meaning except among equal keys.

    ``series``: int64, 0 <= n < MAX_SERIES. ``ts_ms``: int64, milliseconds since 1970 UTC, before the year 10000.
    ``value``: float64, finite, or NaN exactly where the reading is a text. ``text``: one entry a row, or None
    when no row has a text. ``flags``: uint8, bits of ``Flag``. ``sent``: float64, the number in the unit it was sent
    in, NaN where it was not converted, or None when no row was.

    Raises:
        ValueError: lengths, types or ranges are wrong, a NaN has no text, or a text is longer than ``MAX_TEXT`` or
            cannot be written as UTF-8.
    """

    series: Int64s
    ts_ms: Int64s
    value: Float64s
    text: Texts | None
    flags: Flags
    sent: Float64s | None = None

    def __post_init__(self) -> None:
        rows = len(self.series)
        expected: list[tuple[str, type]] = [
            ("series", np.int64),
            ("ts_ms", np.int64),
            ("value", np.float64),
            ("flags", np.uint8),
        ]
        if self.sent is not None:
            expected.append(("sent", np.float64))
        for name, dtype in expected:
            column = getattr(self, name)
            if column.dtype != dtype or column.shape != (rows,):
                raise ValueError(
                    f"{name} must be {rows} values of {np.dtype(dtype)}, got {column.shape} of {column.dtype}"
                )
        if self.text is not None and len(self.text) != rows:
            raise ValueError(f"text must have {rows} entries or be None, got {len(self.text)}")
        if rows:
            self._check_ranges()

    def _check_ranges(self) -> None:
        if self.series.min() < 0 or self.series.max() >= MAX_SERIES:
            raise ValueError(f"series must lie in 0 … {MAX_SERIES - 1}")
        if self.ts_ms.min() < 0 or self.ts_ms.max() >= MAX_TS_MS:
            raise ValueError("ts_ms must lie between the years 1970 and 9999")
        finite = np.isfinite(self.value)
        if self.text is None:
            if not finite.all():
                raise ValueError("value must be finite where the reading is no text")
            return
        for row in np.flatnonzero(~finite):
            if self.text[row] is None or not np.isnan(self.value[row]):
                raise ValueError("value must be finite, or NaN beside a text")
        texts = [text for text in self.text if text is not None]
        if any(len(text) > MAX_TEXT for text in texts):
            raise ValueError(f"a text must have at most {MAX_TEXT} characters")
        "".join(texts).encode()

    @classmethod
    def of(
        cls,
        series: Iterable[int],
        ts_ms: Iterable[int],
        value: Iterable[float],
        text: Texts | None = None,
        flags: Iterable[int] | None = None,
    ) -> Self:
        """Return readings from anything iterable; ``flags`` are 0 unless given."""
        numbers = np.array(list(series), np.int64)
        marks = np.zeros(len(numbers), np.uint8) if flags is None else np.array(list(flags), np.uint8)
        return cls(numbers, np.array(list(ts_ms), np.int64), np.array(list(value), np.float64), text, marks)

    @classmethod
    def of_rows(cls, rows: Iterable[Row]) -> Self:
        """Return readings from rows as ``rows()`` gives them."""
        listed = list(rows)
        return cls.of(
            [row[0] for row in listed],
            [row[1] for row in listed],
            [row[2] for row in listed],
            [row[3] for row in listed] if any(row[3] is not None for row in listed) else None,
            [row[4] for row in listed],
        )

    @classmethod
    def empty(cls) -> Self:
        """Return a batch of no readings."""
        return cls.of((), (), ())

    def __len__(self) -> int:
        return len(self.series)

    def select(self, rows: Mask | Int64s) -> "Readings":
        """Return the rows of a boolean mask, or of row numbers in their order."""
        text = None
        if self.text is not None:
            chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
            text = [self.text[row] for row in chosen]
            if all(entry is None for entry in text):
                text = None
        sent = None if self.sent is None else _some(self.sent[rows])
        return Readings(self.series[rows], self.ts_ms[rows], self.value[rows], text, self.flags[rows], sent)

    def rows(self) -> Iterator[Row]:
        """Give row by row, without what was sent, for where readings are few."""
        text = self.text or [None] * len(self)
        yield from zip(
            self.series.tolist(), self.ts_ms.tolist(), self.value.tolist(), text, self.flags.tolist(), strict=True
        )


def concatenate(parts: Sequence[Readings]) -> Readings:
    """Return the batches one after the other."""
    if not parts:
        return Readings.empty()
    text: Texts | None = None
    if any(part.text is not None for part in parts):
        text = [entry for part in parts for entry in (part.text or [None] * len(part))]
    return Readings(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.ts_ms for part in parts]),
        np.concatenate([part.value for part in parts]),
        text,
        np.concatenate([part.flags for part in parts]),
        _sent(parts),
    )


def _sent(parts: Sequence[Readings]) -> Float64s | None:
    if all(part.sent is None for part in parts):
        return None
    return np.concatenate([np.full(len(part), np.nan) if part.sent is None else part.sent for part in parts])


def _some(sent: Float64s) -> Float64s | None:
    return None if np.isnan(sent).all() else sent


def same(left: Readings, right: Readings, *, rtol: float = 0.0) -> Mask:
    """Return where two batches of equal length hold the same number, text and flags: bool[n].

    0.0 and -0.0 are one number. Every NaN is alike, as it only says that the reading is a text. Where the numbers
    are one, so are those they were converted from. ``rtol`` is the relative difference that a store which rounds
    does not tell apart.
    """
    equal: Mask = np.isclose(left.value, right.value, rtol=rtol, atol=0.0, equal_nan=True)
    equal &= left.flags == right.flags
    if left.text is not None or right.text is not None:
        texts = zip(left.text or [None] * len(left), right.text or [None] * len(right), strict=True)
        equal &= np.fromiter((mine == yours for mine, yours in texts), np.bool_, len(left))
    return equal


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest reading of a series by device time. ``value`` is NaN where the reading is a text."""

    series: int
    ts_ms: int
    value: float
    text: str | None
    flags: int = 0
    sent: float | None = None
    """The number in the unit it was sent in; None where it was not converted."""


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """What became of a batch, counted as if its rows had been written one by one, in order.

    ``stored`` counts rows that changed the store, those that replaced another value for their key included;
    ``corrected`` counts just the latter. ``duplicate`` counts rows that were there already.
    stored + duplicate is the length of the batch. ``is_duplicate`` and ``is_correction`` say which rows (bool[n]).
    """

    stored: int
    duplicate: int
    corrected: int
    is_duplicate: Mask
    is_correction: Mask

    @classmethod
    def of(cls, *, is_duplicate: Mask, is_correction: Mask) -> Self:
        """Return the counts of two row masks."""
        duplicate = int(is_duplicate.sum())
        return cls(len(is_duplicate) - duplicate, duplicate, int(is_correction.sum()), is_duplicate, is_correction)


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """A range reduced to buckets: one row a series asked for, one column a bucket, empty ones included.

    ``edges_ms``: int64[b + 1]; bucket i holds edges_ms[i] <= ts_ms < edges_ms[i + 1]. ``count``: int64[s, b],
    numbers only (texts are not counted). The others: float64[s, b], NaN where the count is 0 (``sum`` is 0.0).
    First, minimum, maximum and last of each bucket are what a plot needs to keep the shape of the curve.
    """

    series: Int64s
    edges_ms: Int64s
    min: Float64s
    max: Float64s
    mean: Float64s
    sum: Float64s
    count: Int64s
    first: Float64s
    last: Float64s

    @property
    def start_ms(self) -> Int64s:
        """Where each bucket begins: int64[b]."""
        return self.edges_ms[:-1]


def sent_of(readings: Readings) -> list[float | None]:
    """Return what was sent row by row, None where nothing was converted; for where readings are few."""
    if readings.sent is None:
        return [None] * len(readings)
    return [None if number != number else number for number in readings.sent.tolist()]  # noqa: PLR0124 - NaN alone


def with_sent(readings: Readings, sent: Iterable[float]) -> Readings:
    """Return readings with what was sent: one number a row, NaN where it was not converted."""
    return replace(readings, sent=_some(np.array(list(sent), np.float64)))


def of_latest(found: Iterable[Latest]) -> Readings:
    """Return newest readings as columns."""
    listed = list(found)
    readings = Readings.of_rows((one.series, one.ts_ms, one.value, one.text, one.flags) for one in listed)
    return with_sent(readings, (np.nan if one.sent is None else one.sent for one in listed))
