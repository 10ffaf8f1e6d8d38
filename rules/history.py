"""The stored readings of an asset as rules judge them: what they judged when it came, metric by metric.

For backtests and late data. A metric that several devices measured one after the other is one column, each device cut
to its binding. Bad readings and what was sent as history are left out, as they are at ingest.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from sqlalchemy.orm import Session

from assets import measured
from assets.measured import Span
from rules.tape import NOTHING, Samples
from telemetry.readings import Flag
from telemetry.store import TelemetryStore

_AT_ONCE: Final = 500_000
_NOT_JUDGED: Final = np.uint8(Flag.BAD | Flag.HISTORICAL)


def spans_of(session: Session, asset_id: int, metrics: Iterable[str]) -> list[Span]:
    """Return where the readings of some metrics of an asset are."""
    return measured.of_asset(session, asset_id, list(metrics))


def samples(store: TelemetryStore, spans: Sequence[Span], start_ms: int, end_ms: int) -> dict[str, Samples]:
    """Return the samples of each metric with start <= ts < end."""
    parts: dict[str, list[Samples]] = {}
    for span in spans:
        begin, end = max(start_ms, span.starts_ms), min(end_ms, span.ends_ms)
        parts.setdefault(span.metric, []).extend(_of_series(store, span.series, begin, end))
    return {metric: _joined(some) for metric, some in parts.items()}


def _of_series(store: TelemetryStore, series: int, begin_ms: int, end_ms: int) -> Iterable[Samples]:
    while begin_ms < end_ms:
        some = store.samples(series, begin_ms, end_ms, limit=_AT_ONCE)
        if not len(some):
            return
        judged = (some.flags & _NOT_JUDGED) == 0
        yield Samples.of(some.ts_ms[judged], some.value[judged])
        if len(some) < _AT_ONCE:
            return
        begin_ms = int(some.ts_ms[-1]) + 1


def _joined(parts: Sequence[Samples]) -> Samples:
    if not parts:
        return NOTHING
    if len(parts) == 1:
        return parts[0]
    return Samples.of(np.concatenate([one.ts_ms for one in parts]), np.concatenate([one.value for one in parts]))
