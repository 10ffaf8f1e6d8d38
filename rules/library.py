"""The rule library: alarm types with their versions and overrides, changed by verbs, for people who shape rules.

A saved definition is a new version and the old ones never change. What the library comes to on each asset stands in
``rules.standing``; evaluators hear of every change by ``RuleSaved``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import types
from assets.models import Asset, AssetType, Metric
from kernel import audit, events, i18n
from kernel.db import Json
from kernel.errors import Conflict, Invalid, Stale
from people.models import OrgUnit
from rules import conditions, overrides, trees
from rules.conditions import AlarmDefinition
from rules.events import RuleSaved
from rules.faults import DefinitionRefused, Problem
from rules.leaf import Expression
from rules.models import AlarmType, RuleOverride, RuleVersion

_LONGEST_KEY: Final = 60
_NO_ASSET: Final = i18n.noop("There is no asset with the code {code}.")


@dataclass(frozen=True, slots=True)
class AlarmTypeDraft:
    """An alarm type as somebody wants it, for an asset type (and those that inherit from it) or for one asset."""

    key: str
    name: str
    name_zh: str | None = None
    asset_type_id: int | None = None
    asset_id: int | None = None


def add(
    session: Session,
    draft: AlarmTypeDraft,
    definition: Mapping[str, Any],
    *,
    unit: OrgUnit,
    actor: str,
    now: datetime,
) -> AlarmType:
    """Add an alarm type with its first version. It holds for assets of ``unit`` and the units below.

    Raises:
        Invalid: key, name or target do not fit; ``DefinitionRefused`` (an ``Invalid``) names what is wrong within
            the definition.
        Conflict: the company has an alarm type of this key.
    """
    company_id = unit.company_id or unit.id
    key, name = draft.key.strip(), draft.name.strip()
    if not 0 < len(key) <= _LONGEST_KEY or key != draft.key or not key.isprintable():
        raise Invalid("A key has 1 to {most} characters and no blank at either end.", field="key", most=_LONGEST_KEY)
    if not name:
        raise Invalid("Please give it a name.", field="name")
    if session.scalar(select(AlarmType.id).where(AlarmType.company_id == company_id, AlarmType.key == key)):
        raise Conflict("There is an alarm type with the key {key} already.", field="key", key=key)
    if (draft.asset_type_id is None) == (draft.asset_id is None):
        raise Invalid("An alarm type is for one type of asset or for one asset.", field="asset_type_id")
    parsed = checked(session, definition, company_id, draft.asset_type_id, draft.asset_id)
    kind = AlarmType(
        key=key,
        name=name,
        name_zh=draft.name_zh,
        asset_type_id=draft.asset_type_id,
        asset_id=draft.asset_id,
        company_id=company_id,
        unit_id=unit.id,
        version=1,
        changed_at=now,
    )
    session.add(kind)
    session.flush()
    version = RuleVersion(alarm_type_id=kind.id, number=1, definition=conditions.dump(parsed), author=actor, at=now)
    session.add(version)
    _tell(session, kind, "rule.add", None, {"key": key, "definition": version.definition}, actor=actor, now=now)
    return kind


def save(
    session: Session,
    kind: AlarmType,
    definition: Mapping[str, Any],
    *,
    actor: str,
    now: datetime,
    after: int | None = None,
) -> RuleVersion:
    """Make a definition the version in force; the same as before makes no new version.

    ``after`` is the version the author started from.

    Raises:
        DefinitionRefused: it breaks the grammar, or names a metric that is not there.
        Stale: somebody else saved since ``after``.
    """
    session.refresh(kind, with_for_update={"of": AlarmType})
    if after is not None and after != kind.version:
        raise Stale("Somebody else saved this rule meanwhile. Load it again and repeat your change.")
    stored = conditions.dump(checked(session, definition, kind.company_id, kind.asset_type_id, kind.asset_id))
    before = in_force(session, kind)
    if before.definition == stored:
        return before
    latest = session.scalars(
        select(RuleVersion.number).where(RuleVersion.alarm_type_id == kind.id).order_by(RuleVersion.number.desc())
    ).first()
    version = RuleVersion(alarm_type_id=kind.id, number=(latest or 0) + 1, definition=stored, author=actor, at=now)
    session.add(version)
    kind.version, kind.changed_at = version.number, now
    _tell(
        session,
        kind,
        "rule.save",
        {"version": before.number, "definition": before.definition},
        {"version": version.number, "definition": stored},
        actor=actor,
        now=now,
    )
    return version


def in_force(session: Session, kind: AlarmType) -> RuleVersion:
    """Return the version that holds now."""
    return session.scalars(
        select(RuleVersion).where(RuleVersion.alarm_type_id == kind.id, RuleVersion.number == kind.version)
    ).one()


def rename(session: Session, kind: AlarmType, *, name: str, name_zh: str | None, actor: str, now: datetime) -> None:
    """Call an alarm type otherwise.

    Raises:
        Invalid: the name is empty.
    """
    if not name.strip():
        raise Invalid("Please give it a name.", field="name")
    before = {"name": kind.name, "name_zh": kind.name_zh}
    after = {"name": name.strip(), "name_zh": name_zh}
    if before == after:
        return
    kind.name, kind.name_zh, kind.changed_at = name.strip(), name_zh, now
    _tell(session, kind, "rule.rename", before, after, actor=actor, now=now)


def switch(session: Session, kind: AlarmType, *, is_enabled: bool, actor: str, now: datetime) -> None:
    """Switch an alarm type on or off. Open alarms of one that is off stay until a person clears them."""
    if kind.is_enabled == is_enabled:
        return
    kind.is_enabled, kind.changed_at = is_enabled, now
    _tell(
        session, kind, "rule.switch", {"is_enabled": not is_enabled}, {"is_enabled": is_enabled}, actor=actor, now=now
    )


def remove(session: Session, kind: AlarmType, *, actor: str, now: datetime) -> None:
    """Remove an alarm type: it watches no longer, is listed no longer, and its key is free.

    What it raised stays, with version and samples; alarms that are open stay until a person clears them.
    """
    if kind.removed_at is not None:
        return
    before = {"key": kind.key, "is_enabled": kind.is_enabled}
    kind.is_enabled, kind.removed_at, kind.changed_at = False, now, now
    kind.key = f"{kind.key[: _LONGEST_KEY - 21]}~{kind.id}"
    _tell(session, kind, "rule.remove", before, {"removed_at": now.isoformat()}, actor=actor, now=now)


def override(
    session: Session, kind: AlarmType, asset: Asset, patch: Mapping[str, Any], *, actor: str, now: datetime
) -> None:
    """Let one asset differ from its alarm type by a patch of limits, deadbands or durations; an empty one ends it.

    Raises:
        DefinitionRefused: the patch does not fit the definition in force.
        Invalid: the alarm type is not for this asset.
    """
    if not is_for(session, kind, asset):
        raise Invalid("This alarm type is not for this asset.", field="asset_id")
    known = session.get(RuleOverride, (kind.id, asset.id), with_for_update=True)
    before = None if known is None else known.patch
    if not patch:
        if known is not None:
            session.delete(known)
    else:
        overrides.with_overrides(conditions.parse(in_force(session, kind).definition), patch)
        if known is None:
            known = RuleOverride(alarm_type_id=kind.id, asset_id=asset.id)
            session.add(known)
        known.patch, known.author, known.at = dict(patch), actor, now
    kind.changed_at = now
    subject = {"asset_id": asset.id}
    _tell(
        session, kind, "rule.override", subject | {"patch": before}, subject | {"patch": dict(patch)},
        actor=actor, now=now,
    )  # fmt: skip


def is_for(session: Session, kind: AlarmType, asset: Asset) -> bool:
    """Return whether an alarm type is for an asset."""
    if kind.asset_id is not None:
        return kind.asset_id == asset.id
    return kind.asset_type_id in types.lineage(session, asset.company_id).get(asset.type_id, ())


def checked(
    session: Session,
    definition: Mapping[str, Any],
    company_id: int,
    asset_type_id: int | None,
    asset_id: int | None,
) -> AlarmDefinition:
    """Return a definition that fits what its target measures.

    Raises:
        Invalid: there is no such target; ``DefinitionRefused`` (an ``Invalid``) names what is wrong within.
    """
    parsed = conditions.parse(definition)
    if asset_id is not None:
        asset = session.get(Asset, asset_id)
        if asset is None or asset.company_id != company_id:
            raise Invalid("There is no such asset.", field="asset_id")
        type_id = asset.type_id
    else:
        kind = session.get(AssetType, asset_type_id)
        if kind is None or kind.company_id != company_id:
            raise Invalid("There is no such type of asset.", field="asset_type_id")
        type_id = kind.id
    known = types.metrics(session, company_id, [type_id])[type_id]
    ranges = {key: _range(metric) for key, metric in known.items() if metric.kind != "text"}
    # What tells a state may tell it in words.
    texts = {key for key, metric in known.items() if metric.kind in {"text", "state"}}
    conditions.check_metrics(parsed, ranges, texts)
    _check_neighbours(session, parsed, company_id)
    return parsed


def _check_neighbours(session: Session, definition: AlarmDefinition, company_id: int) -> None:
    """Make sure that the other assets which a rule looks at are there."""
    problems = []
    for field, tree in definition.conditions():
        for path, leaf in trees.placed(tree, field):
            if not isinstance(leaf, Expression):
                continue
            codes = {code for code in leaf.assets.values() if code != "parent"}
            query = select(Asset.code).where(Asset.company_id == company_id, Asset.code.in_(codes))
            missing = codes - set(session.scalars(query)) if codes else set()
            problems += [
                Problem(f"{path}.assets.{alias}", _NO_ASSET, {"code": code})
                for alias, code in leaf.assets.items()
                if code in missing
            ]
    if problems:
        raise DefinitionRefused(problems)


def _range(metric: Metric) -> tuple[float, float] | None:
    return None if metric.low is None or metric.high is None else (metric.low, metric.high)


def _tell(
    session: Session,
    kind: AlarmType,
    action: str,
    before: Json | None,
    after: Json,
    *,
    actor: str,
    now: datetime,
) -> None:
    session.flush()
    subject = f"alarm_type:{kind.id}"
    audit.record(
        session, action, subject=subject, actor=actor, at=now, before=before, after=after, company_id=kind.company_id
    )
    events.emit(session, RuleSaved(kind.id), subject=subject, at=now, actor=actor, unit_id=kind.unit_id)
