"""Derived metrics of a type, over JSON: what is worked out of which metric, and how."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.v1.types import find
from assets import derivations, types
from assets.derivations import DerivedDraft
from assets.derived_tables import Derivation
from assets.models import AssetType
from kernel import clock
from kernel.errors import NotFound
from people import scope
from people.scope import Viewer

router = APIRouter(tags=["types"])
Reader = Annotated[Viewer, needs("assets.read")]
Measurer = Annotated[Viewer, needs("telemetry.read")]
Writer = Annotated[Viewer, needs("assets.write")]


class DerivedIn(BaseModel):
    """A metric that is worked out of another one, hour by hour."""

    key: str = Field(description="What it is called in ranges and rules, e.g. run_hours.")
    name: str
    name_zh: str | None = None
    source: str = Field(description="Key of the metric it is worked out of.")
    how: str = Field(description="run_hours, starts, cycles, energy, counter, difference, rate or deviation.")
    unit: str = Field("", description="The one that follows from the source when left out.")
    decimals: int = 1
    above: float | None = Field(None, description="It runs while the source is greater; 0.5 when left out.")
    wraps_at: float | None = Field(None, description="The counter shows 0 instead of this: 65536 of 16 bits.")
    scale: float = Field(1.0, description="What the result is multiplied by: 0.01 for 100 pulses a kWh.")
    hold_s: int | None = Field(None, description="How long a reading speaks; three expected intervals when left out.")
    per_s: int | None = Field(None, description="The time a rate is for; an hour when left out.")

    def draft(self) -> DerivedDraft:
        """Return what is wanted."""
        return DerivedDraft(**self.model_dump())


class DerivedChange(BaseModel):
    """What to change of a derived metric; fields left out stay."""

    name: str | None = None
    name_zh: str | None = None
    source: str | None = None
    unit: str | None = None
    decimals: int | None = None
    above: float | None = None
    wraps_at: float | None = None
    scale: float | None = None
    hold_s: int | None = None
    per_s: int | None = None


class DerivedOut(DerivedIn):
    """A derived metric; ``type_id`` tells which type says so, ``total`` is the metric of its running total."""

    id: int
    type_id: int
    total: str | None


@router.get("/types/{type_id}/derived")
def listed(db: Db, viewer: Reader, type_id: int) -> paging.Page[DerivedOut]:
    """List what is worked out for assets of a type, inherited included, in one page."""
    kind = find(db, viewer, type_id)
    described = types.metrics(db, viewer.company_id, [kind.id])[kind.id]
    rows = derivations.rows_of(db, described.values())
    hourly = [one.id for one in described.values() if one.id in rows and rows[one.id].metric_id == one.id]
    return paging.Page(items=[shown(rows[identity]) for identity in hourly], next=None)


@router.post("/types/{type_id}/derived", status_code=201)
def add(db: Db, viewer: Writer, type_id: int, body: DerivedIn) -> DerivedOut:
    """Let a metric be worked out for every asset of a type, also of what is stored already."""
    kind = find(db, viewer, type_id)
    scope.require(db, viewer, "assets.write", viewer.company_id)
    return shown(derivations.add(db, kind, body.draft(), actor=viewer.actor, now=clock.now()))


@router.patch("/types/{type_id}/derived/{derived_id}")
def change(db: Db, viewer: Writer, type_id: int, derived_id: int, body: DerivedChange) -> DerivedOut:
    """Change how a metric is worked out; all hours that can still be read follow."""
    kind = find(db, viewer, type_id)
    scope.require(db, viewer, "assets.write", viewer.company_id)
    row = derived_of(db, kind, derived_id)
    wanted = shown(row).model_dump(exclude={"id", "type_id", "total"}) | body.model_dump(exclude_unset=True)
    wanted |= {name: wanted[name] or "" for name in ("name", "unit", "source")}
    wanted |= {name: getattr(shown(row), name) for name in ("scale", "decimals") if wanted[name] is None}
    derivations.change(db, kind, row, DerivedDraft(**wanted), actor=viewer.actor, now=clock.now())
    return shown(row)


@router.delete("/types/{type_id}/derived/{derived_id}", status_code=204)
def remove(db: Db, viewer: Writer, type_id: int, derived_id: int) -> None:
    """Stop working a metric out; what was worked out stays."""
    kind = find(db, viewer, type_id)
    scope.require(db, viewer, "assets.write", viewer.company_id)
    derivations.remove(db, kind, derived_of(db, kind, derived_id), actor=viewer.actor, now=clock.now())


def derived_of(db: Session, kind: AssetType, derived_id: int) -> Derivation:
    """Return a derived metric that a type has itself.

    Raises:
        NotFound: it has none of this id; an inherited one is changed where it is said.
    """
    found = derivations.own(db, kind).get(derived_id)
    if found is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return found


def shown(row: Derivation) -> DerivedOut:
    """Return a derived metric as it is told."""
    metric = row.metric
    return DerivedOut(
        id=row.metric_id,
        type_id=metric.type_id,
        key=metric.key,
        name=metric.name,
        name_zh=metric.name_zh,
        source=row.source,
        how=row.how,
        unit=metric.unit,
        decimals=metric.decimals,
        above=row.above,
        wraps_at=row.wraps_at,
        scale=row.scale,
        hold_s=row.hold_s,
        per_s=row.per_s,
        total=None if row.total is None else row.total.key,
    )
