"""What a batch has been found to say, gathered until it becomes columns, and which messages are set aside.

Measurements come a column at a time where payloads are as usual, and one by one where they were looked at on their
own. In the end they stand in order of reception, each at the time its device said or, where that cannot be
believed, at the time it was received.
"""

from collections.abc import Iterable
from itertools import chain

import numpy as np

from ingest import columns
from ingest.batch import Batch
from ingest.decoded import Int32s, Reason, Rejected, Source
from ingest.forms import Element, Scalar
from ingest.moulds import ABSENT
from ingest.shapes import AHEAD_MS, OLDEST_MS, Shapes, runs
from ingest.topics import Understood
from telemetry.readings import Flag, Flags, Float64s, Int64s, Mask, Texts


class Gathered:
    """Measurements of one batch (a message may hold several), and its rejected messages."""

    def __init__(self, batch: Batch, topics: Understood, shapes: Shapes) -> None:
        self._batch = batch
        self._topics = topics
        self._shapes = shapes
        self._message: list[Int64s] = []
        self._shape: list[Int64s] = []
        self._ts: list[Int64s] = []
        self._values: list[list[Scalar]] = []
        self._singles: tuple[list[int], list[int], list[int], list[Scalar]] = ([], [], [], [])
        self.rejected: list[Rejected] = []

    def column(self, messages: Int64s, shapes: Int64s, ts: Int64s, flat: list[Scalar]) -> None:
        """Take one measurement a message; ``flat`` are the values of all, in their order."""
        self._message.append(messages)
        self._shape.append(shapes)
        self._ts.append(ts)
        self._values.append(flat)

    def take(self, message: int, label: str, source: Source, parts: Iterable[Element]) -> None:
        """Take the measurements of one message, or of one device in it; ``label`` names their form."""
        messages, shapes, instants, flat = self._singles
        for ts_ms, values in parts:
            metrics = tuple(values)
            shape = self._shapes.of.get((label, metrics))
            messages.append(message)
            shapes.append(self._shapes.learn(label, source, metrics) if shape is None else shape)
            instants.append(ABSENT if ts_ms is None else ts_ms)
            flat.extend(values.values())

    def reject(self, message: int, reason: Reason, detail: str, *, device: str | None = None, unit_id: int = 0) -> None:
        """Set a message aside, or the part of it that speaks for ``device``."""
        sender = self._topics[self._batch.topics[message]].device
        self.rejected.append(Rejected(message, reason, detail, sender if device is None else device, unit_id))

    def believe(self, message: int, ts_ms: int | None) -> tuple[int, int | None]:
        """Return the time to take for what a message says happened, and the time it gave if that is another."""
        received_ms = int(self._batch.received_ms[message])
        if ts_ms is None:
            return received_ms, None
        if received_ms - OLDEST_MS <= ts_ms <= received_ms + AHEAD_MS:
            return ts_ms, None
        return received_ms, ts_ms

    def columns(self) -> tuple[Int32s, Int32s, Int64s, Float64s, Flags, Texts | None, Int64s, Int64s]:
        """Return all measurements as the columns of ``Decoded``; call it once, when everything is read."""
        singles, shapes, instants, flat = self._singles
        self.column(np.array(singles, np.int64), np.array(shapes, np.int64), np.array(instants, np.int64), flat)
        message, shape, ts = map(np.concatenate, (self._message, self._shape, self._ts))
        value, flags, text, bad = columns.of(_flat(self._values))
        length = self._shapes.length(shape)
        ts_ms, is_skewed, refused = self._times(message, shape, ts)
        if (np.diff(message) < 0).any() or bad or refused.any():
            owner = np.repeat(np.where(refused, -1, message), length)
            refused |= np.isin(message, self._reject_values(bad, owner))
            order = np.argsort(message, kind="stable")
            order = order[~refused[order]]
            rows = runs((np.cumsum(length) - length)[order], length[order])
            value, flags = value[rows], flags[rows]
            text = None if text is None else [text[row] for row in rows.tolist()]
            message, shape, length = message[order], shape[order], length[order]
            ts, ts_ms, is_skewed = ts[order], ts_ms[order], is_skewed[order]
        skewed = np.flatnonzero(np.repeat(is_skewed, length))
        flags[skewed] |= np.uint8(Flag.CLOCK)
        return (
            np.repeat(message.astype(np.int32), length),
            self._shapes.pair(shape),
            np.repeat(ts_ms, length),
            value,
            flags,
            text,
            skewed,
            np.repeat(ts, length)[skewed],
        )

    def _times(self, message: Int64s, shape: Int64s, ts: Int64s) -> tuple[Int64s, Mask, Mask]:
        """Return the time of each measurement, whether its device's clock was not believed, and whether to refuse."""
        received_ms = self._batch.received_ms[message]
        is_absent = ts == ABSENT
        is_skewed = ~is_absent & ((ts > received_ms + AHEAD_MS) | (ts < received_ms - OLDEST_MS))
        # What a broker had kept and replays without a time was measured nobody knows when.
        replayed = np.intersect1d(message[is_absent], [*self._batch.retained])
        for index in replayed.tolist():
            self.reject(index, Reason.REPLAYED, "kept by the broker, without a time")
        refused = np.isin(message, replayed)
        ours = np.flatnonzero((is_absent | is_skewed) & ~refused)
        if len(ours):
            ts = ts.copy()
            ts[ours] = self._shapes.spread(shape[ours], received_ms[ours])
        return ts, is_skewed, refused

    def _reject_values(self, bad: dict[int, tuple[Reason, str]], owner: Int64s) -> list[int]:
        """Reject the messages that own bad readings, each once; return them. An owner of -1 is rejected already."""
        blamed: dict[int, tuple[Reason, str]] = {}
        for row, why in bad.items():
            blamed.setdefault(int(owner[row]), why)
        blamed.pop(-1, None)
        for message, (reason, detail) in blamed.items():
            self.reject(message, reason, detail)
        return [*blamed]


def _flat(parts: list[list[Scalar]]) -> list[Scalar]:
    parts = [part for part in parts if part]
    return parts[0] if len(parts) == 1 else [*chain.from_iterable(parts)]
