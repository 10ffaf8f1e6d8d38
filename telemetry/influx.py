"""Readings in InfluxDB 2, for installations that have one already, or run ingest and web apart.

A reading is one point of the measurement ``reading`` with the tag ``series`` and up to four fields: ``value``,
``text``, ``sent``, and always ``flags``. The server replaces a field written again at the same time but cannot take
one away; so bits of ``flags`` above those of ``telemetry.readings.Flag`` say which of them the reading has now.
Writing is idempotent by that alone, nothing is remembered here, and any number of processes may write. The
price is that repetitions are not told apart: ``Written`` counts rows that the server had already as stored.

Durability: the server answers when readings are in its write-ahead log and the log is flushed to the disk
(``storage-wal-fsync-delay`` 0, its default): an acknowledged reading survives a kill of the server and of
Fixwright. A longer delay set there is the window in which a power cut loses readings.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import urllib3
from influxdb_client.domain.dialect import Dialect
from influxdb_client.rest import ApiException

from kernel import clock
from kernel.errors import Misconfigured, Unavailable
from telemetry import buckets, quality
from telemetry.batch import Batch
from telemetry.lineprotocol import MEASUREMENT, LineWriter, line, quoted
from telemetry.readings import (
    Buckets,
    Int64s,
    Latest,
    Readings,
    Row,
    Written,
    concatenate,
    of_latest,
    sent_of,
    with_sent,
)
from telemetry.retention import Policy

_HAS_NUMBER = 1 << 8
_HAS_TEXT = 1 << 9
_HAS_SENT = 1 << 10
_CHUNK = 500
"""Series asked for in one query."""
_END_MS = 9_000_000_000_000
"""Later than any time the server can hold: it counts nanoseconds in 64 bits."""
_REFUSALS = (400, 401, 403, 404)
"""HTTP answers that waiting will not change."""


class InfluxStore:
    """The ``TelemetryStore`` on an InfluxDB 2 server.

    Raises:
        kernel.errors.Misconfigured: the token, organisation or bucket is not accepted.
        kernel.errors.Unavailable: the server does not answer.
    """

    keeps_text = True
    counts_duplicates = False
    can_expire = True
    has_tiers = False

    def __init__(self, url: str, *, token: str, org: str, bucket: str) -> None:
        self._org = org
        self._bucket = bucket
        self._lines = LineWriter(url, token=token, org=org, bucket=bucket)
        self._query = self._lines.client.query_api()
        try:
            self._rows([0], 0, 1, "|> limit(n: 1)")
        except Unavailable as error:
            if isinstance(error.__cause__, ApiException) and error.__cause__.status in _REFUSALS:
                raise Misconfigured(
                    "InfluxDB at {url} refuses token, organisation or bucket: {reason}",
                    url=url,
                    reason=error.values["reason"],
                ) from error
            raise

    def write(self, readings: Readings) -> Written:
        """Store a batch; see ``TelemetryStore.write``."""
        batch = Batch(readings)
        self._lines.send(_lines(batch.final))
        return batch.written()

    def latest(self, series: Sequence[int]) -> dict[int, Latest]:
        """Return the newest readings; see ``TelemetryStore.latest``."""
        # The newest of each field. ``flags`` is written with every reading, so its time is the newest of all.
        parts = [self._rows(chunk, 0, _END_MS, "|> last()") for chunk in _chunks(sorted(set(series)))]
        found = concatenate(parts)
        return {
            number: Latest(number, ts_ms, value, text, flags, sent)
            for (number, ts_ms, value, text, flags), sent in zip(found.rows(), sent_of(found), strict=True)
        }

    def newest(self, series: Int64s) -> Readings:
        """Return the newest readings as columns; see ``TelemetryStore.newest``."""
        return of_latest(self.latest(series.tolist()).values())

    def samples(self, series: int, start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return readings of one series, oldest first; see ``TelemetryStore.samples``."""
        buckets.check_samples(start_ms, end_ms, limit)
        return self._rows([series], start_ms, end_ms, f"|> limit(n: {int(limit)})")

    def readings(self, series: Sequence[int], start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return exact readings of several series; see ``TelemetryStore.readings``."""
        buckets.check_readings(start_ms, end_ms, limit)
        parts: list[Readings] = []
        left = limit
        for chunk in _chunks(sorted(set(series))):
            parts.append(self._rows(chunk, start_ms, end_ms, ""))
            left -= len(parts[-1])
            if left < 0:
                raise buckets.too_many(limit)
        return concatenate(parts)

    def not_good(self, series: Sequence[int], start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return bad and uncertain readings of several series; see ``TelemetryStore.not_good``."""
        buckets.check_samples(start_ms, end_ms, limit)
        parts: list[Readings] = []
        for chunk in _chunks(sorted(set(series))):
            some = self._rows(chunk, start_ms, end_ms, "")
            parts.append(some.select(quality.has(some.flags, quality.NOT_GOOD)))
        found = concatenate(parts)
        return found.select(np.arange(min(limit, len(found))))

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
        return self.aggregate(series, buckets.even(start_ms, end_ms, points=points, step_ms=step_ms))

    def aggregate(self, series: Sequence[int], edges_ms: Int64s) -> Buckets:
        """Return buckets between given edges; see ``TelemetryStore.aggregate``."""
        edges_ms = buckets.check_edges(edges_ms)
        asked = buckets.distinct(series, edges_ms)
        # Folded here from samples: a number that a text has replaced is still in the server's own aggregates.
        span = int(edges_ms[0]), int(edges_ms[-1])
        parts = [self._rows(chunk, *span, "") for chunk in _chunks(asked.tolist())]
        return buckets.fold(concatenate(parts), asked, edges_ms)

    def compact(self) -> bool:
        """Do nothing: the server compacts by itself."""
        return False

    def expire(self, before_ms: int) -> None:
        """Delete readings older than an instant. What was newest goes too: the server keeps no latest values apart."""
        try:
            self._lines.client.delete_api().delete(
                _rfc3339(0), _rfc3339(before_ms), f'_measurement="{MEASUREMENT}"', bucket=self._bucket, org=self._org
            )
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            raise Unavailable("InfluxDB did not delete: {reason}", reason=str(error)) from error

    def keep(self, policy: Policy) -> None:
        """Delete what no series needs: the server deletes by time for all alike, so the longest lifetime counts.

        What an alarm cites holds back everything younger than it; there are no tiers.
        """
        self.expire(policy.oldest_raw_ms)

    def close(self) -> None:
        """Close the connections."""
        self._lines.close()

    def _rows(self, series: list[int], start_ms: int, end_ms: int, step: str) -> Readings:
        """Return readings sorted by series and time; ``step`` is applied to each field of each series before."""
        numbers = "|".join(str(int(number)) for number in series)
        flux = (
            f'from(bucket: "{_escaped(self._bucket)}")'
            f" |> range(start: {_rfc3339(start_ms)}, stop: {_rfc3339(end_ms)})"
            f' |> filter(fn: (r) => r._measurement == "{MEASUREMENT}" and r.series =~ /^({numbers})$/) {step}'
            ' |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
            " |> map(fn: (r) => ({r with ms: int(v: r._time) / 1000000}))"
            ' |> drop(columns: ["_start", "_stop", "_time", "_measurement"]) |> group()'
        )
        try:
            dialect = Dialect(header=True, annotations=[], date_time_format="RFC3339")  # type: ignore[no-untyped-call]
            return readings_of_csv(self._query.query_csv(flux, dialect=dialect))
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            raise Unavailable("InfluxDB did not answer: {reason}", reason=str(error)) from error


def readings_of_csv(rows: Iterable[list[str]]) -> Readings:
    """Return an answer of ``_rows`` as readings sorted by series and time.

    Each table of the answer begins with a line of column names. ``flags`` decides which of the other fields
    count; a point without flags, which another program wrote, is left out.

    Raises:
        kernel.errors.Unavailable: the server reports an error in the middle of its answer.
    """
    found: list[tuple[Row, float]] = []
    names: list[str] = []
    for row in rows:
        if not any(row):
            names = []
        elif not names:
            names = row
        else:
            cells = dict(zip(names, row, strict=False))
            if "error" in cells:
                raise Unavailable("InfluxDB did not answer: {reason}", reason=cells["error"])
            if cells.get("flags"):
                found.append(_reading(cells))
    found.sort(key=lambda reading: reading[0][:2])
    return with_sent(Readings.of_rows(row for row, _ in found), [sent for _, sent in found])


def _reading(cells: dict[str, str]) -> tuple[Row, float]:
    flags = int(cells["flags"])
    value = float(cells["value"]) if flags & _HAS_NUMBER else float("nan")
    text = cells.get("text", "") if flags & _HAS_TEXT else None
    sent = float(cells["sent"]) if flags & _HAS_SENT else float("nan")
    return (int(cells["series"]), int(cells["ms"]), value, text, flags & 0xFF), sent


def _lines(readings: Readings) -> Iterator[str]:
    for (series, ts_ms, value, text, flags), sent in zip(readings.rows(), sent_of(readings), strict=True):
        fields = []
        kinds = flags
        if not np.isnan(value):
            fields.append(f"value={value!r}")
            kinds |= _HAS_NUMBER
        if text is not None:
            fields.append(f"text={quoted(text)}")
            kinds |= _HAS_TEXT
        if sent is not None:
            fields.append(f"sent={sent!r}")
            kinds |= _HAS_SENT
        yield line(series, "", ",".join([*fields, f"flags={kinds}i"]), ts_ms)


def _chunks(series: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(series), _CHUNK):
        yield series[start : start + _CHUNK]


def _rfc3339(ms: int) -> str:
    return clock.from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')
