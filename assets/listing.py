"""Which assets and devices a viewer is shown, in what order: for lists, trees, search and the API.

Every list pages by its sort key and costs a constant number of queries.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, exists, false, func, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload, selectinload

from assets import types
from assets.models import Asset, AssetType, Binding, Device, Location, Site
from people import scope
from people.scope import Viewer
from telemetry.models import Series

SORTS: Final[dict[str, InstrumentedAttribute[Any]]] = {"code": Asset.code, "name": Asset.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A filter of assets; what is None or empty does not filter. ``within`` takes an asset with all its parts."""

    text: str = ""
    type_id: int | None = None
    site_id: int | None = None
    location_id: int | None = None
    parent_id: int | None = None
    within: int | None = None
    status: str | None = None
    is_top: bool = False


def assets(
    session: Session,
    viewer: Viewer,
    wanted: Wanted,
    *,
    sort: str = "code",
    after: tuple[str, int] | None = None,
    limit: int,
    among: Select[Any] | None = None,
) -> Sequence[Asset]:
    """Return up to ``limit`` assets with type, site and location; ``among`` narrows them to a select of ids.

    ``sort`` is a key of ``SORTS``, with a minus for descending; ``after`` is the (value, id) of the row before.
    """
    column = SORTS[sort.removeprefix("-")]
    query = (
        select(Asset)
        # The company is implied by the viewer's sight; said again, the index by company and code gives the order.
        .where(Asset.company_id == viewer.company_id, scope.visible(Asset, viewer, "assets.read"))
        .where(*_conditions(session, viewer, wanted))
        .options(joinedload(Asset.type), joinedload(Asset.site), joinedload(Asset.location))
        .limit(limit)
    )
    if among is not None:
        query = query.where(Asset.id.in_(among))
    if sort.startswith("-"):
        query = query.order_by(column.desc(), Asset.id.desc())
        query = query if after is None else query.where(tuple_(column, Asset.id) < after)
    else:
        query = query.order_by(column, Asset.id)
        query = query if after is None else query.where(tuple_(column, Asset.id) > after)
    return session.scalars(query).all()


def _conditions(session: Session, viewer: Viewer, wanted: Wanted) -> Iterable[ColumnElement[bool]]:
    if wanted.text:
        yield or_(
            *(
                column.icontains(wanted.text, autoescape=True)
                for column in (Asset.code, Asset.name, Asset.name_zh, Asset.serial)
            )
        )
    if wanted.type_id is not None:
        yield Asset.type_id.in_(types.with_descendants(session, viewer.company_id, wanted.type_id))
    if wanted.within is not None:
        path = session.scalar(
            select(Asset.path).where(Asset.id == wanted.within, scope.visible(Asset, viewer, "assets.read"))
        )
        yield Asset.path.startswith(path, autoescape=True) if path else false()
    for column, value in (
        (Asset.site_id, wanted.site_id),
        (Asset.location_id, wanted.location_id),
        (Asset.parent_id, wanted.parent_id),
        (Asset.status, wanted.status),
    ):
        if value is not None:
            yield column == value
    if wanted.is_top:
        yield Asset.parent_id.is_(None)


def with_parts(session: Session, asset_ids: Iterable[int]) -> set[int]:
    """Return which of these assets have parts."""
    wanted = list(asset_ids)
    return (
        set(session.scalars(select(Asset.parent_id).where(Asset.parent_id.in_(wanted)).distinct())) if wanted else set()
    )


def connection(session: Session, asset_ids: Iterable[int]) -> dict[int, bool]:
    """Return for each asset that devices are bound to whether all of them are online."""
    rows = session.execute(
        select(Binding.asset_id, func.bool_and(Device.is_online))
        .join(Device, Device.id == Binding.device_id)
        .where(Binding.asset_id.in_(list(asset_ids)), Binding.ends_at.is_(None))
        .group_by(Binding.asset_id)
    )
    return {asset_id: is_online for asset_id, is_online in rows}  # noqa: C416 - rows are no pairs to mypy


def sites(
    session: Session, viewer: Viewer, *, text: str = "", after: tuple[str, int] | None = None, limit: int = 500
) -> Sequence[Site]:
    """Return up to ``limit`` sites in order of name."""
    query = select(Site).where(scope.visible(Site, viewer, "assets.read")).order_by(Site.name, Site.id).limit(limit)
    if text:
        query = query.where(
            or_(Site.name.icontains(text, autoescape=True), Site.name_zh.icontains(text, autoescape=True))
        )
    if after is not None:
        query = query.where(tuple_(Site.name, Site.id) > after)
    return session.scalars(query).all()


def counts_by_site(session: Session, viewer: Viewer) -> dict[int, int]:
    """Return how many assets a viewer sees on each site."""
    rows = session.execute(
        select(Asset.site_id, func.count()).where(scope.visible(Asset, viewer, "assets.read")).group_by(Asset.site_id)
    )
    return {site_id: count for site_id, count in rows}  # noqa: C416 - rows are no pairs to mypy


