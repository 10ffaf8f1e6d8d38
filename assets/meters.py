"""What people do to the meters of an asset, so that its life-to-date goes on (SEMANTICS M3): exchange, reset, total.

An exchange or a reset splits a counter in two: what it shows after is not compared with what it showed before. What
the old one showed last and the new one first is counted if somebody read it. A stated total sets the running total of
a derived metric at an instant. A mistake is withdrawn, not edited. Each act makes its hours due again.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import derivations, dirty, wording
from assets.derived_tables import MeterChange
from assets.models import Asset
from kernel import audit, clock
from kernel.columns import among
from kernel.errors import Conflict, Invalid
from telemetry.derived import Break, hour_of
from telemetry.retention import HOUR_MS

KINDS: Final = ("exchange", "reset", "total")


@dataclass(frozen=True, slots=True)
class MeterDraft:
    """What somebody did to a meter. ``metric`` is the source that it shows, or of a total the derived metric."""

    metric: str
    kind: str
    at: datetime
    final: float | None = None
    initial: float | None = None
    total: float | None = None
    reason: str = ""


def record(session: Session, asset: Asset, draft: MeterDraft, *, actor: str, now: datetime) -> MeterChange:
    """Take note of what was done to a meter, and let what follows from it be worked out anew.

    Raises:
        Invalid: a field does not fit, or nothing on this asset is derived from such a metric.
    """
    source = _source(session, asset, draft)
    if draft.at > now + timedelta(minutes=1):
        raise Invalid("This lies in the future.", field="at")
    for field, value in (("final", draft.final), ("initial", draft.initial), ("total", draft.total)):
        if value is not None and not (math.isfinite(value) and abs(value) <= 2**53):
            raise Invalid("This must be a number.", field=field)
    if draft.kind == "total" and draft.total is None:
        raise Invalid("This is needed.", field="total")
    is_total = draft.kind == "total"
    initial = 0.0 if draft.kind == "reset" and draft.initial is None else draft.initial
    row = MeterChange(
        asset_id=asset.id,
        metric=draft.metric,
        kind=draft.kind,
        at=draft.at,
        final=None if is_total else draft.final,
        initial=None if is_total else initial,
        total=draft.total if is_total else None,
        reason=wording.optional(draft.reason, "reason", longest=300) or "",
        by=actor,
        recorded_at=now,
    )
    session.add(row)
    session.flush()
    _tell(session, asset, "asset.meter", row, actor, now)
    _make_due(session, row, source, now)
    return row


def withdraw(session: Session, asset: Asset, row: MeterChange, *, actor: str, now: datetime) -> None:
    """Take back what was noted by mistake.

    Raises:
        Conflict: it is withdrawn already.
    """
    if row.withdrawn_at is not None:
        raise Conflict("This is withdrawn already.")
    row.withdrawn_at, row.withdrawn_by = now, actor
    session.flush()
    _tell(session, asset, "asset.meter.withdraw", row, actor, now)
    source = row.metric
    if row.kind == "total":
        found = [one.source for one in derived_on(session, asset) if one.key == row.metric]
        if not found:
            return
        source = found[0]
    _make_due(session, row, source, now)


def derived_on(session: Session, asset: Asset) -> list[derivations.Derived]:
    """Return what is worked out for an asset."""
    return derivations.of_types(session, asset.company_id, [asset.type_id])[asset.type_id]


def standing(session: Session, asset_ids: Iterable[int]) -> dict[int, list[MeterChange]]:
    """Return what was done to the meters of some assets and holds, the earliest first."""
    rows = session.scalars(
        select(MeterChange)
        .where(among(MeterChange.asset_id, asset_ids), MeterChange.withdrawn_at.is_(None))
        .order_by(MeterChange.at, MeterChange.id)
    )
    found: dict[int, list[MeterChange]] = {}
    for row in rows:
        found.setdefault(row.asset_id, []).append(row)
    return found


def listed(session: Session, asset_id: int, *, before: int | None, limit: int) -> Sequence[MeterChange]:
    """Return all of it, what was withdrawn too, the latest note first."""
    query = select(MeterChange).where(MeterChange.asset_id == asset_id).order_by(MeterChange.id.desc()).limit(limit)
    return session.scalars(query if before is None else query.where(MeterChange.id < before)).all()


def as_break(row: MeterChange) -> Break:
    """Return an exchange or a reset as the arithmetic takes it."""
    return Break(clock.to_ms(row.at), row.final, row.initial)


def _source(session: Session, asset: Asset, draft: MeterDraft) -> str:
    """Return the metric out of which follows what the change is about."""
    if draft.kind not in KINDS:
        raise Invalid("Choose one of {kinds}.", field="kind", kinds=", ".join(KINDS))
    for one in derived_on(session, asset):
        if draft.kind == "total" and one.key == draft.metric and one.total is not None:
            return one.source
        if draft.kind != "total" and one.source == draft.metric and one.recipe.how == "counter":
            return one.source
    raise Invalid("Nothing on this asset is worked out of that.", field="metric")


def _make_due(session: Session, row: MeterChange, source: str, now: datetime) -> None:
    at_ms, until_ms = clock.to_ms(row.at), dirty.over_until(clock.to_ms(now))
    begin_ms = hour_of(at_ms)
    if begin_ms < until_ms:
        dirty.mark_asset(session, row.asset_id, begin_ms, begin_ms + HOUR_MS, now, metric=source)


def _tell(session: Session, asset: Asset, action: str, row: MeterChange, actor: str, now: datetime) -> None:
    told = {
        "metric": row.metric,
        "kind": row.kind,
        "at": row.at,
        "final": row.final,
        "initial": row.initial,
        "total": row.total,
        "reason": row.reason,
    }
    is_over = row.withdrawn_at is not None
    audit.record(
        session,
        action,
        subject=f"asset:{asset.id}",
        actor=actor,
        at=now,
        before=told if is_over else None,
        after=None if is_over else told,
        company_id=asset.company_id,
    )
