"""How bad it is, seen from above: the worst of the open alarms and their number, by asset with its parts and by site.

Computed from the open alarms outwards, of which there are few, and never from the assets, of which there are many.
A viewer's sum holds what the viewer may see and nothing else (ALM-11).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Select, case, cast, func, select, true
from sqlalchemy.orm import Session

from assets.models import Asset
from people import scope
from people.models import Customer
from people.scope import Viewer
from rules.models import SEVERITIES, Alarm

RANK = case({severity: rank for rank, severity in enumerate(SEVERITIES)}, value=Alarm.severity)
"""0 is critical, 4 is info."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The worst severity among open alarms, and how many there are."""

    severity: str
    count: int


def of_assets(session: Session, viewer: Viewer, asset_ids: Iterable[int]) -> dict[int, Trouble]:
    """Return the trouble of each of these assets with all its parts; assets that are well are missing."""
    spread = _spread(viewer).subquery()
    rows = session.execute(
        select(spread.c.asset_id, func.min(spread.c.rank), func.count())
        .where(spread.c.asset_id.in_(list(asset_ids)))
        .group_by(spread.c.asset_id)
    )
    return {asset_id: Trouble(SEVERITIES[rank], count) for asset_id, rank, count in rows}


def of_sites(session: Session, viewer: Viewer) -> dict[int, Trouble]:
    """Return the trouble of each site the viewer sees; sites that are well are missing."""
    rows = session.execute(
        select(Asset.site_id, func.min(RANK), func.count())
        .join(Alarm, Alarm.asset_id == Asset.id)
        .where(Alarm.is_active, scope.visible(Alarm, viewer, "alarms.read"))
        .group_by(Asset.site_id)
    )
    return {site_id: Trouble(SEVERITIES[rank], count) for site_id, rank, count in rows}


def of_customers(session: Session, viewer: Viewer) -> dict[int, Trouble]:
    """Return the trouble on the assets of each customer, as far as the viewer sees it; who has none is missing."""
    rows = session.execute(
        select(Asset.customer_id, func.min(RANK), func.count())
        .join(Alarm, Alarm.asset_id == Asset.id)
        .where(Alarm.is_active, Asset.customer_id.is_not(None), scope.visible(Alarm, viewer, "alarms.read"))
        .group_by(Asset.customer_id)
    )
    return {customer_id: Trouble(SEVERITIES[rank], count) for customer_id, rank, count in rows if customer_id}


def customers(session: Session, viewer: Viewer) -> list[tuple[Customer, Trouble]]:
    """Return the customers with open alarms within sight, the worst first."""
    trouble = of_customers(session, viewer)
    rows = session.scalars(
        select(Customer).where(Customer.id.in_(trouble), Customer.company_id == viewer.company_id)
    ).all()
    return sorted(
        ((row, trouble[row.id]) for row in rows),
        key=lambda one: (SEVERITIES.index(one[1].severity), -one[1].count, one[0].name, one[0].id),
    )


def troubled(viewer: Viewer, severity: str | None = None) -> Select[Any]:
    """Return the select of ids of assets that have, or whose parts have, an open alarm; at least that severe."""
    spread = _spread(viewer).subquery()
    query = select(spread.c.asset_id)
    return query if severity is None else query.where(spread.c.rank <= SEVERITIES.index(severity))


def _spread(viewer: Viewer) -> Select[Any]:
    """Return each open alarm once for its asset and once for every asset around that one."""
    steps = func.unnest(func.string_to_array(func.btrim(Asset.path, "/"), "/")).table_valued("step", name="steps")
    steps = steps.render_derived()
    return (
        select(cast(steps.c.step, BigInteger).label("asset_id"), RANK.label("rank"))
        .select_from(Alarm)
        .join(Asset, Asset.id == Alarm.asset_id)
        .join(steps, true())
        .where(Alarm.is_active, scope.visible(Alarm, viewer, "alarms.read"))
    )
