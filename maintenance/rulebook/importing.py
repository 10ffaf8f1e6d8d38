"""What a file of rules would change, worked out as a whole before anything is: new, changed, unchanged, conflicts.

A plan with a single fault is not carried out. A file that was carried out once changes nothing when it comes again:
rules are known by their key, and what says the same makes no new version.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets.models import Asset
from kernel import i18n
from kernel.db import Json
from kernel.errors import Invalid
from maintenance.orders import policies, policy
from maintenance.rulebook import export, text
from maintenance.rulebook.names import Names, Unknown
from maintenance.rulebook.text import Document, Fault
from maintenance.rulebook.written import WrittenRule, rules_of
from people.models import OrgUnit
from people.scope import Viewer
from rules import conditions, library, overrides
from rules.conditions import AlarmDefinition
from rules.faults import DefinitionRefused
from rules.models import AlarmType, RuleOverride

_AGAIN: Final = i18n.noop("Two rules of the file have this key.")
_NOT_YOURS: Final = i18n.noop("There is a rule with this key, and it is not yours to change.")
_OTHER_TARGET: Final = i18n.noop("There is a rule with this key for another type or asset.")
_OTHER_UNIT: Final = i18n.noop("There is a rule with this key in another org unit.")
_NO_TARGET: Final = i18n.noop("An alarm type is for one type of asset or for one asset.")
NO_RIGHT: Final = i18n.noop("You may not shape rules of this org unit.")
_UNKNOWN: Final = {
    "asset": i18n.noop("There is no asset with the code {code}."),
    "asset_type": i18n.noop("There is no type of asset with the key {code}."),
    "unit": i18n.noop("There is no org unit {code}, or more than one."),
    "team": i18n.noop("There is no team {code}, or more than one."),
    "site": i18n.noop("There is no site {code}, or more than one."),
    "checklist": i18n.noop("There is no checklist with the key {code}, or more than one."),
}
_NOT_FOR: Final = i18n.noop("This alarm type is not for the asset {code}.")
_ASSET_TWICE: Final = i18n.noop("The asset {code} stands here twice.")
_TARGET: Final = ("key", "asset", "asset_type", "unit")


@dataclass(frozen=True, slots=True)
class Difference:
    """What a field says now, and what it would say; None: nothing."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one rule: ``new``, ``changed``, ``unchanged``, ``conflict`` with what is here, or ``refused``."""

    rule: WrittenRule
    what: str
    line: int | None = None
    kind: AlarmType | None = None
    unit_id: int = 0
    differences: tuple[Difference, ...] = ()
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that would happen. ``seen`` stands for it: it differs as soon as anything of it would."""

    steps: tuple[Step, ...]
    faults: tuple[Fault, ...]
    names: Names | None = field(default=None, compare=False, repr=False)

    @property
    def is_possible(self) -> bool:
        """Whether it can be carried out."""
        return not self.faults

    @property
    def changes(self) -> int:
        """How many rules would be new or changed."""
        return sum(step.what in {"new", "changed"} for step in self.steps)

    def counts(self) -> Mapping[str, int]:
        """Return how many rules become what."""
        return Counter(step.what for step in self.steps)

    @property
    def seen(self) -> str:
        """A short text that stands for the plan."""
        said = [
            (step.rule.key, step.what, step.kind and step.kind.version, [astuple(one) for one in step.differences])
            for step in self.steps
        ]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def of_text(session: Session, viewer: Viewer, written: str) -> Plan:
    """Return what a file would do; what is wrong with it stands in the plan."""
    try:
        document = text.read(written)
    except text.TextRefused as error:
        return Plan((), (error.fault,))
    found, faults = rules_of(document)
    return of_rules(session, viewer, found, document=document, faults=faults)


def of_rules(
    session: Session,
    viewer: Viewer,
    found: Sequence[tuple[str, WrittenRule]],
    *,
    document: Document | None = None,
    faults: Sequence[Fault] = (),
) -> Plan:
    """Return what rules would change, each with its path in a document, if there is one."""
    document = document or Document(None, {})
    rules = [rule for _, rule in found]
    codes = {rule.asset for rule in rules if rule.asset} | {one.asset for rule in rules for one in rule.overrides}
    names = Names(session, viewer, codes)
    known = _Known(session, viewer, rules, names)
    again = {key for key, count in Counter(rule.key for rule in rules).items() if count > 1}
    steps = []
    for path, rule in found:
        if rule.key in again:
            step = Step(rule, "conflict", faults=(Fault(_AGAIN, field="key"),))
        else:
            step = _step(session, viewer, rule, known)
        placed = tuple(
            replace(one, rule=rule.key, line=document.line(f"{path}.{one.field}" if one.field else path))
            for one in step.faults
        )
        steps.append(replace(step, line=document.line(path), faults=placed))
    every = [*faults, *(fault for step in steps for fault in step.faults)]
    every.sort(key=lambda fault: fault.line or 0)
    return Plan(tuple(steps), tuple(every), names)


class _Known:
    """The rules that are there under the keys of a file; constant queries."""

    def __init__(self, session: Session, viewer: Viewer, rules: Sequence[WrittenRule], names: Names) -> None:
        self.names = names
        query = select(AlarmType).where(
            AlarmType.company_id == viewer.company_id, AlarmType.key.in_([rule.key for rule in rules])
        )
        self.kinds = {kind.key: kind for kind in session.scalars(query)}
        ids = [kind.id for kind in self.kinds.values()]
        shown = export.chosen(session, viewer, ids=ids) if ids else []
        self.written = {one["key"]: one for one in export.as_written(session, viewer, shown, names)}
        self.paths: dict[int, str] = {
            unit.id: unit.path
            for unit in session.scalars(select(OrgUnit).where(OrgUnit.company_id == viewer.company_id))
        } | {viewer.company_id: session.get_one(OrgUnit, viewer.company_id).path}
        self.patches: dict[int, list[Json]] = {}
        for row in session.scalars(select(RuleOverride).where(RuleOverride.alarm_type_id.in_(ids))):
            self.patches.setdefault(row.alarm_type_id, []).append(row.patch)


def _step(session: Session, viewer: Viewer, rule: WrittenRule, known: _Known) -> Step:
    kind = known.kinds.get(rule.key)
    before = known.written.get(rule.key)
    try:
        type_id, asset, unit_id = _target(rule, known.names)
        if kind is not None:
            clash = _clash(viewer, rule, kind, before, known)
            if clash is not None:
                return Step(rule, "conflict", kind=kind, faults=(clash,))
            unit_id = kind.unit_id
        elif not viewer.may_at("rules.write", known.paths[unit_id]):
            return Step(rule, "refused", faults=(Fault(NO_RIGHT, field="unit"),))
        asset_id = asset.id if asset is not None else None
        definition = library.checked(session, rule.definition, viewer.company_id, type_id, asset_id)
    except (Unknown, Invalid) as error:
        return Step(rule, "refused", kind=kind, faults=_told(error))
    faults = [*_lines(rule, known.names), *_patches(session, viewer, rule, definition, known, type_id, asset, kind)]
    if faults:
        return Step(rule, "refused", kind=kind, faults=tuple(faults))
    after = _after(rule, definition, known.names)
    standing = {name: (before or {}).get(name) for name in after}
    found = tuple(_differences("", standing, after))
    what = "new" if kind is None else "changed" if found else "unchanged"
    return Step(rule, what, kind=kind, unit_id=unit_id, differences=found)


def _told(error: Unknown | Invalid) -> tuple[Fault, ...]:
    if isinstance(error, Unknown):
        return (_unknown(error),)
    if isinstance(error, DefinitionRefused):
        return tuple(Fault(one.template, one.values, field=f"definition.{one.field}") for one in error.problems)
    return (Fault(error.sentence, error.values),)


def _target(rule: WrittenRule, names: Names) -> tuple[int | None, Asset | None, int]:
    type_id = None if rule.asset_type is None else names.asset_type(rule.asset_type)
    asset = None if rule.asset is None else names.asset(rule.asset)
    if (type_id is None) == (asset is None):
        raise Invalid(_NO_TARGET)
    return type_id, asset, asset.unit_id if asset is not None else names.unit(rule.unit)


def _clash(viewer: Viewer, rule: WrittenRule, kind: AlarmType, before: Json | None, known: _Known) -> Fault | None:
    if before is None or not viewer.may_at("rules.write", known.paths.get(kind.unit_id, "")):
        return Fault(_NOT_YOURS, field="key")
    if (rule.asset_type, rule.asset) != (before.get("asset_type"), before.get("asset")):
        return Fault(_OTHER_TARGET, field="asset_type" if rule.asset_type else "asset")
    if rule.unit is not None and rule.asset is None and rule.unit != before.get("unit"):
        return Fault(_OTHER_UNIT, field="unit")
    return None


def _unknown(error: Unknown, at: str = "") -> Fault:
    return Fault(_UNKNOWN[error.field], {"code": error.name}, field=f"{at}{error.field}")


def _lines(rule: WrittenRule, names: Names) -> Iterator[Fault]:
    lines = []
    for place, written in enumerate(rule.orders):
        try:
            lines.append(names.line(written))
        except Unknown as error:
            yield _unknown(error, f"orders.{place}.")
    try:
        policy.check(lines)
    except Invalid as error:
        yield Fault(error.sentence, error.values, field="orders")


def _patches(  # noqa: PLR0917 - everything an override has to fit
    session: Session,
    viewer: Viewer,
    rule: WrittenRule,
    definition: AlarmDefinition,
    known: _Known,
    type_id: int | None,
    asset: Asset | None,
    kind: AlarmType | None,
) -> Iterator[Fault]:
    """Find what does not fit of the overrides a rule is given or, where it says nothing of them, keeps."""
    if "overrides" not in rule.model_fields_set:
        for patch in known.patches.get(kind.id, ()) if kind is not None else ():
            yield from _unfit(definition, patch, "definition")
        return
    seen: set[str] = set()
    draft = kind or AlarmType(asset_type_id=type_id, asset_id=asset.id if asset is not None else None)
    for place, one in enumerate(rule.overrides):
        at = f"overrides.{place}"
        if one.asset in seen:
            yield Fault(_ASSET_TWICE, {"code": one.asset}, field=at)
        seen.add(one.asset)
        try:
            on = known.names.asset(one.asset)
        except Unknown as error:
            yield _unknown(error, f"{at}.")
            continue
        if not library.is_for(session, draft, on):
            yield Fault(_NOT_FOR, {"code": one.asset}, field=at)
        if not viewer.may_at("rules.write", known.paths.get(on.unit_id, "")):
            yield Fault(NO_RIGHT, field=at)
        yield from _unfit(definition, one.patch(), at)


def _unfit(definition: AlarmDefinition, patch: Json, at: str) -> Iterator[Fault]:
    try:
        overrides.with_overrides(definition, patch)
    except DefinitionRefused as error:
        yield from (Fault(one.template, one.values, field=f"{at}.{one.field}") for one in error.problems)


def _after(rule: WrittenRule, definition: AlarmDefinition, names: Names) -> Json:
    """Return what the rule would say, in the words of a file that is written from it."""
    said = {name: value for name, value in rule.said().items() if name not in _TARGET}
    said["definition"] = conditions.dump(definition)
    if "orders" in said:
        said["orders"] = [names.written(line) for line in policies.in_order(map(names.line, rule.orders))]
    if "overrides" in said:
        kept = sorted((one for one in rule.overrides if one.patch()), key=lambda one: one.asset)
        said["overrides"] = [{"asset": one.asset} | one.patch() for one in kept]
    return said


def _differences(path: str, before: Any, after: Any) -> Iterator[Difference]:  # noqa: ANN401 - JSON
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            yield from _differences(f"{path}.{name}" if path else name, before.get(name), after.get(name))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (was, becomes) in enumerate(zip(before, after, strict=True)):
            yield from _differences(f"{path}.{place}", was, becomes)
    elif before != after and not (before in (None, [], "") and after in (None, [], "")):
        yield Difference(path, before, after)
