"""The limits that hold on one asset now, overrides included: for drawing them into its curves and listing its rules."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from assets.models import Asset
from rules import questions, standing, trees


@dataclass(frozen=True, slots=True)
class Limit:
    """One comparison that stands on an asset."""

    alarm_type_id: int
    severity: str
    metric: str
    operator: str
    value: float
    is_overridden: bool


def limits_of(session: Session, asset: Asset, metrics: Iterable[str] | None = None) -> list[Limit]:
    """Return the limits of an asset's create rules, of some metrics or of all, the worst severity first."""
    wanted = None if metrics is None else set(metrics)
    return [
        Limit(rule.alarm_type_id, severity.key, one.metric, one.operator, one.limit, rule.is_overridden)
        for rule in standing.read(session, asset_ids=[asset.id])
        for severity, create in rule.instance.definition.create.by_severity()
        for leaf in trees.leaves(create.condition)
        for one in questions.limits(leaf)
        # A limit of something that is seen of a metric, or added to another one, is no line in its curve.
        if one.view is None and one.other is None and isinstance(one.limit, float | int)
        if wanted is None or one.metric in wanted
    ]
