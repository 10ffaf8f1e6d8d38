"""Payload mappings, changed by verbs: added, revised into new versions, rolled back, switched, adopted.

A version is never changed, and none is kept that did not understand the sample it came with. Ingest hears of every
change by ``MappingChanged`` and reads the mappings again. Which topics a company reads is its own: another company
cannot read them too, because a mapping sees whole messages.
"""

from collections.abc import Mapping as Entries
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import wording
from assets.models import AssetType, Device
from ingest import mapping as language
from ingest import trial
from ingest.events import MappingChanged
from ingest.mapping import Definition
from ingest.models import Mapping, MappingUse, MappingVersion, WebhookSource
from ingest.ready import Ready
from ingest.trial import Sample
from kernel import audit, clock, events
from kernel.db import Json
from kernel.errors import Conflict, Invalid, Stale
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

READS: Final = "ingest.read"
WRITES: Final = "mappings.write"


@dataclass(frozen=True, slots=True)
class MappingDraft:
    """What a mapping is called and whom it concerns, beside what it says."""

    name: str
    name_zh: str | None = None
    asset_type_id: int | None = None
    bridge_id: int | None = None
    admits: bool = False


def add(
    session: Session,
    draft: MappingDraft,
    definition: Entries[str, Any],
    sample: Sample,
    *,
    unit: OrgUnit,
    actor: str,
    now: datetime,
    ready: str | None = None,
) -> Mapping:
    """Add a mapping with its first version. It speaks for devices of ``unit`` and the units below.

    Raises:
        Invalid: a field does not fit, or the sample is not understood; ``DefinitionRefused`` names the places.
        Conflict: the type has a decoder, or another company reads these topics.
    """
    company_id = unit.company_id or unit.id
    checked = trial.demand(definition, sample, now_ms=clock.to_ms(now))
    _check_target(session, draft, checked, company_id)
    if draft.asset_type_id is not None and unit.id != company_id:
        raise Invalid("The decoder of a type is for the whole company.", field="unit_id")
    _check_topic(session, checked, company_id)
    made = Mapping(
        **_fields(session, draft, company_id),
        topic=checked.topic,
        asset_type_id=draft.asset_type_id,
        ready=ready,
        version=1,
        changed_at=now,
        company_id=company_id,
        unit_id=unit.id,
    )
    session.add(made)
    session.flush()
    _keep(session, made, 1, checked, sample, actor=actor, now=now)
    after = {"name": made.name, "unit_id": unit.id, "definition": language.dump(checked)}
    _tell(session, made, "mapping.add", None, after, actor=actor, now=now)
    return made


def adopt(
    session: Session, ready: Ready, *, unit: OrgUnit, bridge_id: int | None = None, actor: str, now: datetime
) -> Mapping:
    """Make a company's own copy of a ready mapping.

    Raises:
        Conflict: the company has one already, or another company reads these topics.
    """
    company_id = unit.company_id or unit.id
    if session.scalar(select(Mapping.id).where(Mapping.company_id == company_id, Mapping.ready == ready.key)):
        raise Conflict("This mapping is in use already.")
    return add(
        session,
        MappingDraft(ready.name, ready.name_zh, bridge_id=bridge_id),
        ready.definition,
        Sample(ready.topic, ready.payload),
        unit=unit,
        actor=actor,
        now=now,
        ready=ready.key,
    )


def revise(
    session: Session,
    mapping: Mapping,
    definition: Entries[str, Any],
    sample: Sample,
    *,
    actor: str,
    now: datetime,
    after: int | None = None,
) -> MappingVersion:
    """Make a definition the version in force; the same as before makes no new version.

    ``after`` is the version the author started from.

    Raises:
        Invalid: it breaks the grammar, or does not understand its sample.
        Stale: somebody else saved since ``after``.
        Conflict: another company reads these topics.
    """
    session.refresh(mapping, with_for_update={"of": Mapping})
    if after is not None and after != mapping.version:
        raise Stale("Somebody else saved this mapping meanwhile. Load it again and repeat your change.")
    checked = trial.demand(definition, sample, now_ms=clock.to_ms(now))
    if bool(checked.topic) == (mapping.asset_type_id is not None):
        raise Invalid("A mapping reads a topic; the decoder of a type does not.", field="topic")
    _check_topic(session, checked, mapping.company_id)
    before = in_force(session, mapping)
    stored = language.dump(checked)
    if before.definition == stored and before.sample == sample.dump():
        return before
    number = 1 + max(version.number for version in versions(session, mapping))
    version = _keep(session, mapping, number, checked, sample, actor=actor, now=now)
    _put_in_force(mapping, version, now)
    was, is_ = {"version": before.number, "definition": before.definition}, {"version": number, "definition": stored}
    _tell(session, mapping, "mapping.revise", was, is_, actor=actor, now=now)
    return version