def locations(
    session: Session,
    viewer: Viewer,
    *,
    site_id: int | None = None,
    after: tuple[str, int] | None = None,
    limit: int = 500,
) -> Sequence[Location]:
    """Return up to ``limit`` locations of the sites a viewer sees, in order of name."""
    query = (
        select(Location)
        .join(Site, Site.id == Location.site_id)
        .where(scope.visible(Site, viewer, "assets.read"))
        .order_by(Location.name, Location.id)
        .limit(limit)
    )
    if site_id is not None:
        query = query.where(Location.site_id == site_id)
    if after is not None:
        query = query.where(tuple_(Location.name, Location.id) > after)
    return session.scalars(query).all()


def all_types(
    session: Session, viewer: Viewer, *, after: tuple[str, int] | None = None, limit: int = 500
) -> Sequence[AssetType]:
    """Return up to ``limit`` types of the viewer's company in order of key, with their own metrics.

    Types belong to the whole company: whoever may see any of its assets may see what kinds there are.
    """
    if not viewer.may("assets.read"):
        return []
    query = (
        select(AssetType)
        .where(AssetType.company_id == viewer.company_id)
        .options(selectinload(AssetType.metrics))
        .order_by(AssetType.key, AssetType.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(AssetType.key, AssetType.id) > after)
    return session.scalars(query).all()


@dataclass(frozen=True, slots=True)
class Unclassified:
    """A metric that devices send and no type describes: on how many assets, and since when."""

    metric: str
    assets: int
    since: datetime


def unclassified(
    session: Session, viewer: Viewer, kind: AssetType, *, after: str | None = None, limit: int
) -> list[Unclassified]:
    """Return what is measured now on assets of a type, in sight, and described neither by it nor by its ancestors."""
    described = types.metrics(session, kind.company_id, [kind.id])[kind.id]
    query = (
        select(Series.metric, func.count(Asset.id.distinct()), func.min(Series.created_at))
        .join(Binding, (Binding.device_id == Series.device_id) & Binding.ends_at.is_(None))
        .join(Asset, Asset.id == Binding.asset_id)
        .where(Asset.type_id == kind.id, scope.visible(Asset, viewer, "assets.read"))
        .where(Series.metric.not_in(list(described)))
        .group_by(Series.metric)
        .order_by(Series.metric)
        .limit(limit)
    )
    if after is not None:
        query = query.where(Series.metric > after)
    return [Unclassified(*row) for row in session.execute(query)]


def devices(
    session: Session,
    viewer: Viewer,
    *,
    text: str = "",
    state: str | None = None,
    asset_id: int | None = None,
    gateway_id: int | None = None,
    after: tuple[str, int] | None = None,
    limit: int,
) -> Sequence[Device]:
    """Return up to ``limit`` devices in order of key.

    ``state`` is online, offline, unreachable, quiet, unbound or revoked; ``gateway_id`` keeps what lies behind one.
    """
    bound = exists().where(Binding.device_id == Device.id, Binding.ends_at.is_(None))
    query = select(Device).where(scope.visible(Device, viewer, "assets.read")).order_by(Device.key, Device.id)
    if text:
        query = query.where(
            or_(Device.key.icontains(text, autoescape=True), Device.name.icontains(text, autoescape=True))
        )
    if asset_id is not None:
        query = query.where(bound.where(Binding.asset_id == asset_id))
    if gateway_id is not None:
        query = query.where(Device.gateway_id == gateway_id)
    if state in _DEVICE_STATES:
        query = query.where(_DEVICE_STATES[state](bound))
    if after is not None:
        query = query.where(tuple_(Device.key, Device.id) > after)
    return session.scalars(query.limit(limit)).all()


_DEVICE_STATES: Final[dict[str, Any]] = {
    "online": lambda _bound: and_(Device.is_online, Device.revoked_at.is_(None)),
    "offline": lambda _bound: and_(~Device.is_online, Device.revoked_at.is_(None)),
    "unreachable": lambda _bound: and_(Device.connection == "unreachable", Device.revoked_at.is_(None)),
    "quiet": lambda _bound: and_(Device.quiet_since.is_not(None), Device.revoked_at.is_(None)),
    "unbound": lambda bound: and_(~bound, Device.revoked_at.is_(None)),
    "revoked": lambda _bound: Device.revoked_at.is_not(None),
}


def bound_now(session: Session, device_ids: Iterable[int]) -> dict[int, Binding]:
    """Return the present binding of each of these devices that has one, with its asset."""
    rows = session.scalars(
        select(Binding)
        .where(Binding.device_id.in_(list(device_ids)), Binding.ends_at.is_(None))
        .options(joinedload(Binding.asset))
    )
    return {binding.device_id: binding for binding in rows}
