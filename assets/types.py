"""Kinds of machines and what they measure: a type inherits its parent's metrics and may say them differently.

A metric belongs to a type and never to an asset, so one added to a type is at once on every asset of it, and of
the types below it, without a row being touched (AS-10).
"""

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from assets import dirty, wording
from assets.events import TypeChanged
from assets.models import NUMERIC_KINDS, AssetType, Metric
from kernel import audit, events
from kernel.errors import Conflict, Invalid
from telemetry import units
from telemetry.units import UnknownUnit

KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,59}", re.ASCII)
METRIC_KEY = re.compile(r"[^\s${}/+#][^${}/+#]{0,79}")
KINDS = ("gauge", "counter", "state", "text")
MOST_DECIMALS = 6
LEAST_STUCK = 5
MOST_STUCK = 100_000


@dataclass(frozen=True, slots=True)
class TypeDraft:
    """A type of asset as somebody wants it."""

    key: str
    name: str
    name_zh: str | None = None
    parent_id: int | None = None
    icon: str = "engine"
    skill: str | None = None


@dataclass(frozen=True, slots=True)
class MetricDraft:
    """A metric as somebody wants it; ``low`` and ``high`` bound what is physically possible, in ``unit``.

    ``sent_unit`` is set where devices send it in another unit than ``unit``; ``stuck_after`` None is the default, 0
    never.
    """

    key: str
    name: str
    name_zh: str | None = None
    unit: str = ""
    kind: str = "gauge"
    low: float | None = None
    high: float | None = None
    decimals: int = 1
    expected_interval_s: int | None = None
    sent_unit: str | None = None
    is_on_change: bool = False
    stuck_after: int | None = None
    uses_bad: bool = False


def add(session: Session, draft: TypeDraft, *, company_id: int, actor: str, now: datetime) -> AssetType:
    """Add a type to a company.

    Raises:
        Invalid: key or name do not fit, or the parent is no type of this company.
        Conflict: the company has a type of this key.
    """
    checked = _checked(session, draft, company_id)
    if not KEY.fullmatch(draft.key):
        raise Invalid("A key is made of small letters, digits, dots, hyphens and underscores.", field="key")
    if session.scalar(select(AssetType.id).where(AssetType.company_id == company_id, AssetType.key == draft.key)):
        raise Conflict("There is a type with the key {key} already.", field="key", key=draft.key)
    kind = AssetType(company_id=company_id, **asdict(checked))
    session.add(kind)
    session.flush()
    _tell(session, kind, "type.add", None, asdict(checked), actor=actor, now=now)
    return kind


def change(session: Session, kind: AssetType, draft: TypeDraft, *, actor: str, now: datetime) -> None:
    """Change a type; its key stays, because rules and imports name it.

    Raises:
        Invalid: the name does not fit, or the parent is below the type itself.
    """
    checked = asdict(_checked(session, draft, kind.company_id)) | {"key": kind.key}
    if draft.parent_id is not None and kind.id in lineage(session, kind.company_id).get(draft.parent_id, ()):
        raise Invalid("A type cannot inherit from itself.", field="parent_id")
    before = {key: getattr(kind, key) for key, value in checked.items() if getattr(kind, key) != value}
    if not before:
        return
    for key in before:
        setattr(kind, key, checked[key])
    after = {key: checked[key] for key in before}
    session.flush()
    if "parent_id" in before:
        dirty.mark_types(session, with_descendants(session, kind.company_id, kind.id), None, now)
    _tell(session, kind, "type.change", before, after, actor=actor, now=now)


def _checked(session: Session, draft: TypeDraft, company_id: int) -> TypeDraft:
    if draft.parent_id is not None:
        parent = session.get(AssetType, draft.parent_id)
        if parent is None or parent.company_id != company_id:
            raise Invalid("There is no such type.", field="parent_id")
    return TypeDraft(
        key=draft.key,
        name=wording.needed(draft.name, "name"),
        name_zh=wording.optional(draft.name_zh, "name_zh"),
        parent_id=draft.parent_id,
        icon=wording.optional(draft.icon, "icon", longest=40) or "engine",
        skill=wording.optional(draft.skill, "skill", longest=40),
    )


def add_metric(session: Session, kind: AssetType, draft: MetricDraft, *, actor: str, now: datetime) -> Metric:
    """Let a type measure something more, or say an inherited metric differently.

    Raises:
        Invalid: a field does not fit.
        Conflict: the type itself has a metric of this key.
    """
    checked = asdict(_checked_metric(draft))
    if any(metric.key == draft.key for metric in kind.metrics):
        raise Conflict("This type has a metric {key} already.", field="key", key=draft.key)
    metric = Metric(type_id=kind.id, position=len(kind.metrics), **checked)
    kind.metrics.append(metric)
    session.flush()
    _tell(session, kind, "type.metric.add", None, checked, actor=actor, now=now)
    return metric


def change_metric(
    session: Session, kind: AssetType, metric: Metric, draft: MetricDraft, *, actor: str, now: datetime
) -> None:
    """Change a metric; its key stays, because devices send it.

    Raises:
        Invalid: a field does not fit.
    """
    checked = asdict(_checked_metric(draft)) | {"key": metric.key}
    before = {key: getattr(metric, key) for key, value in checked.items() if getattr(metric, key) != value}
    if not before:
        return
    for key in before:
        setattr(metric, key, checked[key])
    after = {"metric": metric.key} | {key: checked[key] for key in before}
    _tell(session, kind, "type.metric.change", before, after, actor=actor, now=now)