def roll_back(session: Session, mapping: Mapping, number: int, *, actor: str, now: datetime) -> MappingVersion:
    """Put an earlier version in force again; the later ones stay.

    Raises:
        Invalid: there is no such version.
        Conflict: it is in force, or another company reads its topics by now.
    """
    session.refresh(mapping, with_for_update={"of": Mapping})
    wanted = next((one for one in versions(session, mapping) if one.number == number), None)
    if wanted is None:
        raise Invalid("There is no such version.", field="number")
    if number == mapping.version:
        raise Conflict("This version is in force already.")
    _check_topic(session, language.parse(wanted.definition), mapping.company_id)
    before = mapping.version
    _put_in_force(mapping, wanted, now)
    _tell(session, mapping, "mapping.roll_back", {"version": before}, {"version": number}, actor=actor, now=now)
    return wanted


def switch(session: Session, mapping: Mapping, *, is_enabled: bool, actor: str, now: datetime) -> None:
    """Let a mapping read, or no longer."""
    if mapping.is_enabled == is_enabled:
        return
    mapping.is_enabled, mapping.changed_at = is_enabled, now
    was, is_ = {"is_enabled": not is_enabled}, {"is_enabled": is_enabled}
    _tell(session, mapping, "mapping.switch", was, is_, actor=actor, now=now)


def change(session: Session, mapping: Mapping, draft: MappingDraft, *, actor: str, now: datetime) -> None:
    """Change what a mapping is called, who may publish to its topics, and whether it admits unknown devices.

    Raises:
        Invalid: a field does not fit.
    """
    wanted = _fields(session, draft, mapping.company_id)
    before = {name: getattr(mapping, name) for name, value in wanted.items() if getattr(mapping, name) != value}
    if not before:
        return
    for name in before:
        setattr(mapping, name, wanted[name])
    mapping.changed_at = now
    after = {name: wanted[name] for name in before}
    _tell(session, mapping, "mapping.change", before, after, actor=actor, now=now)


# What there is -------------------------------------------------------------------------------------------------


def find(session: Session, viewer: Viewer, identity: int, right: str = READS) -> Mapping:
    """Return one mapping within the viewer's sight.

    Raises:
        NotFound: it does not exist or lies outside.
    """
    return scope.find(session, Mapping, identity, viewer, right)


