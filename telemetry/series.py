"""The numbers under which readings are stored: one a device and metric, given at first sight and never again.

For ``ingest``, which names thousands at once, and for whoever turns a device's metric into a curve.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, String, cast, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from telemetry.models import Series

Pair = tuple[int, str]
"""A device's id and the key of a metric."""
_MOST: Final = 20_000
"""Pairs in one statement."""


def load(session: Session, device_ids: Iterable[int] | None = None) -> dict[Pair, int]:
    """Return the numbers of all series, or of some devices'."""
    query = select(Series.device_id, Series.metric, Series.id)
    if device_ids is not None:
        query = query.where(Series.device_id.in_(list(device_ids)))
    return {(device_id, metric): number for device_id, metric, number in session.execute(query)}


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
