"""Derived metrics of a type: which metric is worked out of which other one, how, and for whom (TEL-7).

A derived metric is a metric of the type like any other, with a recipe beside it; so it has a name and a unit, is
inherited, drawn, exported and compared. What hours add up to is a second metric, the running total. A changed recipe
makes all that can still be read due again.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import dirty, types
from assets.derived_tables import Derivation
from assets.models import AssetType, Metric
from assets.types import MetricDraft
from kernel import audit
from kernel.errors import Invalid
from telemetry.derived import HOWS, SUMMED, How, Recipe

TOTAL: Final = "_total"
"""Ends the key of the running total."""
MOST_KEY: Final = 80 - len(TOTAL)
MOST_BITS: Final = 53
HOLD_S: Final = 600
"""For how long a reading speaks whose metric has no expected interval (SEMANTICS A8)."""
HOLDS: Final = 3
MOST_HOLD_S: Final = 86_400
HOUR_S: Final = 3600
_FOR_RUNNING: Final = frozenset({"run_hours", "starts", "cycles"})


@dataclass(frozen=True, slots=True)
class DerivedDraft:
    """A derived metric as somebody wants it; an empty unit is the one that follows from the source."""

    key: str
    name: str
    source: str
    how: str
    name_zh: str | None = None
    unit: str = ""
    decimals: int = 1
    above: float | None = None
    wraps_at: float | None = None
    scale: float = 1.0
    hold_s: int | None = None
    per_s: int | None = None


@dataclass(frozen=True, slots=True)
class Derived:
    """A derived metric as it holds for a type: its own or an inherited one."""

    key: str
    total: str | None
    source: str
    recipe: Recipe


def add(session: Session, kind: AssetType, draft: DerivedDraft, *, actor: str, now: datetime) -> Derivation:
    """Let a metric be worked out for every asset of a type, also of what is already stored.

    Raises:
        Invalid: a field does not fit, or there is no such source.
        Conflict: the type has a metric of this key.
    """
    checked = _checked(session, kind, draft)
    metric = types.add_metric(session, kind, _hourly(checked), actor=actor, now=now)
    total = None
    if checked.how in SUMMED:
        total = types.add_metric(session, kind, _summed(checked), actor=actor, now=now)
    row = Derivation(metric_id=metric.id, total_id=total.id if total else None, **_recipe_fields(checked))
    session.add(row)
    session.flush()
    _tell(session, kind, "type.derived.add", None, _told(row), actor=actor, now=now)
    _make_due(session, kind, row.source, now)
    return row


def change(
    session: Session, kind: AssetType, row: Derivation, draft: DerivedDraft, *, actor: str, now: datetime
) -> None:
    """Change a derived metric; its key and what kind of figure it is stay.

    Raises:
        Invalid: a field does not fit, or there is no such source.
    """
    before = _told(row)
    if draft.how != row.how:
        raise Invalid("What is worked out stays as it is. Add another derived metric instead.", field="how")
    checked = _checked(session, kind, draft)
    types.change_metric(session, kind, row.metric, _hourly(checked), actor=actor, now=now)
    if row.total is not None:
        types.change_metric(session, kind, row.total, _summed(checked), actor=actor, now=now)
    sources = {row.source, checked.source}
    for name, value in _recipe_fields(checked).items():
        setattr(row, name, value)
    session.flush()
    after = _told(row)
    if before != after:
        _tell(session, kind, "type.derived.change", before, after, actor=actor, now=now)
        for source in sorted(sources):
            _make_due(session, kind, source, now)


def remove(session: Session, kind: AssetType, row: Derivation, *, actor: str, now: datetime) -> None:
    """Stop working a metric out. What was worked out stays readable, like the readings of any metric removed."""
    before = _told(row)
    metric, total = row.metric, row.total
    session.delete(row)
    session.flush()
    _tell(session, kind, "type.derived.remove", before, None, actor=actor, now=now)
    for one in (metric, total):
        if one is not None:
            types.remove_metric(session, kind, one, actor=actor, now=now)


def own(session: Session, kind: AssetType) -> dict[int, Derivation]:
    """Return the derivations that a type states itself, by the id of the metric that holds the hours."""
    rows = session.scalars(
        select(Derivation).join(Metric, Metric.id == Derivation.metric_id).where(Metric.type_id == kind.id)
    )
    return {row.metric_id: row for row in rows}


def of_types(session: Session, company_id: int, type_ids: Iterable[int]) -> dict[int, list[Derived]]:
    """Return for each type what is worked out, inherited included; a metric said differently below is not."""
    described = types.metrics(session, company_id, type_ids)
    wanted = {metric.id for metrics in described.values() for metric in metrics.values()}
    rows = {row.metric_id: row for row in session.scalars(select(Derivation).where(Derivation.metric_id.in_(wanted)))}
    return {
        identity: [_derived(metric, rows[metric.id], metrics) for metric in metrics.values() if metric.id in rows]
        for identity, metrics in described.items()
    }


def all_metrics(session: Session) -> frozenset[int]:
    """Return the ids of all metrics that are worked out, totals too: no device may send them."""
    rows = session.execute(select(Derivation.metric_id, Derivation.total_id))
    return frozenset(identity for row in rows for identity in row if identity is not None)


def rows_of(session: Session, metrics: Iterable[Metric]) -> dict[int, Derivation]:
    """Return the derivations behind some metrics, by the metric's id: that of the hours, and that of the total."""
    wanted = [metric.id for metric in metrics]
    found = session.scalars(
        select(Derivation).where(Derivation.metric_id.in_(wanted) | Derivation.total_id.in_(wanted))
    ).all()
    by_total = {row.total_id: row for row in found if row.total_id is not None}
    return by_total | {row.metric_id: row for row in found}


