"""Of which series rules use bad values too, because the catalogue says so of their metric (TEL-4).

For what rules read out of the store: windows that are recalled, and what is newest at a start. Live readings are sorted
where they are resolved. Hardly any metric asks for it, so this is one short query as a rule.
"""

from collections.abc import Collection

import numpy as np
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from assets import types
from assets.models import Asset, AssetType, Binding, Metric
from telemetry import quality
from telemetry.models import Series
from telemetry.readings import Flag, Mask, Readings


def used(session: Session) -> frozenset[int]:
    """Return the numbers of the series, of devices that are bound now."""
    asking = select(AssetType.company_id).join(Metric, Metric.type_id == AssetType.id).where(Metric.uses_bad)
    found: set[int] = set()
    for company_id in session.scalars(asking.distinct()):
        of_company = session.scalars(select(AssetType.id).where(AssetType.company_id == company_id))
        described = types.metrics(session, company_id, of_company)
        pairs = [(kind, key) for kind, named in described.items() for key, one in named.items() if one.uses_bad]
        found |= {
            *session.scalars(
                select(Series.id)
                .join(Binding, Binding.device_id == Series.device_id)
                .join(Asset, Asset.id == Binding.asset_id)
                .where(Binding.ends_at.is_(None), tuple_(Asset.type_id, Series.metric).in_(pairs))
            )
        }
    return frozenset(found)


def is_used(found: Readings, bad: Collection[int]) -> Mask:
    """Return which readings rules use: not what is bad, but of the series ``bad``, and not what was sent as history."""
    used = ~quality.has(found.flags, quality.UNUSED)
    if bad:
        used |= np.isin(found.series, [*bad]) & ~quality.has(found.flags, Flag.HISTORICAL)
    return used
