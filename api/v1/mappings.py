"""Payload mappings over JSON: what messages of other systems mean, tried, added, revised, rolled back."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api import paging, versions
from api.access import Db, needs
from ingest import mapping as language
from ingest import mappings, ready, trial
from ingest.mappings import MappingDraft
from ingest.models import Mapping, MappingUse
from ingest.trial import Sample, Trial
from kernel import clock
from kernel.errors import Invalid
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

router = APIRouter(prefix="/mappings", tags=["mappings"])
Reader = Annotated[Viewer, needs("ingest.read")]
Writer = Annotated[Viewer, needs("mappings.write")]


class SampleBody(BaseModel):
    """A message to try it on. ``form`` says how ``payload`` is written down."""

    topic: str = Field("", max_length=1000)
    payload: str = Field("", max_length=300_000)
    form: Literal["text", "hex"] = "text"

    def sample(self) -> Sample:
        """Return it as the verbs take it."""
        return Sample(self.topic, self.payload, self.form)


class MappingIn(BaseModel):
    """A mapping with its first version, which must understand its sample."""

    name: str
    name_zh: str | None = None
    unit_id: int | None = Field(None, description="It speaks for devices of this org unit and below; else the company.")
    asset_type_id: int | None = Field(None, description="For the decoder of a type, which reads raw bytes.")
    bridge_id: int | None = Field(None, description="The device whose account may publish to its topics.")
    admits: bool = Field(default=False, description="List unknown devices for approval.")
    definition: dict[str, Any]
    sample: SampleBody


class MappingChange(BaseModel):
    """What to change beside what it says; fields left out stay."""

    name: str | None = None
    name_zh: str | None = None
    bridge_id: int | None = None
    admits: bool | None = None
    is_enabled: bool | None = None


class VersionIn(BaseModel):
    """A new version, which must understand its sample."""

    definition: dict[str, Any]
    sample: SampleBody


class Adoption(BaseModel):
    """Which ready mapping to take, by its key, and for whom."""

    ready: str
    unit_id: int | None = None
    bridge_id: int | None = None


class RollBack(BaseModel):
    """The number of the version to put in force again."""

    number: int


class ReadyOut(BaseModel):
    """A mapping that comes with the product."""

    model_config = ConfigDict(from_attributes=True)

    key: str
    system: str
    name: str
    what: str
    definition: dict[str, Any]
    topic: str
    payload: str


class VersionOut(BaseModel):
    """What a mapping says, or said."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    definition: dict[str, Any]
    sample: dict[str, Any]
    author: str
    at: datetime


class MappingOut(BaseModel):
    """A mapping with how it was used."""

    id: int
    name: str
    name_zh: str | None
    topic: str
    asset_type_id: int | None
    unit_id: int
    bridge_id: int | None
    admits: bool
    ready: str | None
    is_enabled: bool
    version: int
    changed_at: datetime
    taken: int
    refused: int
    last_at: datetime | None
    last_refusal: str


class FaultOut(BaseModel):
    """What a sample says of an alarm."""

    model_config = ConfigDict(from_attributes=True)

    code: str
    severity: str
    is_raised: bool
    message: str
    ts_ms: int | None


class SaidOut(BaseModel):
    """What a sample says of one device."""

    device: str
    readings: list[dict[str, Any]]
    alarms: list[FaultOut]
    is_online: bool | None


class TrialOut(BaseModel):
    """What a sample gave: by device, or why nothing; ``is_left`` where the condition does not hold."""

    said: list[SaidOut]
    is_left: bool
    reason: str | None
    detail: str | None


@router.get("")
def all_mappings(
    db: Db, viewer: Reader, limit: paging.Limit = 100, cursor: paging.Cursor = None
) -> paging.Page[MappingOut]:
    """List the mappings within sight."""
    after = paging.read(cursor, (int,))
    rows = mappings.listed(db, viewer, after=after[0] if after else None, limit=limit + 1)
    page, following = paging.cut(rows, limit, lambda row: (row[0].id,))
    return paging.Page(items=[_shown(*row) for row in page], next=following)


@router.get("/ready")
def ready_mappings(viewer: Reader) -> paging.Page[ReadyOut]:
    """List the mappings that come with the product."""
    del viewer
    return paging.Page(items=[ReadyOut.model_validate(one) for one in ready.READY])


@router.post("/try")
def try_it(viewer: Writer, body: VersionIn) -> TrialOut:
    """Try a definition on a sample; nothing is kept."""
    del viewer
    definition = language.parse(body.definition)
    return _told(trial.run(definition, body.sample.sample(), now_ms=clock.now_ms()))


