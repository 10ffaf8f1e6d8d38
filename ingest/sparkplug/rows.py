"""Readings of Sparkplug messages, as rows, put among the columns of their batch.

Two things are decided here: at which time a reading is kept, by the same rule as every other (ING-5), and that
history never becomes the live value (ING-9): it is kept behind it, or set aside.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ingest import columns
from ingest.batch import Batch
from ingest.decoded import Decoded, Int32s, Reason, Rejected, SeriesNames
from ingest.forms import TIME_BOUND
from ingest.moulds import ABSENT
from ingest.registry import Registry
from ingest.shapes import AHEAD_MS, OLDEST_MS
from ingest.sparkplug.payload import Scalar
from telemetry.readings import Flag, Flags, Int64s, Latest, Mask, Texts

Row = tuple[int, int, int | None, Scalar, int]
"""Message, pair, time or None, value, flags."""
Newest = Callable[[Sequence[int]], Mapping[int, Latest]]
"""Answers with the newest reading of each series that has one."""

_REMEMBERED: Final = 1_000_000


class Rows:
    """Makes columns of rows. It remembers, bounded, when each metric without a time of its own was last placed."""

    def __init__(self, registry: Registry, newest: Newest) -> None:
        self._registry = registry
        self._newest = newest
        self._names: SeriesNames | None = None
        self._last_ms: dict[int, int] = {}

    def joined(self, batch: Batch, decoded: Decoded, rows: Sequence[Row]) -> tuple[Decoded, list[Rejected]]:
        """Return a batch with rows among its readings, and what could not be put there. Rows are in order of message.

        ``decoded`` bears the names that the pairs of the rows are numbers of.
        """
        if not rows:
            return decoded, []
        messages, pairs, times, values, marks = zip(*rows, strict=True)
        message, pair = np.array(messages, np.int32), np.array(pairs, np.int32)
        value, flags, text, _ = columns.of([*values])
        flags |= np.array(marks, np.uint8)
        said_ms = np.array([ABSENT if ts is None else min(ts, TIME_BOUND) for ts in times], np.int64)
        ts_ms, is_skewed = self._times(batch, decoded.names, message, pair, said_ms)
        flags[is_skewed] |= np.uint8(Flag.CLOCK)
        stays = self._stays(decoded.names, pair, ts_ms, flags, has_time=(said_ms != ABSENT) & ~is_skewed)
        rejects = _refused(decoded.names, message[~stays], pair[~stays])
        mine = replace(
            decoded,
            message=message[stays],
            pair=pair[stays],
            ts_ms=ts_ms[stays],
            value=value[stays],
            flags=flags[stays],
            text=None if text is None else [text[row] for row in np.flatnonzero(stays).tolist()],
            skewed=np.flatnonzero(is_skewed[stays]),
            device_ts_ms=said_ms[stays & is_skewed],
        )
        return _merged(decoded, mine), rejects

    def _times(
        self, batch: Batch, names: SeriesNames, message: Int32s, pair: Int32s, said_ms: Int64s
    ) -> tuple[Int64s, Mask]:
        """Return the time at which each reading is kept, and whether its sender's clock was not believed."""
        received_ms = batch.received_ms[message]
        is_absent = said_ms == ABSENT
        is_skewed: Mask = ~is_absent & ((said_ms > received_ms + AHEAD_MS) | (said_ms < received_ms - OLDEST_MS))
        ts_ms = said_ms.copy()
        for row in np.flatnonzero(is_absent | is_skewed).tolist():
            ts_ms[row] = self._placed(names, int(pair[row]), int(received_ms[row]))
        return ts_ms, is_skewed

    def _placed(self, names: SeriesNames, pair: int, received_ms: int) -> int:
        """Return the time of reception, or one ms after the reading before: they would replace each other."""
        if names is not self._names or len(self._last_ms) >= _REMEMBERED:
            self._names, self._last_ms = names, {}
        at_ms = max(received_ms, min(self._last_ms.get(pair, -1) + 1, received_ms + AHEAD_MS))
        self._last_ms[pair] = at_ms
        return at_ms

    def _stays(self, names: SeriesNames, pair: Int32s, ts_ms: Int64s, flags: Flags, *, has_time: Mask) -> Mask:
        """Return which readings may be kept: history only behind the live value of its metric, if that has one."""
        stays: Mask = np.ones(len(pair), np.bool_)
        is_history = (flags & np.uint8(Flag.HISTORICAL)) != 0
        rows = np.flatnonzero(is_history)
        if not len(rows):
            return stays
        live_ms = self._live(names, {int(pair[row]) for row in rows})
        for number, at_ms in zip(pair[~is_history].tolist(), ts_ms[~is_history].tolist(), strict=True):
            live_ms[number] = max(at_ms, live_ms.get(number, at_ms))
        for row in rows.tolist():
            bound_ms = live_ms.get(int(pair[row]))
            stays[row] = has_time[row] and (bound_ms is None or int(ts_ms[row]) < bound_ms)
        return stays

    def _live(self, names: SeriesNames, pairs: set[int]) -> dict[int, int]:
        """Return the time of the live value of each pair that has one."""
        series: dict[int, int] = {}
        for pair in pairs:
            source, metric = names.pairs[pair]
            device = self._registry.device_by_key(names.sources[source].device)
            number = None if device is None else self._registry.series_of(device.id, metric)
            if number is not None:
                series[pair] = number
        newest = self._newest([*series.values()]) if series else {}
        return {
            pair: newest[number].ts_ms
            for pair, number in series.items()
            if number in newest and not newest[number].flags & Flag.HISTORICAL
        }


def _refused(names: SeriesNames, message: Int32s, pair: Int32s) -> list[Rejected]:
    once: dict[tuple[int, str], Rejected] = {}
    for index, number in zip(message.tolist(), pair.tolist(), strict=True):
        source, metric = names.pairs[number]
        key = names.sources[source].device
        detail = f"“{metric}” is history, but not older than the live value or without a time of its own"
        once.setdefault((index, key), Rejected(index, Reason.HISTORICAL, detail, key))
    return [*once.values()]


def _merged(left: Decoded, right: Decoded) -> Decoded:
    """Return the readings of both in order of reception."""
    message = np.concatenate((left.message, right.message))
    order = np.argsort(message, kind="stable")
    is_skewed = np.zeros(len(message), np.bool_)
    said_ms = np.zeros(len(message), np.int64)
    is_skewed[left.skewed], is_skewed[len(left) + right.skewed] = True, True
    said_ms[left.skewed], said_ms[len(left) + right.skewed] = left.device_ts_ms, right.device_ts_ms
    skewed = np.flatnonzero(is_skewed[order])
    return replace(
        left,
        message=message[order],
        pair=np.concatenate((left.pair, right.pair))[order],
        ts_ms=np.concatenate((left.ts_ms, right.ts_ms))[order],
        value=np.concatenate((left.value, right.value))[order],
        flags=np.concatenate((left.flags, right.flags))[order],
        text=_texts(left, right, order),
        skewed=skewed,
        device_ts_ms=said_ms[order][skewed],
    )


def _texts(left: Decoded, right: Decoded, order: Int64s) -> Texts | None:
    if left.text is None and right.text is None:
        return None
    both = (left.text or [None] * len(left)) + (right.text or [None] * len(right))
    return [both[row] for row in order.tolist()]
