"""The rows of a file of history, a few thousand at a time: what they hold, and by line what is wrong with them.

For ``ingest.history``. No more than a chunk is in memory, however long the file is; a row is used whole or not at all.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from ingest import columns, csvrows, packed
from ingest.decoded import Reason
from ingest.forms import Element, Scalar
from ingest.old_owners import Known, Owners
from ingest.strict import SAID, Refused
from kernel import clock
from kernel.errors import Invalid
from kernel.i18n import noop
from telemetry.readings import Flag, Readings
from telemetry.series import Pair

READINGS: Final = 20_000
"""In a chunk."""
AHEAD_MS: Final = 60_000
LONGEST_LINE: Final = 1_000_000
NAMED: Final = 200
"""Faults and series that a report names; all are counted."""
SHOWN: Final = 10
MOST_SERIES: Final = 10_000


@dataclass(slots=True)
class _Series:
    """What a file holds of one metric of a device."""

    count: int = 0
    first_ms: int = 2**62
    last_ms: int = -1


@dataclass(slots=True)
class Report:
    """What was found in a file, and what became of it."""

    rows: int = 0
    readings: int = 0
    refused: int = 0
    bad: int = 0
    stored: int = 0
    replaced: int = 0
    duplicate: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)
    sample: list[dict[str, Any]] = field(default_factory=list)
    first_ms: dict[int, int] = field(default_factory=dict)
    """By device id, when its history begins."""
    series: dict[tuple[str, str], _Series] = field(default_factory=dict)

    def refuse(self, line: int, refusal: Refused) -> None:
        """Take note of a row that is not used; ``line`` is where it begins, from 1."""
        self.refused += 1
        if len(self.faults) < NAMED:
            self.faults.append(
                {"line": line, "code": refusal.reason, "sentence": refusal.sentence, "values": refusal.values}
            )

    def take(self, line: int, device: Known, element: Element, asset_code: str) -> None:
        """Take note of a row that is, or of the share of it that is this device's."""
        at_ms = element.ts_ms or 0
        self.readings += len(element.values)
        self.first_ms[device.id] = min(self.first_ms.get(device.id, at_ms), at_ms)
        for metric in element.values:
            one = self.series.setdefault((device.key, metric), _Series())
            one.count += 1
            one.first_ms, one.last_ms = min(one.first_ms, at_ms), max(one.last_ms, at_ms)
        if len(self.sample) < SHOWN:
            said = {"line": line, "device": device.key, "ts_ms": at_ms, "values": dict(element.values)}
            self.sample.append(said | ({"asset": asset_code} if asset_code else {}))

    def counts(self) -> dict[str, int]:
        """Return the figures."""
        names = ("rows", "readings", "refused", "bad", "stored", "replaced", "duplicate")
        return {name: getattr(self, name) for name in names}

    def told(self) -> dict[str, Any]:
        """Return it as it is kept: the figures, and the first of what there may be many of."""
        shown = sorted(self.series.items())[:NAMED]
        return self.counts() | {
            "devices": len(self.first_ms),
            "faults": self.faults,
            "sample": self.sample,
            "series": [
                {
                    "device": device,
                    "metric": metric,
                    "count": one.count,
                    "first_ms": one.first_ms,
                    "last_ms": one.last_ms,
                }
                for (device, metric), one in shown
            ],
            "series_count": len(self.series),
        }


@dataclass(slots=True)
class Chunk:
    """Rows as columns; ``read_bytes`` is how far in the file they end."""

    device: list[int] = field(default_factory=list)
    metric: list[str] = field(default_factory=list)
    ts_ms: list[int] = field(default_factory=list)
    values: list[Scalar] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)
    """Rows that lie outside what their metric can physically be."""
    read_bytes: int = 0

    def __len__(self) -> int:
        return len(self.values)

    @property
    def pairs(self) -> set[Pair]:
        """The devices' metrics in it."""
        return set(zip(self.device, self.metric, strict=True))

    def take(self, device: Known, element: Element) -> None:
        """Take a row."""
        for metric, value in element.values.items():
            low, high = device.numeric.get(metric, (-np.inf, np.inf))
            if not isinstance(value, str) and not low <= value <= high:
                self.bad.append(len(self.values))
            self.device.append(device.id)
            self.metric.append(metric)
            self.ts_ms.append(element.ts_ms or 0)
            self.values.append(value)

    def readings(self, numbers: Mapping[Pair, int]) -> Readings:
        """Return it as the store takes it, by the numbers of its series."""
        value, flags, text, _ = columns.of(self.values)
        flags[self.bad] |= np.uint8(Flag.BAD)
        found = [numbers[pair] for pair in zip(self.device, self.metric, strict=True)]
        return Readings(np.array(found, np.int64), np.array(self.ts_ms, np.int64), value, text, flags)


def chunks(
    file: Path,
    zone: str,
    owners: Owners,
    report: Report,
    *,
    keeps_text: bool,
    most_bytes: int,
) -> Iterator[Chunk]:
    """Yield the usable rows of a file, which may be gzipped; those that are not are told to the report.

    ``most_bytes``: the file may hold no more, unpacked.

    Raises:
        Invalid: the file as a whole cannot be read, from where on it cannot; what came before was yielded.
    """
    chunk = Chunk()
    with file.open("rb") as raw, packed.opened(raw, most_bytes) as opened:
        for line, payload in csvrows.pieces(_lines(opened), zone):
            report.rows += 1
            try:
                old = csvrows.read_old(payload)
                shares = owners.shares(old, _usable(old.element.ts_ms))
                for device, element in shares:
                    _check(device, element, keeps_text=keeps_text)
            except Refused as refusal:
                if refusal.reason is not Reason.EMPTY:
                    report.refuse(line, refusal)
                continue
            bad = len(chunk.bad)
            for device, element in shares:
                chunk.take(device, element)
                report.take(line, device, element, old.asset)
            report.bad += len(chunk.bad) - bad
            if len(report.series) > MOST_SERIES:
                raise Invalid("More than {n} metrics are in this file.", field="file", n=MOST_SERIES)
            if len(chunk) >= READINGS:
                chunk.read_bytes = raw.tell()
                yield chunk
                chunk = Chunk()
    if len(chunk):
        chunk.read_bytes = file.stat().st_size
        yield chunk


def _usable(ts_ms: int | None) -> int:
    if ts_ms is None:
        raise Refused(Reason.BAD_TS, noop("It has no time."))
    if not 0 <= ts_ms <= clock.now_ms() + AHEAD_MS:
        raise Refused(Reason.BAD_TS, noop("Its time lies in the future, or before 1970."))
    return ts_ms


def _check(device: Known, element: Element, *, keeps_text: bool) -> None:
    for metric, value in element.values.items():
        if isinstance(value, str):
            if metric in device.numeric:
                raise Refused(
                    Reason.WRONG_TYPE, noop("{metric} is a number, and this is a text."), metric=metric[:SAID]
                )
            if not keeps_text or "\0" in value:
                raise Refused(Reason.BAD_TEXT, noop("This telemetry server keeps no texts."))


def _lines(opened: IO[str]) -> Iterator[str]:
    """Yield lines, none of them longer than memory should hold."""
    number = 0
    while True:
        number += 1
        try:
            line = opened.readline(LONGEST_LINE)
        except UnicodeDecodeError:
            raise Invalid("The file is not UTF-8, near line {n}.", field="file", n=number) from None
        if not line:
            return
        if len(line) >= LONGEST_LINE:
            raise Invalid("Line {n} is too long.", field="file", n=number)
        yield line
