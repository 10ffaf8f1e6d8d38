"""The numbers under which readings are stored: one a device and metric, given at first sight and never again.

For ``ingest``, which names thousands at once, and for whoever turns a device's metric into a curve.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import BigInteger, Select, String, cast, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import InstrumentedAttribute, Session

from kernel import columns
from telemetry.models import Series
from telemetry.readings import Int64s

Pair = tuple[int, str]
"""A device's id and the key of a metric."""
_MOST: Final = 20_000
"""Pairs in one statement."""


def load(session: Session, device_ids: Iterable[int] | None = None) -> dict[Pair, int]:
    """Return the numbers of all series, or of some devices'."""
    if device_ids is None:
        device, number, named = columns.integers(session, coded(Series.device_id, Series.id))
        return dict(zip(zip(device.tolist(), names(session, named), strict=True), number.tolist(), strict=True))
    query = select(Series.device_id, Series.metric, Series.id).where(columns.among(Series.device_id, device_ids))
    return {(device_id, metric): number for device_id, metric, number in session.execute(query)}


def coded(*wanted: InstrumentedAttribute[int]) -> Select[*tuple[Any, ...]]:
    """Return a query of all series for ``wanted`` and, as a number that ``names`` understands, the metric."""
    same = select(func.min(Series.id).label("id"), Series.metric).group_by(Series.metric).subquery()
    return select(*wanted, same.c.id).select_from(Series).join(same, same.c.metric == Series.metric)


def names(session: Session, codes: Int64s) -> list[str]:
    """Return the metrics behind the numbers that a query made by ``coded`` gave."""
    distinct, which = np.unique(codes, return_inverse=True)
    found: dict[int, str] = {}
    for begin in range(0, len(distinct), _MOST):
        some = select(Series.id, Series.metric).where(Series.id.in_(distinct[begin : begin + _MOST].tolist()))
        found |= {number: metric for number, metric in session.execute(some)}  # noqa: C416 - rows are no pairs to mypy
    metrics = [found[number] for number in distinct.tolist()]
    return [*map(metrics.__getitem__, which.tolist())]


def since(session: Session, number: int) -> list[tuple[Pair, int]]:
    """Return the pairs whose series have higher numbers than one, with theirs."""
    query = select(Series.device_id, Series.metric, Series.id).where(Series.id > number)
    return [((device_id, metric), found) for device_id, metric, found in session.execute(query)]


def ensure(session: Session, pairs: Sequence[Pair], *, now: datetime) -> dict[Pair, int]:
    """Return the numbers of these pairs, new ones where there are none yet; each pair is given once.

    Safe beside others who ensure the same: a number that somebody else gives meanwhile is the one returned.
    """
    found: dict[Pair, int] = {}
    # In one order for all, so that two who name the same pairs do not wait for each other in a circle.
    ordered = sorted(pairs)
    for begin in range(0, len(ordered), _MOST):
        found |= _ensure(session, ordered[begin : begin + _MOST], now)
    return found


def _ensure(session: Session, pairs: Sequence[Pair], now: datetime) -> dict[Pair, int]:
    wanted = (
        func.unnest(
            cast([device_id for device_id, _ in pairs], ARRAY(BigInteger)),
            cast([metric for _, metric in pairs], ARRAY(String)),
        )
        .table_valued("device_id", "metric", name="wanted")
        .render_derived()
    )
    rows = select(wanted.c.device_id, wanted.c.metric, literal(now))
    session.execute(upsert(Series).from_select(["device_id", "metric", "created_at"], rows).on_conflict_do_nothing())
    known = select(Series.device_id, Series.metric, Series.id).join(
        wanted, (Series.device_id == wanted.c.device_id) & (Series.metric == wanted.c.metric)
    )
    return {(device_id, metric): number for device_id, metric, number in session.execute(known)}
