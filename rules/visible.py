"""Which rules a viewer may read: those of the units within sight, and those that hold there from above.

An alarm type of the company holds on every site. Who works on one site sees what watches it, though changing it
takes the right over the unit the rule belongs to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, or_, select, tuple_
from sqlalchemy.orm import Session, joinedload

from assets import types
from assets.models import Asset
from kernel.errors import NotFound
from people import scope
from people.scope import Viewer
from rules.models import AlarmType, RuleOverride, RuleVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A filter of alarm types; what is None or empty does not filter."""

    asset_type_id: int | None = None
    asset_id: int | None = None
    is_enabled: bool | None = None
    text: str = ""


def readable(viewer: Viewer) -> ColumnElement[bool]:
    """Return the condition that keeps a query of ``AlarmType`` to what the viewer may read and was not removed."""
    above = {int(step) for path in viewer.reach.get("rules.read", ()) for step in path.split("/") if step}
    return AlarmType.removed_at.is_(None) & or_(
        scope.visible(AlarmType, viewer, "rules.read"),
        AlarmType.unit_id.in_(above) & AlarmType.asset_id.is_(None) & (AlarmType.company_id == viewer.company_id),
    )


def find(session: Session, viewer: Viewer, alarm_type_id: int) -> AlarmType:
    """Return an alarm type the viewer may read.

    Raises:
        NotFound: there is none, or it holds nowhere within the viewer's sight.
    """
    found = session.scalars(
        select(AlarmType)
        .where(AlarmType.id == alarm_type_id, readable(viewer))
        .options(joinedload(AlarmType.asset_type))
    ).one_or_none()
    if found is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return found


def listed(
    session: Session,
    viewer: Viewer,
    wanted: Wanted,
    *,
    after: tuple[str, int] | None = None,
    limit: int,
    ids: Sequence[int] | None = None,
) -> list[tuple[AlarmType, RuleVersion]]:
    """Return up to ``limit`` alarm types in order of key, each with the version in force; of ``ids`` if given."""
    query = (
        select(AlarmType, RuleVersion)
        .join(RuleVersion, (RuleVersion.alarm_type_id == AlarmType.id) & (RuleVersion.number == AlarmType.version))
        .where(readable(viewer))
        .options(joinedload(AlarmType.asset_type))
        .order_by(AlarmType.key, AlarmType.id)
        .limit(limit)
    )
    if ids is not None:
        query = query.where(AlarmType.id.in_(ids))
    if wanted.asset_type_id is not None:
        line = types.lineage(session, viewer.company_id).get(wanted.asset_type_id, ())
        query = query.where(AlarmType.asset_type_id.in_(line))
    if wanted.asset_id is not None:
        asset = scope.find(session, Asset, wanted.asset_id, viewer, "rules.read")
        line = types.lineage(session, asset.company_id).get(asset.type_id, ())
        query = query.where(or_(AlarmType.asset_id == asset.id, AlarmType.asset_type_id.in_(line)))
    if wanted.is_enabled is not None:
        query = query.where(AlarmType.is_enabled if wanted.is_enabled else ~AlarmType.is_enabled)
    if wanted.text:
        names = (AlarmType.key, AlarmType.name, AlarmType.name_zh)
        query = query.where(or_(*(column.icontains(wanted.text, autoescape=True) for column in names)))
    if after is not None:
        query = query.where(tuple_(AlarmType.key, AlarmType.id) > after)
    return [(kind, version) for kind, version in session.execute(query)]


def versions(session: Session, kind: AlarmType, *, limit: int = 200) -> Sequence[RuleVersion]:
    """Return the versions of an alarm type, the newest first."""
    return session.scalars(
        select(RuleVersion).where(RuleVersion.alarm_type_id == kind.id).order_by(RuleVersion.number.desc()).limit(limit)
    ).all()


def overridden(
    session: Session, viewer: Viewer, kind: AlarmType, *, limit: int | None = 500
) -> list[tuple[RuleOverride, Asset]]:
    """Return the overrides of an alarm type on assets within the viewer's sight, the first by the assets' code."""
    query = (
        select(RuleOverride, Asset)
        .join(Asset, Asset.id == RuleOverride.asset_id)
        .where(RuleOverride.alarm_type_id == kind.id, scope.visible(Asset, viewer, "rules.read"))
        .order_by(Asset.code)
        .limit(limit)
    )
    return [(patch, asset) for patch, asset in session.execute(query)]
