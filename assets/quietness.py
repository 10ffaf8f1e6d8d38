"""When silence is too long: by type, so many times the expected interval, or by device in seconds (ING-15).

A type's limit is its factor times the shortest interval that one of its metrics is expected at; factor and severity
are inherited from the type above. A type whose metrics expect no interval has no limit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from assets.derived_tables import Derivation
from assets.events import TypeChanged
from assets.models import AssetType, Device, Metric
from kernel import audit, events
from kernel.errors import Invalid

FACTOR: Final = 3.0
SEVERITY: Final = "warning"
"""One less than what opens a work order by itself."""
SEVERITIES: Final = ("off", "info", "warning", "minor", "major", "critical")
_LONGEST_S: Final = 366 * 86_400
_LARGEST_FACTOR: Final = 10_000.0


@dataclass(frozen=True, slots=True)
class Limit:
    """What a type says about silence; ``limit_s`` None: nothing, 0: it never matters."""

    type_id: int
    limit_s: float | None
    severity: str


def of_types(session: Session) -> Sequence[Limit]:
    """Return what every type says about silence."""
    shortest: dict[int, int] = {
        row.type_id: row.shortest
        for row in session.execute(
            select(Metric.type_id, func.min(Metric.expected_interval_s).label("shortest"))
            .where(Metric.expected_interval_s > 0, ~_worked_out())
            .group_by(Metric.type_id)
        )
    }
    rows = {
        row.id: row
        for row in session.execute(
            select(AssetType.id, AssetType.parent_id, AssetType.quiet_factor, AssetType.quiet_severity)
        )
    }
    return [_limit([rows[step] for step in _line(type_id, rows)], shortest) for type_id in rows]


def _worked_out() -> ColumnElement[bool]:
    """Return that a metric is worked out here: that it comes says nothing about a device."""
    return exists().where((Derivation.metric_id == Metric.id) | (Derivation.total_id == Metric.id))


def _line(type_id: int, rows: Mapping[int, Any]) -> list[int]:
    """Return a type and those it inherits from, the nearest first."""
    line: list[int] = []
    step: int | None = type_id
    while step is not None and step not in line:
        line.append(step)
        step = rows[step].parent_id
    return line


def _limit(line: Sequence[Any], shortest: Mapping[int, int]) -> Limit:
    intervals = [shortest[row.id] for row in line if row.id in shortest]
    factor: float = next((row.quiet_factor for row in line if row.quiet_factor is not None), FACTOR)
    severity: str = next((row.quiet_severity for row in line if row.quiet_severity is not None), SEVERITY)
    return Limit(line[0].id, min(intervals) * factor if intervals else None, severity)


def of_type(session: Session, type_id: int) -> Limit | None:
    """Return what one type says about silence."""
    return next((one for one in of_types(session) if one.type_id == type_id), None)


def set_type(
    session: Session, kind: AssetType, *, factor: float | None, severity: str | None, actor: str, now: datetime
) -> None:
    """Say when devices on machines of a type are quiet, and how severe that is; None inherits.

    Raises:
        Invalid: the factor is negative or absurd, or there is no such severity.
    """
    if factor is not None and not 0 <= factor <= _LARGEST_FACTOR:
        raise Invalid("The factor must lie between 0 and 10,000.", field="factor")
    _check(severity)
    before = {"quiet_factor": kind.quiet_factor, "quiet_severity": kind.quiet_severity}
    after = {"quiet_factor": factor, "quiet_severity": severity}
    if before == after:
        return
    kind.quiet_factor, kind.quiet_severity = factor, severity
    session.flush()
    subject = f"type:{kind.id}"
    audit.record(
        session, "type.quiet", subject=subject, actor=actor, at=now, before=before, after=after,
        company_id=kind.company_id,
    )  # fmt: skip
    events.emit(session, TypeChanged(kind.id), subject=subject, at=now, actor=actor, unit_id=kind.company_id)


def set_device(
    session: Session, device: Device, *, after_s: int | None, severity: str | None, actor: str, now: datetime
) -> None:
    """Say after how long a device is quiet, and how severe that is; None: as its type says.

    Raises:
        Invalid: the time is negative or longer than a year, or there is no such severity.
    """
    if after_s is not None and not 0 <= after_s <= _LONGEST_S:
        raise Invalid("The time must lie between 0 seconds and a year.", field="after_s")
    _check(severity)
    before = {"quiet_after_s": device.quiet_after_s, "quiet_severity": device.quiet_severity}
    after = {"quiet_after_s": after_s, "quiet_severity": severity}
    if before == after:
        return
    device.quiet_after_s, device.quiet_severity = after_s, severity
    session.flush()
    audit.record(
        session, "device.quiet", subject=f"device:{device.id}", actor=actor, at=now, before=before, after=after,
        company_id=device.company_id,
    )  # fmt: skip


def _check(severity: str | None) -> None:
    if severity is not None and severity not in SEVERITIES:
        raise Invalid("There is no such severity.", field="severity")
