"""Readings in VictoriaMetrics: for installations where ingest and web run apart, or one machine is too small.

VictoriaMetrics keeps numbers by time and labels, never replaces one, and knows no texts. So a reading that is
more than a plain number says so in labels: ``text`` (percent-encoded behind a stroke, so that an empty one is
seen), ``digits`` (of a number no float64 holds), ``flags``, and ``revision``, counted up when a reading replaces
another under its key. Reading takes the highest revision. Texts that are all different (a log) make a series
each, which is what this server is slow at: keep those out of telemetry or use another store.

Duplicates and corrections are recognised by the newest time of each series, as in the embedded store, and by
asking the server about the rows that are not newer. That memory belongs to one process: let each device be
served by one ingest worker, as the shared subscription does. Repetitions written by two are harmless, a
correction of a row that another worker wrote within this memory's life may lose to the first value.

Durability: the server answers when readings are in its memory and writes them to disk within its flush
interval (``-inmemoryDataFlushInterval``, 5 s, or 1 s in versions before 1.87): a kill of the *server* loses up to
that much of what was acknowledged. A kill of Fixwright loses nothing. What is written can be read after about a
second. Numbers keep about 12 significant digits. It drops what is older than its ``-retentionPeriod`` (one
month unless set!) or more than two days ahead; set it to at least what FIXWRIGHT_RETENTION_DAYS says.
"""

import threading
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from urllib.parse import quote, unquote, urlencode

import msgspec
import numpy as np
import urllib3

from kernel import clock
from kernel.errors import Misconfigured, Unavailable
from telemetry import buckets
from telemetry.batch import Batch
from telemetry.lineprotocol import LineWriter, line
from telemetry.newest import Newest
from telemetry.readings import Buckets, Int64s, Latest, Readings, Texts, Written, concatenate, of_latest
from telemetry.retention import Policy
from telemetry.store import MAX_SAMPLES

_METRIC = "reading_value"
_CHUNK = 500
"""Series asked for in one request."""
_PRECISION = 1e-11
"""Relative difference below which two numbers are one: the server rounds to about 12 digits."""
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_AHEAD = "2d"
_WINDOWS = ("1h", "1d", "30d", "366d", "36500d")
"""How far back the newest reading is sought, near before far: most devices spoke within the hour."""


class _Exported(msgspec.Struct):
    metric: dict[str, str]
    values: list[float | None]
    timestamps: list[int]


