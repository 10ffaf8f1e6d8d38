"""For how long readings are kept: as the settings say, as a type says, and for ever while an asset is on hold.

For housekeeping, which asks for every series' horizon at once, and for the pages on which people decide it.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from assets import types, wording
from assets.keeping_tables import LegalHold, Retention
from assets.models import Asset, AssetType, Binding
from kernel import audit
from kernel.errors import Conflict, Invalid
from telemetry.models import Series
from telemetry.readings import Int64s
from telemetry.retention import NEVER, Horizon, Lifetimes

MOST_DAYS: Final = 36_500
_BINDINGS_AT_ONCE: Final = 50_000


def lifetimes(session: Session, company_id: int, type_ids: Iterable[int]) -> dict[int, tuple[Lifetimes, int]]:
    """Return the lifetimes that types state or inherit, and which type states them; others follow the settings."""
    stated = {row.type_id: row for row in session.scalars(select(Retention))}
    lines = types.lineage(session, company_id)
    found = {}
    for identity in type_ids:
        for ancestor in lines.get(identity, ()):
            if ancestor in stated:
                row = stated[ancestor]
                found[identity] = Lifetimes(row.raw_days, row.minute_days, row.hour_days), ancestor
                break
    return found


def state(
    session: Session, kind: AssetType, wanted: Lifetimes | None, *, has_tiers: bool, actor: str, now: datetime
) -> None:
    """Let a type have lifetimes of its own, or those it inherits when ``wanted`` is None.

    Raises:
        Invalid: the days are out of bounds, or hours are kept shorter than what is exact.
        Conflict: the telemetry store keeps all series alike.
    """
    if not has_tiers:
        raise Conflict(
            "This telemetry server keeps all readings alike, for as long as it is set up to. Lifetimes by type need"
            " the embedded store.",
            field="raw_days",
        )
    if wanted is not None:
        _check(wanted)
    row = session.get(Retention, kind.id)
    before = None if row is None else _told(Lifetimes(row.raw_days, row.minute_days, row.hour_days))
    after = None if wanted is None else _told(wanted)
    if before == after:
        return
    if row is not None:
        session.delete(row)
        session.flush()
    if wanted is not None:
        session.add(Retention(type_id=kind.id, **_told(wanted)))
    session.flush()
    audit.record(
        session,
        "type.retention",
        subject=f"type:{kind.id}",
        actor=actor,
        at=now,
        before=before,
        after=after,
        company_id=kind.company_id,
    )


def _told(wanted: Lifetimes) -> dict[str, int]:
    return {"raw_days": wanted.raw_days, "minute_days": wanted.minute_days, "hour_days": wanted.hour_days}


def _check(wanted: Lifetimes) -> None:
    for field, days, least in (
        ("raw_days", wanted.raw_days, 1),
        ("minute_days", wanted.minute_days, 0),
        ("hour_days", wanted.hour_days, 1),
    ):
        if not least <= days <= MOST_DAYS:
            raise Invalid("Between {least} and {most} days, please.", field=field, least=least, most=MOST_DAYS)
    if wanted.minute_days and wanted.minute_days < wanted.raw_days:
        raise Invalid("Minutes are kept at least as long as exact readings, or not at all (0).", field="minute_days")
    if wanted.hour_days < max(wanted.raw_days, wanted.minute_days):
        raise Invalid("Hours are kept at least as long as minutes and exact readings.", field="hour_days")


def hold(session: Session, asset: Asset, reason: str, *, actor: str, now: datetime) -> None:
    """Let no reading of an asset be forgotten until it is released.

    Raises:
        Invalid: there is no reason.
        Conflict: it is on hold already.
    """
    if session.get(LegalHold, asset.id) is not None:
        raise Conflict("This asset is on hold already.")
    row = LegalHold(asset_id=asset.id, reason=wording.needed(reason, "reason", longest=300), by=actor, at=now)
    session.add(row)
    session.flush()
    _tell(session, asset, "asset.hold", {"reason": row.reason}, actor, now)


def release(session: Session, asset: Asset, *, actor: str, now: datetime) -> None:
    """Let readings of an asset be forgotten again when their time is over.

    Raises:
        Conflict: it is not on hold.
    """
    row = session.get(LegalHold, asset.id)
    if row is None:
        raise Conflict("This asset is not on hold.")
    session.delete(row)
    session.flush()
    _tell(session, asset, "asset.release", {"reason": row.reason}, actor, now)


def _tell(session: Session, asset: Asset, action: str, after: dict[str, str], actor: str, now: datetime) -> None:
    subject = f"asset:{asset.id}"
    audit.record(session, action, subject=subject, actor=actor, at=now, after=after, company_id=asset.company_id)


def own_horizons(session: Session, default: Lifetimes, now_ms: int) -> dict[Horizon, Int64s]:
    """Return the series that are kept for another time than the default, by their horizon.

    A series that spoke for several assets is kept as long as the one that wants it longest. Two queries and one
    pass over the bindings of the types and assets concerned, so a million series take seconds.
    """
    told = _lifetimes_by_type(session)
    held = set(session.scalars(select(LegalHold.asset_id)))
    if not told and not held:
        return {}
    rows = session.execute(
        select(Series.id, func.array_agg(Asset.type_id.distinct()), func.array_agg(Asset.id.distinct()))
        .join(Binding, Binding.device_id == Series.device_id)
        .join(Asset, Asset.id == Binding.asset_id)
        .group_by(Series.id),
        execution_options={"yield_per": _BINDINGS_AT_ONCE},
    )
    common = default.horizon(now_ms)
    horizons = {identity: some.horizon(now_ms) for identity, some in told.items()}
    found: dict[Horizon, list[int]] = {}
    for number, type_ids, asset_ids in rows:
        if held.intersection(asset_ids):
            mine = NEVER
        else:
            mine = _longest([horizons.get(identity, common) for identity in type_ids])
        if mine != common:
            found.setdefault(mine, []).append(number)
    return {horizon: np.array(numbers, np.int64) for horizon, numbers in found.items()}


def _longest(horizons: list[Horizon]) -> Horizon:
    if len(horizons) == 1:
        return horizons[0]
    return Horizon(
        min(one.raw_ms for one in horizons),
        min(one.minute_ms for one in horizons),
        min(one.hour_ms for one in horizons),
        has_minutes=any(one.has_minutes for one in horizons),
    )


def _lifetimes_by_type(session: Session) -> dict[int, Lifetimes]:
    """Return the lifetimes of every type that states or inherits some, of all companies."""
    if session.scalar(select(func.count()).select_from(Retention)) == 0:
        return {}
    kinds = session.execute(select(AssetType.id, AssetType.company_id)).all()
    companies = {row.company_id for row in kinds}
    return {
        identity: told
        for company in companies
        for identity, (told, _) in lifetimes(
            session, company, [row.id for row in kinds if row.company_id == company]
        ).items()
    }


def asked_for(session: Session) -> list[str]:
    """Return the names of what is asked for and needs a store that tells series apart."""
    counts = {
        "lifetimes by type": session.scalar(select(func.count()).select_from(Retention)),
        "legal holds": session.scalar(select(func.count()).select_from(LegalHold)),
    }
    return [name for name, count in counts.items() if count]