def remove_metric(session: Session, kind: AssetType, metric: Metric, *, actor: str, now: datetime) -> None:
    """Stop describing a metric. Readings stay, and devices may go on sending it: it is then unclassified."""
    kind.metrics.remove(metric)
    session.flush()
    _tell(session, kind, "type.metric.remove", {"key": metric.key, "name": metric.name}, None, actor=actor, now=now)


def _checked_metric(draft: MetricDraft) -> MetricDraft:
    if not METRIC_KEY.fullmatch(draft.key) or draft.key != draft.key.strip():
        raise Invalid("A metric's key has 1 to 80 characters, none of them $ {{ }} / + #.", field="key")
    if draft.kind not in KINDS:
        raise Invalid("Choose one of {kinds}.", field="kind", kinds=", ".join(KINDS))
    for field, value in (("low", draft.low), ("high", draft.high)):
        if value is not None and not math.isfinite(value):
            raise Invalid("This must be a number.", field=field)
    if draft.low is not None and draft.high is not None and draft.high <= draft.low:
        raise Invalid("The upper end must lie above the lower one.", field="high")
    if not 0 <= draft.decimals <= MOST_DECIMALS:
        raise Invalid("Between 0 and {most} decimals, please.", field="decimals", most=MOST_DECIMALS)
    if draft.expected_interval_s is not None and not 1 <= draft.expected_interval_s <= 31_536_000:  # noqa: PLR2004
        raise Invalid("Between one second and one year, please.", field="expected_interval_s")
    if draft.stuck_after is not None and draft.stuck_after != 0 and not LEAST_STUCK <= draft.stuck_after <= MOST_STUCK:
        raise Invalid(
            "Between {least} and {most} readings, or 0 for never.",
            field="stuck_after",
            least=LEAST_STUCK,
            most=MOST_STUCK,
        )
    unit = wording.optional(draft.unit, "unit", longest=20) or ""
    return MetricDraft(
        key=draft.key,
        name=wording.needed(draft.name, "name"),
        name_zh=wording.optional(draft.name_zh, "name_zh"),
        unit=unit,
        sent_unit=_sent_unit(draft, unit),
        is_on_change=draft.is_on_change,
        stuck_after=draft.stuck_after,
        uses_bad=draft.uses_bad,
        kind=draft.kind,
        low=draft.low,
        high=draft.high,
        decimals=draft.decimals,
        expected_interval_s=draft.expected_interval_s,
    )


def _sent_unit(draft: MetricDraft, unit: str) -> str | None:
    """Return the unit a metric is sent in, None where it is the one it is stored in."""
    sent = wording.optional(draft.sent_unit, "sent_unit", longest=20)
    if sent is None or sent == unit:
        return None
    if draft.kind not in NUMERIC_KINDS:
        raise Invalid("Only numbers are converted.", field="sent_unit")
    for field, name in (("sent_unit", sent), ("unit", unit)):
        if name not in units.UNITS:
            raise Invalid("No conversion is known for “{unit}”.", field=field, unit=name)
    try:
        units.conversion(sent, unit)
    except UnknownUnit as error:
        raise Invalid(
            "“{sent}” and “{unit}” do not measure the same.", field="sent_unit", sent=sent, unit=unit
        ) from error
    return sent


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
    events.emit(session, TypeChanged(kind.id), subject=subject, at=now, actor=actor, unit_id=kind.company_id)


def lineage(session: Session, company_id: int) -> dict[int, tuple[int, ...]]:
    """Return, for every type of a company, its own id and those it inherits from, nearest first."""
    known = select(AssetType.id, AssetType.parent_id).where(AssetType.company_id == company_id)
    parents = {identity: parent for identity, parent in session.execute(known)}  # noqa: C416 - rows are no pairs to mypy
    return {identity: _line(identity, parents) for identity in parents}


def _line(identity: int, parents: dict[int, int | None]) -> tuple[int, ...]:
    line: list[int] = []
    step: int | None = identity
    while step is not None and step not in line:
        line.append(step)
        step = parents.get(step)
    return tuple(line)


def metrics(session: Session, company_id: int, type_ids: Iterable[int]) -> dict[int, dict[str, Metric]]:
    """Return for each type what it measures, inherited included, by key: the ancestors' first, the nearest wins.

    Two queries, however many types are asked for.
    """
    lines = lineage(session, company_id)
    asked = {identity: lines.get(identity, (identity,)) for identity in set(type_ids)}
    involved = {ancestor for line in asked.values() for ancestor in line}
    kinds = {
        kind.id: kind
        for kind in session.scalars(
            select(AssetType).where(AssetType.id.in_(involved)).options(selectinload(AssetType.metrics))
        )
    }
    described: dict[int, dict[str, Metric]] = {}
    for identity, line in asked.items():
        inherited = (kinds[ancestor] for ancestor in reversed(line) if ancestor in kinds)
        described[identity] = {metric.key: metric for kind in inherited for metric in kind.metrics}
    return described


def with_descendants(session: Session, company_id: int, type_id: int) -> list[int]:
    """Return a type's id and those of all types that inherit from it."""
    return [identity for identity, line in lineage(session, company_id).items() if type_id in line]