def _derived(metric: Metric, row: Derivation, described: Mapping[str, Metric]) -> Derived:
    source = described.get(row.source)
    hold_s = row.hold_s or (HOLD_S if source is None else _hold_s(source))
    recipe = Recipe(
        cast("How", row.how),
        above=0.5 if row.above is None else row.above,
        wraps_at=row.wraps_at,
        scale=row.scale,
        hold_ms=min(hold_s, MOST_HOLD_S) * 1000,
        per_ms=(row.per_s or HOUR_S) * 1000,
    )
    return Derived(metric.key, metric.key + TOTAL if row.how in SUMMED else None, row.source, recipe)


def _hold_s(source: Metric) -> int:
    if source.is_on_change:
        return MOST_HOLD_S
    return HOLD_S if source.expected_interval_s is None else HOLDS * source.expected_interval_s


def _checked(session: Session, kind: AssetType, draft: DerivedDraft) -> DerivedDraft:
    if draft.how not in HOWS:
        raise Invalid("Choose one of {kinds}.", field="how", kinds=", ".join(HOWS))
    if len(draft.key) > MOST_KEY:
        raise Invalid("At most {longest} characters fit here.", field="key", longest=MOST_KEY)
    described = types.metrics(session, kind.company_id, [kind.id])[kind.id]
    source = described.get(draft.source)
    if source is None or source.kind == "text":
        raise Invalid("Choose a metric of this type that holds numbers.", field="source")
    if rows_of(session, [source]):
        raise Invalid("{metric} is worked out itself. Choose what is measured.", field="source", metric=source.name)
    _check_numbers(draft)
    return DerivedDraft(
        key=draft.key,
        name=draft.name,
        name_zh=draft.name_zh,
        source=draft.source,
        how=draft.how,
        unit=draft.unit.strip() or _unit(draft, source.unit),
        decimals=draft.decimals,
        above=draft.above if draft.how in _FOR_RUNNING else None,
        wraps_at=draft.wraps_at if draft.how == "counter" else None,
        scale=draft.scale,
        hold_s=draft.hold_s,
        per_s=draft.per_s if draft.how == "rate" else None,
    )


def _check_numbers(draft: DerivedDraft) -> None:
    for field, value in (("above", draft.above), ("scale", draft.scale), ("wraps_at", draft.wraps_at)):
        if value is not None and not math.isfinite(value):
            raise Invalid("This must be a number.", field=field)
    if draft.scale == 0:
        raise Invalid("Everything times 0 is 0.", field="scale")
    if draft.wraps_at is not None and not 1 < draft.wraps_at <= 2**MOST_BITS:
        raise Invalid("A counter has between 1 and {most} bits.", field="wraps_at", most=MOST_BITS)
    if draft.hold_s is not None and not 1 <= draft.hold_s <= MOST_HOLD_S:
        raise Invalid("Between one second and one day, please.", field="hold_s")
    if draft.per_s is not None and not 1 <= draft.per_s <= MOST_HOLD_S:
        raise Invalid("Between one second and one day, please.", field="per_s")


def _unit(draft: DerivedDraft, source: str) -> str:
    """Return the unit that follows from what is worked out; a scale makes another one, which somebody has to say."""
    if draft.how == "run_hours":
        return "h"
    if draft.how in {"starts", "cycles", "deviation"} or draft.scale != 1:
        return ""
    if draft.how == "energy":
        return f"{source}h" if source else ""
    if draft.how == "rate":
        per = {1: "s", 60: "min", HOUR_S: "h", 86_400: "d"}.get(draft.per_s or HOUR_S, "")
        return f"{source}/{per}" if source and per else ""
    return source


def _hourly(draft: DerivedDraft) -> MetricDraft:
    return MetricDraft(
        key=draft.key,
        name=draft.name,
        name_zh=draft.name_zh,
        unit=draft.unit,
        decimals=draft.decimals,
        expected_interval_s=HOUR_S,
    )


def _summed(draft: DerivedDraft) -> MetricDraft:
    return MetricDraft(
        key=draft.key + TOTAL,
        name=f"{draft.name}, total",
        name_zh=f"{draft.name_zh or draft.name}累计",
        unit=draft.unit,
        kind="counter",
        decimals=draft.decimals,
        expected_interval_s=HOUR_S,
    )


def _recipe_fields(draft: DerivedDraft) -> dict[str, object]:
    kept = ("source", "how", "above", "wraps_at", "scale", "hold_s", "per_s")
    return {name: value for name, value in asdict(draft).items() if name in kept}


def _told(row: Derivation) -> dict[str, object]:
    return {
        "key": row.metric.key if row.metric is not None else None,
        "source": row.source,
        "how": row.how,
        "above": row.above,
        "wraps_at": row.wraps_at,
        "scale": row.scale,
        "hold_s": row.hold_s,
        "per_s": row.per_s,
    }


def _make_due(session: Session, kind: AssetType, source: str, now: datetime) -> None:
    dirty.mark_types(session, types.with_descendants(session, kind.company_id, kind.id), source, now)


def _tell(
    session: Session,
    kind: AssetType,
    action: str,
    before: dict[str, object] | None,
    after: dict[str, object] | None,
    *,
    actor: str,
    now: datetime,
) -> None:
    subject = f"type:{kind.id}"
    audit.record(
        session, action, subject=subject, actor=actor, at=now, before=before, after=after, company_id=kind.company_id
    )
