"""A plan of rules carried out by the verbs of the library, each with its audit entry; all of it or nothing."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from kernel.errors import Invalid, Stale
from maintenance.orders import policies
from maintenance.rulebook.importing import NO_RIGHT, Plan, Step
from maintenance.rulebook.names import Names
from maintenance.rulebook.text import Fault
from maintenance.rulebook.written import WrittenRule
from people.models import OrgUnit
from people.scope import Viewer
from rules import handling, library, visible
from rules.handling import Handling
from rules.models import AlarmType


class PlanRefused(Invalid):
    """Something of a file or an edit cannot be; nothing of it was done."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        first = faults[0]
        super().__init__(first.template, field=first.field or "text", **first.values)
        self.faults = tuple(faults)


def carry_out(session: Session, viewer: Viewer, plan: Plan, *, now: datetime, seen: str | None = None) -> int:
    """Do what a plan says; return how many rules are new or changed. ``seen`` is that of the plan somebody agreed to.

    Raises:
        PlanRefused: something of it cannot be.
        Stale: it is no longer what was agreed to.
    """
    if not plan.is_possible:
        raise PlanRefused(plan.faults)
    if seen is not None and seen != plan.seen:
        raise Stale("Somebody else changed one of these rules meanwhile. Look at what would happen now.")
    for step in plan.steps:
        if step.what in {"new", "changed"}:
            _carry_out(session, viewer, step, plan.names or Names(session, viewer), now)
    return plan.changes


def _carry_out(session: Session, viewer: Viewer, step: Step, names: Names, now: datetime) -> None:
    rule, kind, said = step.rule, step.kind, step.rule.model_fields_set
    touched = {one.field.partition(".")[0] for one in step.differences}
    if kind is None:
        asset_id = names.asset(rule.asset).id if rule.asset else None
        type_id = names.asset_type(rule.asset_type) if rule.asset_type else None
        draft = library.AlarmTypeDraft(rule.key, rule.name, rule.name_zh or None, type_id, asset_id)
        unit = session.get_one(OrgUnit, step.unit_id)
        kind = library.add(session, draft, rule.definition, unit=unit, actor=viewer.actor, now=now)
    else:
        if touched & {"name", "name_zh"}:
            name_zh = rule.name_zh if "name_zh" in said else kind.name_zh
            library.rename(session, kind, name=rule.name, name_zh=name_zh or None, actor=viewer.actor, now=now)
        if "definition" in touched:
            library.save(session, kind, rule.definition, actor=viewer.actor, now=now, after=kind.version)
    if "enabled" in touched:
        library.switch(session, kind, is_enabled=rule.enabled, actor=viewer.actor, now=now)
    if touched & {"latches", "suppresses_below", "suppressed_while"}:
        handling.change(session, kind, _handling(rule, kind), by=viewer.actor, now=now)
    if "orders" in touched:
        lines = [names.line(one) for one in rule.orders]
        policies.save(session, policies.of_type(kind), lines, actor=viewer.actor, now=now)
    if "overrides" in touched:
        _differ(session, viewer, kind, rule, names, now)


def _handling(rule: WrittenRule, kind: AlarmType) -> Handling:
    said, now = rule.model_fields_set, handling.of(kind)
    state = rule.suppressed_while
    kept = "suppressed_while" not in said
    return Handling(
        latches=rule.latches if "latches" in said else now.latches,
        suppresses_below=rule.suppresses_below if "suppresses_below" in said else now.suppresses_below,
        attribute=now.attribute if kept else (state.attribute if state else ""),
        values=now.values if kept else (state.in_ if state else ()),
    )


def _differ(session: Session, viewer: Viewer, kind: AlarmType, rule: WrittenRule, names: Names, now: datetime) -> None:
    """Let exactly the assets of the file differ, of those within sight."""
    wanted = {one.asset: one.patch() for one in rule.overrides}
    standing = {asset.code: (asset, row.patch) for row, asset in visible.overridden(session, viewer, kind, limit=None)}
    for code, (asset, _) in standing.items():
        if code not in wanted:
            if not viewer.may_at("rules.write", session.get_one(OrgUnit, asset.unit_id).path):
                raise PlanRefused([Fault(NO_RIGHT, rule=rule.key, field="overrides")])
            library.override(session, kind, asset, {}, actor=viewer.actor, now=now)
    for code, patch in wanted.items():
        if code not in standing or standing[code][1] != patch:
            library.override(session, kind, names.asset(code), patch, actor=viewer.actor, now=now)
