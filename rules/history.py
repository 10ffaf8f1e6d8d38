"""The stored readings of an asset as rules judge them: what they judged when it came, metric by metric.

For backtests and late data. A metric that several devices measured one after the other is one column, each device cut
to its binding. Bad readings are left out, as they are at ingest; what was sent as history is judged at its own time.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import numpy as np
from sqlalchemy.orm import Session

from assets import measured, types
from assets.measured import Span
from assets.models import Asset, Metric
from rules.tape import Samples
from telemetry import quality
from telemetry.buckets import MAX_SPAN_MS
from telemetry.readings import Flag
from telemetry.store import TelemetryStore

_AT_ONCE: Final = 500_000


def spans_of(session: Session, asset_id: int, metrics: Iterable[str]) -> list[Span]:
    """Return where the readings of some metrics of an asset are."""
    return measured.of_asset(session, asset_id, list(metrics))


def described(session: Session, asset_id: int) -> dict[str, Metric]:
    """Return what is known of the metrics of an asset."""
    asset = session.get(Asset, asset_id)
    if asset is None:
        return {}
    return types.metrics(session, asset.company_id, [asset.type_id])[asset.type_id]


def samples(
    store: TelemetryStore, spans: Sequence[Span], start_ms: int, end_ms: int, *, bad: Collection[str] = ()
) -> dict[str, Samples]:
    """Return the samples of each metric with start <= ts < end; bad ones too of the metrics ``bad``."""
    parts: dict[str, list[Samples]] = {}
    for span in spans:
        begin, end = max(start_ms, span.starts_ms), min(end_ms, span.ends_ms)
        unused = Flag(0) if span.metric in bad else Flag.BAD
        parts.setdefault(span.metric, []).extend(_of_series(store, span.series, begin, end, unused))
    return {metric: Samples.joined(some) for metric, some in parts.items()}


def _of_series(store: TelemetryStore, series: int, begin_ms: int, end_ms: int, unused: Flag) -> Iterable[Samples]:
    while begin_ms < end_ms:
        some = store.samples(series, begin_ms, min(end_ms, begin_ms + MAX_SPAN_MS), limit=_AT_ONCE)
        if not len(some):
            return
        judged = some.select(~quality.has(some.flags, unused))
        # A number that no float holds exactly has its digits as text; rules compare the number.
        words = None if judged.text is None or np.isfinite(judged.value).all() else judged.text
        yield Samples.of(judged.ts_ms, judged.value, words)
        if len(some) < _AT_ONCE:
            return
        begin_ms = int(some.ts_ms[-1]) + 1
