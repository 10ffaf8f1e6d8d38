"""Alarm rules over JSON: alarm types with their versions and overrides."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api import paging, versions
from api.access import Db, needs
from assets.models import Asset
from kernel import clock
from kernel.errors import Invalid, NotFound
from maintenance.orders import findings, policies
from people import scope
from people.models import OrgUnit
from people.scope import Viewer
from rules import library, precision, visible
from rules.models import AlarmType, RuleVersion

router = APIRouter(prefix="/rules", tags=["rules"])
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]
Severity = Literal["critical", "major", "minor", "warning", "info"]


class RuleIn(BaseModel):
    """An alarm type with its first definition. One of ``asset_type_id`` and ``asset_id`` is needed."""

    key: str
    name: str
    name_zh: str | None = None
    asset_type_id: int | None = Field(None, description="A type of asset; those inheriting from it count.")
    asset_id: int | None = Field(None, description="Or one asset.")
    unit_id: int | None = Field(
        None, description="It holds on assets of this org unit and below; the company, or the asset's, when left out."
    )
    order_from: Severity | None = Field(
        "major",
        description="The least severity that opens a work order: short for an order policy of its own. Left out, it"
        " does as the company does.",
    )
    definition: dict[str, Any] = Field(description="Create rules by severity, clear policy and message.")


class RuleChange(BaseModel):
    """What to change of an alarm type beside its definition; fields left out stay."""

    is_enabled: bool | None = None
    order_from: Severity | None = Field(None, description="Short for an order policy; narrowed lines stay.")


class Definition(BaseModel):
    """A new version."""

    definition: dict[str, Any]


class SuggestionOut(BaseModel):
    """A limit that all real alarms reached and ``spared`` of the false ones did not; never applied by itself."""

    model_config = ConfigDict(from_attributes=True)

    metric: str
    operator: str
    limit: float
    suggested: float
    real: int
    false: int
    spared: int


class PrecisionOut(BaseModel):
    """What technicians found on the work orders of a rule's alarms."""

    real: int
    false_alarm: int
    nothing_found: int = Field(description="Decides nothing, and is not in the percentage.")
    percent: float | None = Field(description="Real of real and false; null before anything was decided.")
    suggestions: list[SuggestionOut]


class Patch(BaseModel):
    """What one asset does differently; an empty patch ends it."""

    limits: dict[str, Any] = Field(default_factory=dict)
    deadbands: dict[str, Any] = Field(default_factory=dict)
    durations_s: dict[str, Any] = Field(default_factory=dict)


class RuleOut(BaseModel):
    """An alarm type with the definition in force; its ``ETag`` is the version."""

    id: int
    key: str
    name: str
    name_zh: str | None
    asset_type_id: int | None
    asset_id: int | None
    unit_id: int
    is_enabled: bool
    order_from: str | None = Field(
        description="The least severity from which on each opens a work order, by its order policy or the company's."
    )
    version: int
    changed_at: datetime
    definition: dict[str, Any]


