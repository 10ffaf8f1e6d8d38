"""One change of many rules: written down as a file would say it, so that it is shown, checked and done as one.

An edit never touches what assets do differently; where their limits no longer fit, the edit is refused and says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from assets.models import AssetType
from kernel import i18n
from kernel.db import Json
from kernel.errors import Invalid
from maintenance.orders import policies, policy
from maintenance.rulebook import export, importing
from maintenance.rulebook.importing import Plan
from maintenance.rulebook.names import Names
from maintenance.rulebook.text import Fault
from maintenance.rulebook.written import WrittenRule
from people.scope import Viewer
from rules.conditions import TEN_YEARS_S
from rules.models import SEVERITIES, AlarmType

_COUNTS: Final = i18n.noop("It counts repetitions and has no delay.")
_HELD: Final = i18n.noop("Its delay comes from an attribute.")
_LONGEST_KEY: Final = 60
_DIGITS: Final = 12
"""Of a limit that was worked out: 90 × 1.1 is 99, not 99.00000000000001."""


class Edit(BaseModel):
    """What to change of each rule; what is None stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool | None = None
    factor: float | None = Field(None, gt=-1e9, lt=1e9, allow_inf_nan=False, description="Limits are multiplied by it.")
    offset: float | None = Field(None, allow_inf_nan=False, description="And then this is added.")
    severities: tuple[str, ...] = Field((), description="Whose limits; of all severities unless named.")
    on_delay_s: float | None = Field(None, ge=0, le=TEN_YEARS_S, description="0 takes the delay away.")
    schedule: dict[str, Any] | None = Field(None, description="When it is in force; an empty one is always.")
    priority: int | None = Field(None, ge=1, le=4, description="Of the orders its alarms open.")
    order_from: str | None = Field(None, description="The least severity that opens an order; *none*, or *company*.")
    copy_to: str | None = Field(None, description="Key of a type of asset that gets copies; the rules stay.")

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is to change."""
        return not any(getattr(self, name) is not None for name in type(self).model_fields if name != "severities")


def plan(session: Session, viewer: Viewer, ids: Sequence[int], edit: Edit) -> Plan:
    """Return what an edit would do to the rules of some ids; those out of sight are left out.

    Raises:
        Invalid: no rule is chosen, or nothing is to change.
    """
    held = export.chosen(session, viewer, ids=ids) if ids else []
    if not held:
        raise Invalid("Choose one rule at least.", field="rules")
    if edit.is_nothing:
        raise Invalid("Say what is to change.", field="change")
    if set(edit.severities) - set(SEVERITIES):
        raise Invalid("There is no such severity.", field="severities")
    if edit.order_from not in {None, "none", "company", *SEVERITIES}:
        raise Invalid("There is no such severity.", field="order_from")
    names = Names(session, viewer)
    written: list[tuple[str, WrittenRule]] = []
    faults: list[Fault] = []
    for (kind, _), said in zip(held, export.as_written(session, viewer, held, names), strict=True):
        changed, wrong = _changed(session, kind, said, edit, names)
        if edit.copy_to is not None:
            changed = _copied(session, viewer, changed, edit.copy_to)
        written.append((f"rules.{len(written)}", WrittenRule.model_validate(changed)))
        faults += [Fault(template, rule=kind.key) for template in wrong]
    return importing.of_rules(session, viewer, written, faults=faults)


def _changed(session: Session, kind: AlarmType, said: Json, edit: Edit, names: Names) -> tuple[Json, list[str]]:
    """Return what a rule says once it is edited, only with what the edit is about, and why it cannot be."""
    wrong: list[str] = []
    definition = said["definition"]
    if edit.factor is not None or edit.offset is not None:
        factor, offset = 1.0 if edit.factor is None else edit.factor, edit.offset or 0.0
        definition = _create(definition, edit.severities, lambda rule: _moved(rule, factor, offset))
    if edit.on_delay_s is not None:
        delay = edit.on_delay_s
        definition = _create(definition, (), lambda rule: _delayed(rule, delay, wrong))
    if edit.schedule is not None:
        schedule = edit.schedule
        definition = _create(definition, (), lambda rule: _scheduled(rule, schedule))
    changed: Json = {name: said[name] for name in ("key", "name", "asset_type", "asset", "unit") if name in said}
    if edit.copy_to is not None:
        changed |= {name: value for name, value in said.items() if name not in {"overrides", "asset", "unit"}}
    changed["definition"] = definition
    if edit.enabled is not None:
        changed["enabled"] = edit.enabled
    if edit.priority is not None or edit.order_from is not None:
        changed["orders"] = [names.written(line) for line in _orders(session, kind, definition, edit)]
    return changed, list(dict.fromkeys(wrong))


def _create(definition: Json, severities: Sequence[str], change: Callable[[Json], Json]) -> Json:
    create = definition.get("create", {})
    return definition | {
        "create": {
            severity: change(rule) if rule and (not severities or severity in severities) else rule
            for severity, rule in create.items()
        }
    }


def _moved(rule: Json, factor: float, offset: float) -> Json:
    def number(value: Any) -> Any:  # noqa: ANN401 - a number, or a node that holds one
        if isinstance(value, dict):
            return value | {"default": number(value["default"])} if "attribute" in value else value
        return float(f"{value * factor + offset:.{_DIGITS}g}")

    def tree(node: Json) -> Json:
        if node.get("type") == "compare":
            return node | {"limit": number(node["limit"])}
        if node.get("type") == "between":
            low, high = number(node["low"]), number(node["high"])
            is_turned = factor < 0 and not isinstance(low, dict) and not isinstance(high, dict)
            return node | ({"low": high, "high": low} if is_turned else {"low": low, "high": high})
        if isinstance(node.get("of"), list):
            return node | {"of": [tree(part) for part in node["of"]]}
        return node | {"of": tree(node["of"])} if isinstance(node.get("of"), dict) else node

    return rule | {"condition": tree(rule["condition"])}


def _delayed(rule: Json, seconds: float, wrong: list[str]) -> Json:
    kind = rule.get("kind", {"type": "simple"})
    if kind["type"] == "repeating":
        wrong.append(_COUNTS)
        return rule
    if isinstance(kind.get("seconds"), dict):
        wrong.append(_HELD)
        return rule
    rest = {name: value for name, value in rule.items() if name != "kind"}
    return rest | {"kind": {"type": "duration", "seconds": seconds}} if seconds else rest


def _scheduled(rule: Json, schedule: Json) -> Json:
    rest = {name: value for name, value in rule.items() if name != "schedule"}
    return rest | {"schedule": schedule} if schedule else rest


def _orders(session: Session, kind: AlarmType, definition: Json, edit: Edit) -> list[policy.Line]:
    """Return the rule's own lines as they become; a priority also reaches what the company's table decides now."""
    table = policies.of_type(kind)
    lines = policies.lines(session, table)
    if edit.order_from == "company":
        lines = []
    elif edit.order_from is not None:
        lines = policy.from_least(None if edit.order_from == "none" else edit.order_from, lines)
    if edit.priority is None:
        return lines
    wide = {line.severity for line in lines if not line.is_narrowed}
    decided = policies.in_force(session, table)
    lines += [
        replace(decided[severity].line, site_id=None, criticality=None)
        for severity in definition.get("create", {})
        if severity not in wide and decided[severity].line.does != "none"
    ]
    return [replace(line, priority=edit.priority) if line.does != "none" else line for line in lines]


def _copied(session: Session, viewer: Viewer, said: Json, type_key: str) -> Json:
    """Return a rule for another type, under a key of its own that is the same each time."""
    known = session.query(AssetType).filter_by(company_id=viewer.company_id, key=type_key).one_or_none()
    if known is None:
        raise Invalid("There is no such type of asset.", field="copy_to")
    rest = {name: value for name, value in said.items() if name not in {"asset", "unit"}}
    key = f"{said['key'][: _LONGEST_KEY - len(type_key) - 1]}@{type_key}"
    return rest | {"key": key, "asset_type": type_key}
