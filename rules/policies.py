"""The escalation policies of a company: written by its administrators, found for each alarm that is followed up."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel import audit
from kernel.errors import Invalid
from people.models import Account, OrgUnit, Role
from rules import escalation
from rules.escalation import Policy, Step
from rules.hold_tables import EscalationPolicy
from rules.models import SEVERITIES, Alarm, AlarmType

MOST_STEPS: Final = 10
LONGEST_MIN: Final = 30 * 24 * 60
MOST_REPEATS: Final = 100


def save(
    session: Session,
    unit: OrgUnit,
    fields: Mapping[str, Any],
    *,
    policy: EscalationPolicy | None = None,
    by: str,
    now: datetime,
) -> EscalationPolicy:
    """Make or change a policy of a unit.

    ``fields``: name, name_zh, severity, alarm_type_id, repeat_min, repeats, realarm_min, realarms, steps, is_enabled.

    Raises:
        Invalid: a field is beyond its limits, or a step calls nobody, or calls a role or person there is not.
    """
    company_id = unit.company_id or unit.id
    values = dict(fields)
    _check_limits(values)
    kind_id = values.get("alarm_type_id")
    if kind_id is not None:
        kind = session.get(AlarmType, kind_id)
        if kind is None or kind.company_id != company_id:
            raise Invalid("There is no such alarm type.", field="alarm_type_id")
    values["steps"] = _checked(session, company_id, values.get("steps") or ())
    before = None
    if policy is None:
        policy = EscalationPolicy(company_id=company_id, unit_id=unit.id)
        session.add(policy)
    else:
        before = _described(policy)
    for name, value in values.items():
        setattr(policy, name, value)
    session.flush()
    audit.record(
        session, "escalation_policy.save", subject=f"escalation_policy:{policy.id}", actor=by, at=now,
        before=before, after=_described(policy), company_id=company_id,
    )  # fmt: skip
    return policy


def remove(session: Session, policy: EscalationPolicy, *, by: str, now: datetime) -> None:
    """Remove a policy; what it followed up is followed by the next that fits."""
    audit.record(
        session, "escalation_policy.remove", subject=f"escalation_policy:{policy.id}", actor=by, at=now,
        before=_described(policy), company_id=policy.company_id,
    )  # fmt: skip
    session.delete(policy)
    session.flush()


def of_alarms(session: Session, followed: Sequence[Alarm]) -> dict[int, Policy]:
    """Return the policy of each alarm; two statements for any number of them."""
    units = session.scalars(select(OrgUnit).where(OrgUnit.id.in_({one.unit_id for one in followed})))
    paths = {unit.id: unit.path for unit in units}
    rows = session.execute(
        select(EscalationPolicy, OrgUnit.path)
        .join(OrgUnit, OrgUnit.id == EscalationPolicy.unit_id)
        .where(EscalationPolicy.is_enabled, EscalationPolicy.company_id.in_({one.company_id for one in followed}))
    ).all()
    known = [(row, path) for row, path in rows]
    return {one.id: _closest(one, paths.get(one.unit_id, ""), known) for one in followed}


def _closest(alarm: Alarm, path: str, known: Sequence[tuple[EscalationPolicy, str]]) -> Policy:
    fits = [
        (row.alarm_type_id is not None, len(above), -SEVERITIES.index(row.severity), -row.id, row)
        for row, above in known
        if path.startswith(above)
        and row.alarm_type_id in {None, alarm.alarm_type_id}
        and SEVERITIES.index(alarm.severity) <= SEVERITIES.index(row.severity)
    ]
    return read(max(fits, key=lambda one: one[:4])[4]) if fits else escalation.DEFAULT


def read(row: EscalationPolicy) -> Policy:
    """Return a policy as the value that the follow-up is reckoned from."""
    return Policy(
        repeat=None if row.repeat_min is None else timedelta(minutes=row.repeat_min),
        repeats=row.repeats,
        realarm=None if row.realarm_min is None else timedelta(minutes=row.realarm_min),
        realarms=row.realarms,
        steps=[Step(timedelta(minutes=one["after_min"]), one.get("role"), one.get("account")) for one in row.steps],
    )


def _check_limits(values: Mapping[str, Any]) -> None:
    if not str(values.get("name", "")).strip():
        raise Invalid("A name is needed.", field="name")
    if values.get("severity") not in SEVERITIES:
        raise Invalid("There is no such severity.", field="severity")
    for name, most in (("repeat_min", LONGEST_MIN), ("realarm_min", LONGEST_MIN)):
        if values.get(name) is not None and not 1 <= values[name] <= most:
            raise Invalid("It must lie between {least} and {most}.", field=name, least=1, most=most)
    for name in ("repeats", "realarms"):
        if not 0 <= values.get(name, 0) <= MOST_REPEATS:
            raise Invalid("It must lie between {least} and {most}.", field=name, least=0, most=MOST_REPEATS)


def _checked(session: Session, company_id: int, steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if len(steps) > MOST_STEPS:
        raise Invalid("At most {most} steps fit.", field="steps", most=MOST_STEPS)
    known = set(session.scalars(select(Role.key).where((Role.company_id == company_id) | Role.company_id.is_(None))))
    checked = []
    for number, step in enumerate(steps):
        after, role, account = step.get("after_min"), step.get("role"), step.get("account")
        field = f"steps.{number}"
        if not isinstance(after, int) or not 0 <= after <= LONGEST_MIN:
            raise Invalid("It must lie between {least} and {most}.", field=field, least=0, most=LONGEST_MIN)
        if (role is None) == (account is None):
            raise Invalid("Each step calls a role or a person.", field=field)
        if role is not None and role not in known:
            raise Invalid("There is no such role.", field=field)
        if account is not None:
            person = session.get(Account, account)
            if person is None or person.company_id != company_id:
                raise Invalid("There is no such person.", field=field)
        checked.append({"after_min": after, **({"role": role} if role is not None else {"account": account})})
    return sorted(checked, key=lambda one: one["after_min"])


def _described(policy: EscalationPolicy) -> dict[str, Any]:
    names = ("name", "severity", "alarm_type_id", "repeat_min", "repeats", "realarm_min", "realarms", "steps")
    return {**{name: getattr(policy, name) for name in names}, "is_enabled": policy.is_enabled}