class _Sample(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Vector(msgspec.Struct):
    result: list[_Sample]


class _Answer(msgspec.Struct):
    data: _Vector


class VictoriaStore:
    """The ``TelemetryStore`` on a VictoriaMetrics server of version 1.79 or newer.

    Raises:
        kernel.errors.Unavailable: the server does not answer.
    """

    keeps_text = True
    counts_duplicates = False
    can_expire = False
    has_tiers = False

    def __init__(self, url: str, *, timeout_s: int = 30) -> None:
        self._url = url
        self._http = urllib3.PoolManager(maxsize=8, timeout=timeout_s, retries=False)
        self._writing = threading.Lock()
        self._newest = Newest()
        self._known: set[int] = set()
        self._ask("/health")
        self._lines = LineWriter(url, timeout_s=timeout_s)

    def write(self, readings: Readings) -> Written:
        """Store a batch; see ``TelemetryStore.write``."""
        batch = Batch(readings)
        with self._writing:
            final = batch.final
            self._learn(final.series)
            late = np.flatnonzero(final.ts_ms <= self._newest.ts_ms(final.series))
            is_due = np.ones(len(final), np.bool_)
            revision = np.zeros(len(final), np.int64)
            if len(late):
                keys, stored, revisions = self._look_up(final, late)
                changed = batch.meet(keys, stored, rtol=_PRECISION)
                is_due[keys] = False
                is_due[changed] = True
                revision[keys] = revisions + 1
            due = final.select(is_due)
            self._lines.send(_lines(due, revision[is_due]))
            self._newest.advance(due)
        return batch.written()

    def latest(self, series: Sequence[int]) -> dict[int, Latest]:
        """Return the newest readings, asking the server; see ``TelemetryStore.latest``."""
        found: dict[int, Latest] = {}
        for chunk in _chunks(sorted(set(series))):
            missing = chunk
            for window in _WINDOWS:
                found |= self._newest_within(missing, window)
                missing = [number for number in missing if number not in found]
                if not missing:
                    break
        return found

    def newest(self, series: Int64s) -> Readings:
        """Return the newest readings as columns; see ``TelemetryStore.newest``."""
        return of_latest(self.latest(series.tolist()).values())

    def samples(self, series: int, start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return readings of one series, oldest first; see ``TelemetryStore.samples``."""
        buckets.check_range(start_ms, end_ms)
        if not 1 <= limit <= MAX_SAMPLES:
            raise ValueError(f"limit must lie in 1 … {MAX_SAMPLES}")
        readings, _ = self._export([series], start_ms, end_ms)
        return readings.select(np.arange(min(limit, len(readings))))

    def readings(self, series: Sequence[int], start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return exact readings of several series; see ``TelemetryStore.readings``."""
        buckets.check_readings(start_ms, end_ms, limit)
        parts: list[Readings] = []
        left = limit
        for chunk in _chunks(sorted(set(series))):
            parts.append(self._export(chunk, start_ms, end_ms)[0])
            left -= len(parts[-1])
            if left < 0:
                raise buckets.too_many(limit)
        return concatenate(parts)

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
        # Folded here from samples: the server's own functions would count a corrected reading twice.
        parts = [self._export(chunk, int(edges_ms[0]), int(edges_ms[-1]))[0] for chunk in _chunks(asked.tolist())]
        return buckets.fold(concatenate(parts), asked, edges_ms)

    def compact(self) -> bool:
        """Do nothing: the server merges by itself."""
        return False

    def expire(self, before_ms: int) -> None:
        """Refuse: the server forgets by its own ``-retentionPeriod`` and cannot be asked to.

        Raises:
            kernel.errors.Misconfigured: always.
        """
        raise Misconfigured(
            "VictoriaMetrics forgets by its own -retentionPeriod; nothing before {before} can be deleted from here.",
            before=clock.from_ms(before_ms).isoformat(),
        )

    def keep(self, policy: Policy) -> None:
        """Refuse, as ``expire`` does.

        Raises:
            kernel.errors.Misconfigured: always.
        """
        self.expire(policy.oldest_raw_ms)

    def close(self) -> None:
        """Close the connections."""
        self._lines.close()
        self._http.clear()

    def _learn(self, series: Int64s) -> None:
        """Ask for the newest times of series not met before: after a start, most of the store is older."""
        unknown = set(np.unique(series).tolist()) - self._known
        if not unknown:
            return
        newest = sorted(self.latest(list(unknown)).values(), key=lambda latest: latest.series)
        self._newest.advance(
            Readings.of_rows((old.series, old.ts_ms, old.value, old.text, old.flags) for old in newest)
        )
        self._known |= unknown

    def _look_up(self, final: Readings, late: Int64s) -> tuple[Int64s, Readings, Int64s]:
        """Return which late keys the server holds (int64[m] into ``final``), what it holds, and the revisions."""
        # Rows are searchable a second after they were taken; a redelivery may come sooner.
        self._ask("/internal/force_flush")
        sought = final.select(late)
        places = {key: int(row) for key, row in zip(_keys(sought), late, strict=True)}
        parts, revisions = [], []
        for chunk in _chunks(np.unique(sought.series).tolist()):
            ts_ms = sought.ts_ms[np.isin(sought.series, chunk)]
            found, revision = self._export(chunk, int(ts_ms.min()), int(ts_ms.max()) + 1)
            hits = np.array([key in places for key in _keys(found)], np.bool_)
            parts.append(found.select(hits))
            revisions.append(revision[hits])
        stored = concatenate(parts)
        keys = np.array([places[key] for key in _keys(stored)], np.int64)
        return keys, stored, np.concatenate(revisions)

    def _newest_within(self, series: list[int], window: str) -> dict[int, Latest]:
        chosen = f"{_METRIC}{{{_match(series)}}}[{_AHEAD}{window}]"
        # Asked together, so that a reading that arrives between them cannot lend its value to another's time.
        query = (
            f'union(label_set(tlast_over_time({chosen}), "asked", "time"),'
            f' label_set(last_over_time({chosen}), "asked", "value"))'
        )
        time_s = clock.now_ms() / 1000 + 2 * 86_400
        body = self._ask("/api/v1/query", query=query, time=f"{time_s:.3f}", nocache="1")
        times: dict[tuple[tuple[str, str], ...], int] = {}
        values: dict[tuple[tuple[str, str], ...], float] = {}
        for sample in msgspec.json.decode(body, type=_Answer).data.result:
            asked = sample.metric.pop("asked")
            sample.metric.pop("__name__", None)  # only one of the two functions keeps it
            labels = tuple(sorted(sample.metric.items()))
            if asked == "time":
                times[labels] = round(float(sample.value[1]) * 1000)
            else:
                values[labels] = float(sample.value[1])
        rows = [_rows(dict(labels), [ts_ms], [values[labels]]) for labels, ts_ms in times.items() if labels in values]
        found: dict[int, Latest] = {}
        # Sorted by time within a series, so that the newest one stays.
        for number, ts_ms, value, text, flags in _merged(rows)[0].rows():
            found[number] = Latest(number, ts_ms, value, text, flags)
        return found

    def _export(self, series: list[int], start_ms: int, end_ms: int) -> tuple[Readings, Int64s]:
        """Return readings with start <= ts < end sorted by series and time, each key once, and their revisions."""
        match = f"{_METRIC}{{{_match(series)}}}"
        # The server takes both ends of a range in.
        span = {"start": f"{start_ms / 1000:.3f}", "end": f"{(end_ms - 1) / 1000:.3f}"}
        body = self._ask("/api/v1/export", **{"match[]": match}, **span)
        exported = (msgspec.json.decode(row, type=_Exported) for row in body.splitlines())
        return _merged([_rows(row.metric, row.timestamps, row.values) for row in exported])

    def _ask(self, path: str, **fields: str) -> bytes:
        try:
            # Hundreds of series numbers make an address too long, so a question travels in the body.
            answer = self._http.request("POST", self._url + path, body=urlencode(fields), headers=_FORM)
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(
                "VictoriaMetrics at {url} does not answer: {reason}", url=self._url, reason=str(error)
            ) from error
        if answer.status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
            reason = answer.data.decode(errors="replace")[:300]
            raise Unavailable("VictoriaMetrics at {url} refused: {reason}", url=self._url, reason=reason)
        return answer.data


def _lines(readings: Readings, revision: Int64s) -> Iterator[str]:
    if readings.text is None and not readings.flags.any() and not revision.any():
        # Plain numbers, nearly always: no labels to think about.
        columns = (readings.series.tolist(), readings.value.tolist(), readings.ts_ms.tolist())
        for series, value, ts_ms in zip(*columns, strict=True):
            yield line(series, "", f"value={value!r}", ts_ms)
        return
    for (series, ts_ms, value, text, flags), count in zip(readings.rows(), revision.tolist(), strict=True):
        tags = f",flags={flags}" if flags else ""
        if text is not None:
            tags += f",{'text' if np.isnan(value) else 'digits'}=|{quote(text, safe='')}"
        if count:
            tags += f",revision={count}"
        yield line(series, tags, f"value={0.0 if np.isnan(value) else value!r}", ts_ms)


_Rows = tuple[Readings, Int64s]


def _rows(labels: dict[str, str], ts_ms: list[int], value: list[float | None] | list[float]) -> _Rows:
    """Return the samples of one series of the server, and their revision a row."""
    rows = len(ts_ms)
    text: Texts | None = None
    values = np.array(value, np.float64)
    if "text" in labels:
        text = [unquote(labels["text"][1:])] * rows
        values = np.full(rows, np.nan)
    elif "digits" in labels:
        text = [unquote(labels["digits"][1:])] * rows
    readings = Readings(
        np.full(rows, int(labels["series"]), np.int64),
        np.array(ts_ms, np.int64),
        values,
        text,
        np.full(rows, int(labels.get("flags", "0")), np.uint8),
    )
    return readings, np.full(rows, int(labels.get("revision", "0")), np.int64)


def _merged(parts: list[_Rows]) -> _Rows:
    """Return all rows sorted by series and time, of each key the highest revision."""
    readings = concatenate([part for part, _ in parts])
    revision = np.concatenate([np.empty(0, np.int64), *(part for _, part in parts)])
    order = np.lexsort((revision, readings.ts_ms, readings.series))
    series, ts_ms = readings.series[order], readings.ts_ms[order]
    is_last = np.ones(len(order), np.bool_)
    is_last[:-1] = (series[1:] != series[:-1]) | (ts_ms[1:] != ts_ms[:-1])
    return readings.select(order[is_last]), revision[order[is_last]]


def _match(series: list[int]) -> str:
    numbers = "|".join(str(int(number)) for number in series)
    return f'series=~"{numbers}"'


def _keys(readings: Readings) -> list[tuple[int, int]]:
    return list(zip(readings.series.tolist(), readings.ts_ms.tolist(), strict=True))


def _chunks(series: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(series), _CHUNK):
        yield series[start : start + _CHUNK]