@router.post("", status_code=201)
def add_mapping(db: Db, viewer: Writer, body: MappingIn, response: Response) -> MappingOut:
    """Add a mapping."""
    draft = MappingDraft(body.name, body.name_zh or None, body.asset_type_id, body.bridge_id, body.admits)
    unit = _unit(db, viewer, body.unit_id)
    sample = body.sample.sample()
    made = mappings.add(db, draft, body.definition, sample, unit=unit, actor=viewer.actor, now=clock.now())
    versions.give(response, made.version)
    return _shown(made, None)


@router.post("/adopt", status_code=201)
def adopt(db: Db, viewer: Writer, body: Adoption) -> MappingOut:
    """Make the company's own copy of a ready mapping."""
    found = ready.find(body.ready)
    if found is None:
        raise Invalid("There is no such ready mapping.", field="ready")
    unit = _unit(db, viewer, body.unit_id)
    made = mappings.adopt(db, found, unit=unit, bridge_id=body.bridge_id, actor=viewer.actor, now=clock.now())
    return _shown(made, None)


@router.get("/{mapping_id}")
def mapping(db: Db, viewer: Reader, mapping_id: int, response: Response) -> MappingOut:
    """Return one mapping."""
    found = mappings.find(db, viewer, mapping_id)
    versions.give(response, found.version)
    return _shown(found, db.get(MappingUse, found.id))


@router.patch("/{mapping_id}")
def change(db: Db, viewer: Writer, mapping_id: int, body: MappingChange) -> MappingOut:
    """Change what a mapping is called and whom it trusts, or switch it."""
    found = mappings.find(db, viewer, mapping_id, mappings.WRITES)
    given, now = body.model_fields_set, clock.now()
    draft = MappingDraft(
        body.name if body.name is not None else found.name,
        body.name_zh if "name_zh" in given else found.name_zh,
        bridge_id=body.bridge_id if "bridge_id" in given else found.bridge_id,
        admits=body.admits if body.admits is not None else found.admits,
    )
    mappings.change(db, found, draft, actor=viewer.actor, now=now)
    if body.is_enabled is not None:
        mappings.switch(db, found, is_enabled=body.is_enabled, actor=viewer.actor, now=now)
    return _shown(found, db.get(MappingUse, found.id))


@router.get("/{mapping_id}/versions")
def all_versions(db: Db, viewer: Reader, mapping_id: int) -> paging.Page[VersionOut]:
    """List the versions of a mapping, the newest first."""
    rows = mappings.versions(db, mappings.find(db, viewer, mapping_id))
    return paging.Page(items=[VersionOut.model_validate(row) for row in rows])


@router.post("/{mapping_id}/versions", status_code=201)
def revise(
    db: Db, viewer: Writer, mapping_id: int, body: VersionIn, version: versions.IfMatch, response: Response
) -> VersionOut:
    """Make a definition the version in force; with ``If-Match`` only if nobody else saved since."""
    found = mappings.find(db, viewer, mapping_id, mappings.WRITES)
    sample, now = body.sample.sample(), clock.now()
    saved = mappings.revise(db, found, body.definition, sample, actor=viewer.actor, now=now, after=version)
    versions.give(response, saved.number)
    return VersionOut.model_validate(saved)


@router.post("/{mapping_id}/roll_back")
def roll_back(db: Db, viewer: Writer, mapping_id: int, body: RollBack) -> VersionOut:
    """Put an earlier version in force again."""
    found = mappings.find(db, viewer, mapping_id, mappings.WRITES)
    saved = mappings.roll_back(db, found, body.number, actor=viewer.actor, now=clock.now())
    return VersionOut.model_validate(saved)


def _unit(db: Session, viewer: Viewer, unit_id: int | None) -> OrgUnit:
    wanted = unit_id or viewer.company_id
    scope.require(db, viewer, mappings.WRITES, wanted)
    return db.get_one(OrgUnit, wanted)


def _shown(found: Mapping, use: MappingUse | None) -> MappingOut:
    return MappingOut(
        id=found.id,
        name=found.name,
        name_zh=found.name_zh,
        topic=found.topic,
        asset_type_id=found.asset_type_id,
        unit_id=found.unit_id,
        bridge_id=found.bridge_id,
        admits=found.admits,
        ready=found.ready,
        is_enabled=found.is_enabled,
        version=found.version,
        changed_at=found.changed_at,
        taken=use.taken if use else 0,
        refused=use.refused if use else 0,
        last_at=use.last_at if use else None,
        last_refusal=use.last_refusal if use else "",
    )


def _told(found: Trial) -> TrialOut:
    said = [
        SaidOut(
            device=one.device,
            readings=[{"ts": element.ts_ms, "values": element.values} for element in one.elements],
            alarms=[FaultOut.model_validate(fault) for fault in one.faults],
            is_online=one.is_online,
        )
        for one in found.said
    ]
    refusal = found.refusal
    return TrialOut(
        said=said,
        is_left=found.is_left,
        reason=str(refusal.reason) if refusal else None,
        detail=refusal.detail if refusal else None,
    )
