"""The company's tables of what alarms ask for: read for an alarm, shown, and changed as a whole with an audit entry."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Select, delete, select
from sqlalchemy.orm import Session

from assets.models import Site
from kernel import audit
from kernel.db import Json
from kernel.errors import Invalid
from maintenance.orders import policy
from maintenance.orders.policy import Chosen, Line
from maintenance.orders.policy_tables import OrderPolicyLine
from maintenance.plans.models import Checklist
from people.models import Team
from rules import platform
from rules.models import SEVERITIES, Alarm, AlarmType

WIDEST: Final = 9
_FIELDS: Final = ("severity", "does", "delay_s", "priority", "team_id", "checklist_id", "site_id", "criticality")


@dataclass(frozen=True, slots=True)
class Table:
    """Whose table: an alarm type's, or the company's for its rules (``rule``) or for codes of devices (``device``)."""

    company_id: int
    source: str = "rule"
    alarm_type_id: int | None = None

    @property
    def subject(self) -> str:
        """What its changes are kept under in the audit trail."""
        return f"alarm_type:{self.alarm_type_id}" if self.alarm_type_id else f"order_policy:{self.source}"


def of_type(kind: AlarmType) -> Table:
    """Return the table of an alarm type."""
    return Table(kind.company_id, "rule", kind.id)


def lines(session: Session, table: Table) -> list[Line]:
    """Return the lines of a table as somebody has written them: the worst severity first, wide before narrow."""
    rows = session.scalars(_rows(table)).all()
    return in_order(_line(row) for row in rows)


def own_lines(session: Session, kinds: Sequence[AlarmType]) -> dict[int, list[Line]]:
    """Return the lines of alarm types that have any of their own; one query however many there are."""
    rows = session.scalars(
        select(OrderPolicyLine).where(OrderPolicyLine.alarm_type_id.in_([kind.id for kind in kinds]))
    ).all()
    found: dict[int, list[Line]] = {}
    for row in rows:
        found.setdefault(row.alarm_type_id or 0, []).append(_line(row))
    return {kind_id: in_order(own) for kind_id, own in found.items()}


def for_alarm(session: Session, alarm: Alarm) -> Chosen | None:
    """Return the line that decides over an alarm; None for the platform's own, which ask for no repair."""
    return for_alarms(session, [alarm]).get(alarm.id)


def for_alarms(session: Session, alarms: Sequence[Alarm]) -> dict[int, Chosen]:
    """Return the line that decides over each alarm but the platform's own; one query however many there are."""
    asking = [alarm for alarm in alarms if alarm.origin != platform.ORIGIN]
    if not asking:
        return {}
    kinds = {alarm.alarm_type_id for alarm in asking} - {None}
    rows = session.scalars(
        select(OrderPolicyLine).where(
            OrderPolicyLine.company_id.in_({alarm.company_id for alarm in asking}),
            OrderPolicyLine.severity.in_({alarm.severity for alarm in asking}),
            OrderPolicyLine.alarm_type_id.is_(None) | OrderPolicyLine.alarm_type_id.in_(kinds),
        )
    ).all()
    by_table: dict[tuple[int, str, int | None], list[Line]] = {}
    for row in rows:
        by_table.setdefault((row.company_id, row.source, row.alarm_type_id), []).append(_line(row))
    found = {}
    for alarm in asking:
        source, asset = "rule" if alarm.alarm_type_id is not None else "device", alarm.asset
        own = by_table.get((alarm.company_id, source, alarm.alarm_type_id), ()) if alarm.alarm_type_id else ()
        found[alarm.id] = policy.choose(
            own,
            by_table.get((alarm.company_id, source, None), ()),
            source,
            alarm.severity,
            site_id=asset.site_id if asset else None,
            criticality=asset.criticality if asset else None,
        )
    return found


def in_force(session: Session, table: Table) -> dict[str, Chosen]:
    """Return what each severity does on an asset that no narrowed line is for."""
    own = lines(session, table) if table.alarm_type_id is not None else []
    company = lines(session, Table(table.company_id, table.source))
    return {severity: policy.choose(own, company, table.source, severity) for severity in SEVERITIES}