class VersionOut(BaseModel):
    """A version of an alarm type; never changed."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    definition: dict[str, Any]
    author: str
    at: datetime


class OverrideOut(BaseModel):
    """What one asset does differently."""

    asset_id: int
    patch: dict[str, Any]
    author: str
    at: datetime


class Filter(BaseModel):
    """The parameters of the list of rules."""

    q: str = Field("", max_length=100, description="A part of key or name.")
    asset_type_id: int | None = Field(None, description="Rules that hold for this type of asset, inherited ones too.")
    asset_id: int | None = Field(None, description="Rules that hold for this asset.")
    enabled: bool | None = None
    limit: paging.Limit = 100
    cursor: paging.Cursor = None

    def asked(self) -> visible.Wanted:
        """Return the filter of the query."""
        return visible.Wanted(
            asset_type_id=self.asset_type_id, asset_id=self.asset_id, is_enabled=self.enabled, text=self.q.strip()
        )


@router.get("")
def rules(db: Db, viewer: Reader, wanted: Annotated[Filter, Query()]) -> paging.Page[RuleOut]:
    """List alarm types in order of key, with the definitions in force."""
    after = paging.read(wanted.cursor, (str, int))
    rows = visible.listed(db, viewer, wanted.asked(), after=after, limit=wanted.limit + 1)
    page, following = paging.cut(rows, wanted.limit, lambda row: (row[0].key, row[0].id))
    opens = policies.least_of(db, [kind for kind, _ in page])
    return paging.Page(items=[_shown(*row, opens[row[0].id]) for row in page], next=following)


@router.post("", status_code=201)
def add_rule(db: Db, viewer: Writer, body: RuleIn, response: Response) -> RuleOut:
    """Add an alarm type with its first version."""
    made = add(db, viewer, body)
    versions.give(response, made.version)
    return _now(db, made)


def add(db: Session, viewer: Viewer, body: RuleIn) -> AlarmType:
    """Add an alarm type for a viewer who may do so at its unit.

    Raises:
        Invalid: a field does not fit, or the asset is not the viewer's to see.
        Forbidden: the viewer may not shape rules of that unit.
    """
    unit_id = body.unit_id
    if body.asset_id is not None:
        unit_id = _asset(db, viewer, body.asset_id).unit_id
    unit_id = unit_id or viewer.company_id
    scope.require(db, viewer, "rules.write", unit_id)
    draft = library.AlarmTypeDraft(body.key, body.name, body.name_zh or None, body.asset_type_id, body.asset_id)
    unit, now = db.get_one(OrgUnit, unit_id), clock.now()
    made = library.add(db, draft, body.definition, unit=unit, actor=viewer.actor, now=now)
    if "order_from" in body.model_fields_set:
        policies.save_least(db, made, body.order_from, actor=viewer.actor, now=now)
    return made


@router.get("/{rule_id}")
def rule(db: Db, viewer: Reader, rule_id: int, response: Response) -> RuleOut:
    """Return one alarm type."""
    found = visible.find(db, viewer, rule_id)
    versions.give(response, found.version)
    return _now(db, found)


@router.patch("/{rule_id}")
def change_rule(db: Db, viewer: Writer, rule_id: int, body: RuleChange) -> RuleOut:
    """Switch an alarm type on or off, or say from which severity on it opens a work order."""
    found = mine(db, viewer, rule_id)
    now = clock.now()
    if "is_enabled" in body.model_fields_set and body.is_enabled is not None:
        library.switch(db, found, is_enabled=body.is_enabled, actor=viewer.actor, now=now)
    if "order_from" in body.model_fields_set:
        policies.save_least(db, found, body.order_from, actor=viewer.actor, now=now)
    return _now(db, found)


@router.delete("/{rule_id}", status_code=204)
def remove(db: Db, viewer: Writer, rule_id: int) -> None:
    """Remove an alarm type; what it raised still tells by which version and samples."""
    library.remove(db, mine(db, viewer, rule_id), actor=viewer.actor, now=clock.now())


@router.get("/{rule_id}/versions")
def all_versions(db: Db, viewer: Reader, rule_id: int) -> paging.Page[VersionOut]:
    """List the versions of an alarm type, the newest first."""
    rows = visible.versions(db, visible.find(db, viewer, rule_id))
    return paging.Page(items=[VersionOut.model_validate(row) for row in rows])


@router.post("/{rule_id}/versions", status_code=201)
def save(
    db: Db, viewer: Writer, rule_id: int, body: Definition, version: versions.IfMatch, response: Response
) -> VersionOut:
    """Make a definition the version in force; with ``If-Match`` only if nobody else saved since."""
    found = mine(db, viewer, rule_id)
    saved = library.save(db, found, body.definition, actor=viewer.actor, now=clock.now(), after=version)
    versions.give(response, saved.number)
    return VersionOut.model_validate(saved)


@router.get("/{rule_id}/precision")
def how_good(db: Db, viewer: Reader, rule_id: int) -> PrecisionOut:
    """Return how often the alarms of an alarm type were real, from the findings on their work orders."""
    judged = findings.of_rule(db, viewer, visible.find(db, viewer, rule_id).id)
    quality = precision.quality(judged)
    return PrecisionOut(
        real=quality.real,
        false_alarm=quality.false,
        nothing_found=quality.nothing,
        percent=quality.percent,
        suggestions=[SuggestionOut.model_validate(one) for one in precision.suggestions(judged)],
    )


@router.get("/{rule_id}/overrides")
def overrides(db: Db, viewer: Reader, rule_id: int) -> paging.Page[OverrideOut]:
    """List the assets that differ from an alarm type."""
    rows = visible.overridden(db, viewer, visible.find(db, viewer, rule_id))
    items = [OverrideOut(asset_id=asset.id, patch=row.patch, author=row.author, at=row.at) for row, asset in rows]
    return paging.Page(items=items)


@router.put("/{rule_id}/overrides/{asset_id}", status_code=204)
def override(db: Db, viewer: Writer, rule_id: int, asset_id: int, body: Patch) -> None:
    """Let one asset differ by limits, deadbands or durations; it takes the right over the asset, not the rule."""
    found = visible.find(db, viewer, rule_id)
    patch = {name: value for name, value in body.model_dump().items() if value}
    differ(db, viewer, found, asset_id, patch)


def differ(db: Session, viewer: Viewer, found: AlarmType, asset_id: int, patch: dict[str, Any]) -> None:
    """Let an asset differ from a rule, for a viewer who may shape rules on that asset.

    Raises:
        NotFound: the asset lies outside the viewer's sight.
        Forbidden: the viewer may not shape rules there.
        Invalid: the patch does not fit.
    """
    asset = scope.find(db, Asset, asset_id, viewer, "rules.read")
    scope.require(db, viewer, "rules.write", asset.unit_id)
    library.override(db, found, asset, patch, actor=viewer.actor, now=clock.now())


def mine(db: Session, viewer: Viewer, rule_id: int) -> AlarmType:
    """Return an alarm type the viewer may change.

    Raises:
        NotFound: it holds nowhere within the viewer's sight.
        Forbidden: it belongs to a unit the viewer may not shape rules of.
    """
    found = visible.find(db, viewer, rule_id)
    scope.require(db, viewer, "rules.write", found.unit_id)
    return found


def _asset(db: Session, viewer: Viewer, asset_id: int) -> Asset:
    try:
        return scope.find(db, Asset, asset_id, viewer, "rules.read")
    except NotFound as error:
        raise Invalid("There is no such asset.", field="asset_id") from error


def _now(db: Session, kind: AlarmType) -> RuleOut:
    return _shown(kind, library.in_force(db, kind), policies.least_of(db, [kind])[kind.id])


def _shown(kind: AlarmType, version: RuleVersion, order_from: str | None) -> RuleOut:
    return RuleOut(
        id=kind.id,
        key=kind.key,
        name=kind.name,
        name_zh=kind.name_zh,
        asset_type_id=kind.asset_type_id,
        asset_id=kind.asset_id,
        unit_id=kind.unit_id,
        is_enabled=kind.is_enabled,
        order_from=order_from,
        version=kind.version,
        changed_at=kind.changed_at,
        definition=version.definition,
    )
