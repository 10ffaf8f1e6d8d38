"""Readings in VictoriaMetrics: for installations where ingest and web run apart, or one machine is too small.

VictoriaMetrics keeps numbers by time and labels, never replaces one, and knows no texts. So a reading that is
more than a plain number says so in labels: ``text`` (percent-encoded behind a stroke, so that an empty one is
seen), ``digits`` (of a number no float64 holds), ``flags``, and ``revision``, counted up when a reading replaces
another under its key. Reading takes the highest revision. What a number was before its conversion is a second
metric with the same labels. Texts that are all different (a log) make a series
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
from telemetry import buckets, quality
from telemetry.batch import Batch
from telemetry.lineprotocol import LineWriter, line
from telemetry.newest import Newest
from telemetry.readings import (
    Buckets,
    Int64s,
    Latest,
    Readings,
    Texts,
    Written,
    concatenate,
    of_latest,
    sent_of,
    with_sent,
)
from telemetry.retention import Policy

_METRIC = "reading_value"
_SENT = "reading_sent"
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
        buckets.check_samples(start_ms, end_ms, limit)
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

    def not_good(self, series: Sequence[int], start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return bad and uncertain readings of several series; see ``TelemetryStore.not_good``."""
        buckets.check_samples(start_ms, end_ms, limit)
        parts: list[Readings] = []
        for chunk in _chunks(sorted(set(series))):
            some = self._export(chunk, start_ms, end_ms)[0]
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
        self._newest.advance(of_latest(newest))
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
        # Asked together, so that a reading that arrives between them cannot lend its value to another's time.
        functions = [
            f'label_set({function}({metric}{{{_match(series)}}}[{_AHEAD}{window}]), "asked", "{metric} {word}")'
            for metric in (_METRIC, _SENT)
            for function, word in (("tlast_over_time", "time"), ("last_over_time", "value"))
        ]
        query = f"union({', '.join(functions)})"
        time_s = clock.now_ms() / 1000 + 2 * 86_400
        body = self._ask("/api/v1/query", query=query, time=f"{time_s:.3f}", nocache="1")
        times: dict[_Place, int] = {}
        values: dict[_Place, float] = {}
        for sample in msgspec.json.decode(body, type=_Answer).data.result:
            name, asked = sample.metric.pop("asked").split()
            sample.metric.pop("__name__", None)  # only one of the two functions keeps it
            place = name, _labels(sample.metric)
            if asked == "time":
                times[place] = round(float(sample.value[1]) * 1000)
            else:
                values[place] = float(sample.value[1])
        samples = [
            _Exported({"__name__": name} | dict(labels), [values[name, labels]], [ts_ms])
            for (name, labels), ts_ms in times.items()
            if (name, labels) in values
        ]
        newest, _ = _merged(_all_rows(samples))
        # Sorted by time within a series, so that the newest one stays.
        return {
            number: Latest(number, ts_ms, value, text, flags, sent)
            for (number, ts_ms, value, text, flags), sent in zip(newest.rows(), sent_of(newest), strict=True)
        }

    def _export(self, series: list[int], start_ms: int, end_ms: int) -> tuple[Readings, Int64s]:
        """Return readings with start <= ts < end sorted by series and time, each key once, and their revisions."""
        matches = [f"{metric}{{{_match(series)}}}" for metric in (_METRIC, _SENT)]
        # The server takes both ends of a range in.
        span = {"start": f"{start_ms / 1000:.3f}", "end": f"{(end_ms - 1) / 1000:.3f}"}
        body = self._ask("/api/v1/export", **{"match[]": matches}, **span)
        return _merged(_all_rows([msgspec.json.decode(row, type=_Exported) for row in body.splitlines()]))

    def _ask(self, path: str, **fields: str | list[str]) -> bytes:
        try:
            # Hundreds of series numbers make an address too long, so a question travels in the body.
            answer = self._http.request("POST", self._url + path, body=urlencode(fields, doseq=True), headers=_FORM)
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(
                "VictoriaMetrics at {url} does not answer: {reason}", url=self._url, reason=str(error)
            ) from error
        if answer.status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
            reason = answer.data.decode(errors="replace")[:300]
            raise Unavailable("VictoriaMetrics at {url} refused: {reason}", url=self._url, reason=reason)
        return answer.data


def _lines(readings: Readings, revision: Int64s) -> Iterator[str]:
    if readings.text is None and readings.sent is None and not readings.flags.any() and not revision.any():
        # Plain numbers, nearly always: no labels to think about.
        columns = (readings.series.tolist(), readings.value.tolist(), readings.ts_ms.tolist())
        for series, value, ts_ms in zip(*columns, strict=True):
            yield line(series, "", f"value={value!r}", ts_ms)
        return
    rows = zip(readings.rows(), sent_of(readings), revision.tolist(), strict=True)
    for (series, ts_ms, value, text, flags), sent, count in rows:
        tags = f",flags={flags}" if flags else ""
        if text is not None:
            tags += f",{'text' if np.isnan(value) else 'digits'}=|{quote(text, safe='')}"
        if count:
            tags += f",revision={count}"
        converted = "" if sent is None else f",sent={sent!r}"
        yield line(series, tags, f"value={0.0 if np.isnan(value) else value!r}{converted}", ts_ms)


_Rows = tuple[Readings, Int64s]
_Labels = tuple[tuple[str, str], ...]
_Place = tuple[str, _Labels]
"""The name of a metric of the server, and the other labels."""


def _labels(metric: dict[str, str]) -> _Labels:
    return tuple(sorted((name, value) for name, value in metric.items() if name != "__name__"))


def _all_rows(exported: list[_Exported]) -> list[_Rows]:
    """Return the samples of each series of the server, with those of the numbers as they were sent beside them."""
    sent = {_labels(one.metric): one for one in exported if one.metric["__name__"] == _SENT}
    found = []
    for one in exported:
        if one.metric["__name__"] == _METRIC:
            readings, revision = _rows(one.metric, one.timestamps, one.values)
            original = sent.get(_labels(one.metric))
            if original is not None:
                by_time = dict(zip(original.timestamps, original.values, strict=True))
                readings = with_sent(
                    readings, (np.nan if (number := by_time.get(at)) is None else number for at in one.timestamps)
                )
            found.append((readings, revision))
    return found


def _rows(labels: dict[str, str], ts_ms: list[int], value: list[float | None]) -> _Rows:
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