def least_of(session: Session, kinds: Sequence[AlarmType]) -> dict[int, str | None]:
    """Return for each alarm type the least severity that opens an order; two queries however many there are."""
    if not kinds:
        return {}
    companies = {kind.company_id for kind in kinds}
    rows = session.scalars(
        select(OrderPolicyLine).where(
            OrderPolicyLine.company_id.in_(companies),
            OrderPolicyLine.source == "rule",
            OrderPolicyLine.alarm_type_id.is_(None) | OrderPolicyLine.alarm_type_id.in_([kind.id for kind in kinds]),
        )
    ).all()
    by_table: dict[tuple[int, int | None], list[Line]] = {}
    for row in rows:
        by_table.setdefault((row.company_id, row.alarm_type_id), []).append(_line(row))
    return {
        kind.id: policy.least(
            by_table.get((kind.company_id, kind.id), []), by_table.get((kind.company_id, None), []), "rule"
        )
        for kind in kinds
    }


def save(session: Session, table: Table, wanted: Sequence[Line], *, actor: str, now: datetime) -> bool:
    """Make these lines the table's, in place of those before; return whether that is a change.

    Raises:
        Invalid: a line cannot be meant, or names a site, team or checklist that the company does not have.
    """
    policy.check(wanted)
    _check_names(session, table.company_id, wanted)
    before = [_plain(line) for line in lines(session, table)]
    after = [_plain(line) for line in in_order(wanted)]
    if before == after:
        return False
    session.execute(delete(OrderPolicyLine).where(*_is_of(table)).execution_options(synchronize_session=False))
    for line in wanted:
        session.add(
            OrderPolicyLine(
                company_id=table.company_id, alarm_type_id=table.alarm_type_id, source=table.source, **_plain(line)
            )
        )
    session.flush()
    audit.record(
        session,
        "order_policy.save",
        subject=table.subject,
        actor=actor,
        at=now,
        before={"lines": before},
        after={"lines": after},
        company_id=table.company_id,
    )
    return True


def save_least(session: Session, kind: AlarmType, severity: str | None, *, actor: str, now: datetime) -> None:
    """Let an alarm type open orders from a severity on, and none below it; its narrowed lines stay.

    Raises:
        Invalid: there is no such severity.
    """
    table = of_type(kind)
    save(session, table, policy.from_least(severity, lines(session, table)), actor=actor, now=now)


def told(chosen: Chosen, alarm: Alarm) -> Json:
    """Return by which line something was opened, as its timeline keeps it: readable when the table has changed."""
    line = chosen.line
    kept = {name: value for name, value in _plain(line).items() if value is not None}
    return {**kept, "level": chosen.level, "alarm_type_id": alarm.alarm_type_id}


def _check_names(session: Session, company_id: int, wanted: Sequence[Line]) -> None:
    for field, table in (("team_id", Team), ("checklist_id", Checklist), ("site_id", Site)):
        named = {value for line in wanted if (value := getattr(line, field)) is not None}
        known = session.scalars(select(table.id).where(table.company_id == company_id, table.id.in_(named))).all()
        if named - set(known):
            raise Invalid("One of the choices does not exist any more.", field=field)


def _rows(table: Table) -> Select[OrderPolicyLine]:
    return select(OrderPolicyLine).where(*_is_of(table))


def _is_of(table: Table) -> tuple[ColumnElement[bool], ...]:
    of_type = OrderPolicyLine.alarm_type_id
    return (
        OrderPolicyLine.company_id == table.company_id,
        OrderPolicyLine.source == table.source,
        of_type.is_(None) if table.alarm_type_id is None else of_type == table.alarm_type_id,
    )


def _line(row: OrderPolicyLine) -> Line:
    return Line(id=row.id, **{name: getattr(row, name) for name in _FIELDS})


def _plain(line: Line) -> Json:
    return {name: value for name, value in asdict(line).items() if name in _FIELDS}


def in_order(found: Iterable[Line]) -> list[Line]:
    """Return lines in the order of a table: the worst severity first, wide before narrow."""
    return sorted(
        found, key=lambda line: (SEVERITIES.index(line.severity), line.site_id or 0, -(line.criticality or WIDEST))
    )