def listed(
    session: Session, viewer: Viewer, *, after: int | None = None, limit: int
) -> Sequence[tuple[Mapping, MappingUse | None]]:
    """Return the mappings within the viewer's sight with how they were used, in the order they were added."""
    query = (
        select(Mapping, MappingUse)
        .outerjoin(MappingUse, MappingUse.mapping_id == Mapping.id)
        .where(scope.visible(Mapping, viewer, READS))
        .order_by(Mapping.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(Mapping.id > after)
    return [(mapping, use) for mapping, use in session.execute(query)]


def versions(session: Session, mapping: Mapping) -> Sequence[MappingVersion]:
    """Return the versions of a mapping, the newest first."""
    query = select(MappingVersion).where(MappingVersion.mapping_id == mapping.id)
    return session.scalars(query.order_by(MappingVersion.number.desc())).all()


def in_force(session: Session, mapping: Mapping) -> MappingVersion:
    """Return the version that holds."""
    return session.scalars(
        select(MappingVersion).where(MappingVersion.mapping_id == mapping.id, MappingVersion.number == mapping.version)
    ).one()


def topics(session: Session) -> Sequence[tuple[str, str | None]]:
    """Return (topic filter, key of the bridge) of every mapping in force, for the access file of a broker."""
    rows = session.execute(
        select(Mapping.topic, Device.key)
        .outerjoin(Device, (Device.id == Mapping.bridge_id) & Device.revoked_at.is_(None))
        .where(Mapping.is_enabled, Mapping.topic != "")
        .order_by(Mapping.id)
    )
    filters = [(language.topic_filter(topic), key) for topic, key in rows]
    return [(name, key) for name, key in filters if not name.startswith(language.WEBHOOKS)]


# How -----------------------------------------------------------------------------------------------------------


def _fields(session: Session, draft: MappingDraft, company_id: int) -> dict[str, Any]:
    if draft.bridge_id is not None:
        bridge = session.get(Device, draft.bridge_id)
        if bridge is None or bridge.company_id != company_id or bridge.revoked_at is not None:
            raise Invalid("There is no such device.", field="bridge_id")
    return {
        "name": wording.needed(draft.name, "name"),
        "name_zh": wording.optional(draft.name_zh, "name_zh"),
        "bridge_id": draft.bridge_id,
        "admits": draft.admits,
    }


def _check_target(session: Session, draft: MappingDraft, definition: Definition, company_id: int) -> None:
    if draft.asset_type_id is None:
        if not definition.topic:
            raise Invalid("Name a topic, or the type of asset whose devices send raw bytes.", field="topic")
        return
    if definition.topic:
        raise Invalid("A mapping reads a topic; the decoder of a type does not.", field="topic")
    kind = session.get(AssetType, draft.asset_type_id)
    if kind is None or kind.company_id != company_id:
        raise Invalid("There is no such type.", field="asset_type_id")
    if session.scalar(select(Mapping.id).where(Mapping.asset_type_id == kind.id)):
        raise Conflict("This type has a decoder already.", field="asset_type_id")


def _check_topic(session: Session, definition: Definition, company_id: int) -> None:
    if not definition.topic:
        return
    if definition.topic.startswith(language.WEBHOOKS):
        _check_source(session, definition.topic.removeprefix(language.WEBHOOKS), company_id)
        return
    wanted = language.topic_filter(definition.topic)
    others = session.scalars(select(Mapping.topic).where(Mapping.company_id != company_id, Mapping.topic != ""))
    over_mqtt = (topic for topic in others if not topic.startswith(language.WEBHOOKS))
    if any(language.may_meet(wanted, language.topic_filter(topic)) for topic in over_mqtt):
        raise Conflict("These topics are read by another company. Choose others.", field="topic")


def _check_source(session: Session, name: str, company_id: int) -> None:
    """Make sure that what posts under a name is the company's own: a mapping sees whole messages."""
    owner = select(WebhookSource.id).where(WebhookSource.name == name, WebhookSource.company_id == company_id)
    if session.scalar(owner) is None:
        raise Invalid("There is no webhook source of this name. Add it first.", field="topic")


def _keep(
    session: Session,
    mapping: Mapping,
    number: int,
    definition: Definition,
    sample: Sample,
    *,
    actor: str,
    now: datetime,
) -> MappingVersion:
    version = MappingVersion(
        mapping_id=mapping.id,
        number=number,
        definition=language.dump(definition),
        sample=sample.dump(),
        author=actor,
        at=now,
    )
    session.add(version)
    session.flush()
    return version


def _put_in_force(mapping: Mapping, version: MappingVersion, now: datetime) -> None:
    mapping.version, mapping.changed_at = version.number, now
    mapping.topic = version.definition.get("topic", "")


def _tell(
    session: Session,
    mapping: Mapping,
    action: str,
    before: Json | None,
    after: Json | None,
    *,
    actor: str,
    now: datetime,
) -> None:
    subject = f"mapping:{mapping.id}"
    audit.record(
        session, action, subject=subject, actor=actor, at=now, before=before, after=after, company_id=mapping.company_id
    )
    events.emit(session, MappingChanged(mapping.id), subject=subject, at=now, actor=actor, unit_id=mapping.unit_id)
