"""Types of assets and what they measure, over JSON."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from assets import listing, types
from assets.models import AssetType, Metric
from kernel import clock
from kernel.errors import NotFound
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/types", tags=["types"])
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("assets.write")]


class MetricIn(BaseModel):
    """Something a type measures."""

    key: str = Field(description="What devices call it, e.g. temperature.")
    name: str
    name_zh: str | None = None
    unit: str = ""
    kind: str = Field("gauge", description="gauge, counter, state or text.")
    low: float | None = Field(None, description="The least physically possible value.")
    high: float | None = Field(None, description="The greatest physically possible value.")
    decimals: int = 1
    expected_interval_s: int | None = None
    sent_unit: str | None = Field(
        None, description="The unit devices send it in, where that is not `unit`: readings are converted as they come."
    )
    is_on_change: bool = Field(
        default=False, description="Sent when it changes, not at an interval: never stale, no gaps, never stuck."
    )
    stuck_after: int | None = Field(
        None, description="Equal readings that make a sensor stuck which used to vary; 30 when null, never when 0."
    )
    uses_bad: bool = Field(default=False, description="Whether rules use its bad values too.")


class MetricOut(MetricIn):
    """A metric as a type has it; ``type_id`` tells which type says so."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    type_id: int


class MetricChange(BaseModel):
    """What to change of a metric; fields left out stay."""

    name: str | None = None
    name_zh: str | None = None
    unit: str | None = None
    kind: str | None = None
    low: float | None = None
    high: float | None = None
    decimals: int | None = None
    expected_interval_s: int | None = None
    sent_unit: str | None = None
    is_on_change: bool | None = None
    stuck_after: int | None = None
    uses_bad: bool | None = None


class UnclassifiedOut(BaseModel):
    """A metric that devices on assets of a type send, and that no type describes."""

    model_config = ConfigDict(from_attributes=True)

    metric: str
    assets: int = Field(description="On how many assets it is measured now.")
    since: datetime = Field(description="When the first of their devices sent it first.")


class TypeIn(BaseModel):
    """A type of asset."""

    key: str
    name: str
    name_zh: str | None = None
    parent_id: int | None = Field(None, description="The type whose metrics it inherits.")
    icon: str = "engine"
    skill: str | None = Field(None, description="Key of the skill that repairs need.")
    metrics: list[MetricIn] = Field(default_factory=list, max_length=200)


class TypeChange(BaseModel):
    """What to change of a type; fields left out stay."""

    name: str | None = None
    name_zh: str | None = None
    parent_id: int | None = None
    icon: str | None = None
    skill: str | None = None


class TypeOut(BaseModel):
    """A type of asset with all it measures, inherited metrics included."""

    id: int
    key: str
    name: str
    name_zh: str | None
    parent_id: int | None
    icon: str
    skill: str | None
    metrics: list[MetricOut]


@router.get("")
def all_types(db: Db, viewer: Reader, limit: paging.Limit = 100, cursor: paging.Cursor = None) -> paging.Page[TypeOut]:
    """List the company's types in order of key."""
    rows = listing.all_types(db, viewer, after=paging.read(cursor, (str, int)), limit=limit + 1)
    page, following = paging.cut(rows, limit, lambda row: (row.key, row.id))
    return paging.Page(items=_shown(db, viewer, page), next=following)


@router.post("", status_code=201)
def add_type(db: Db, viewer: Writer, body: TypeIn) -> TypeOut:
    """Add a type with its metrics."""
    scope.require(db, viewer, "assets.write", viewer.company_id)
    now = clock.now()
    draft = types.TypeDraft(**body.model_dump(exclude={"metrics"}))
    made = types.add(db, draft, company_id=viewer.company_id, actor=viewer.actor, now=now)
    for metric in body.metrics:
        types.add_metric(db, made, types.MetricDraft(**metric.model_dump()), actor=viewer.actor, now=now)
    return _shown(db, viewer, [made])[0]


@router.get("/{type_id}")
def one_type(db: Db, viewer: Reader, type_id: int) -> TypeOut:
    """Return one type."""
    return _shown(db, viewer, [find(db, viewer, type_id)])[0]


@router.patch("/{type_id}")
def change_type(db: Db, viewer: Writer, type_id: int, body: TypeChange) -> TypeOut:
    """Change a type; its key stays."""
    found = find(db, viewer, type_id)
    scope.require(db, viewer, "assets.write", viewer.company_id)
    wanted = {
        name: getattr(found, name) for name in ("key", "name", "name_zh", "parent_id", "icon", "skill")
    } | body.model_dump(exclude_unset=True)
    wanted |= {name: wanted[name] or "" for name in ("name", "icon")}
    types.change(db, found, types.TypeDraft(**wanted), actor=viewer.actor, now=clock.now())
    return _shown(db, viewer, [found])[0]


@router.get("/{type_id}/unclassified")
def unclassified(
    db: Db, viewer: Reader, type_id: int, limit: paging.Limit = 100, cursor: paging.Cursor = None
) -> paging.Page[UnclassifiedOut]:
    """List what devices on assets of a type send that it does not describe, by name; describe it to classify it."""
    after = paging.read(cursor, (str,))
    rows = listing.unclassified(
        db, viewer, find(db, viewer, type_id), after=None if after is None else after[0], limit=limit + 1
    )
    page, following = paging.cut(rows, limit, lambda row: (row.metric,))
    return paging.Page(items=[UnclassifiedOut.model_validate(row) for row in page], next=following)


@router.post("/{type_id}/metrics", status_code=201)
def add_metric(db: Db, viewer: Writer, type_id: int, body: MetricIn) -> MetricOut:
    """Let a type measure something more, or say an inherited metric differently."""
    found = find(db, viewer, type_id)
    scope.require(db, viewer, "assets.write", viewer.company_id)
    draft = types.MetricDraft(**body.model_dump())
    return MetricOut.model_validate(types.add_metric(db, found, draft, actor=viewer.actor, now=clock.now()))


@router.patch("/{type_id}/metrics/{metric_id}")
def change_metric(db: Db, viewer: Writer, type_id: int, metric_id: int, body: MetricChange) -> MetricOut:
    """Change a metric of a type; its key stays."""
    found = find(db, viewer, type_id)
    scope.require(db, viewer, "assets.write", viewer.company_id)
    metric = metric_of(found, metric_id)
    current = MetricOut.model_validate(metric).model_dump(exclude={"id", "type_id"})
    wanted = current | body.model_dump(exclude_unset=True)
    wanted |= {"name": wanted["name"] or "", "unit": wanted["unit"] or "", "kind": wanted["kind"] or ""}
    wanted |= {name: current[name] for name in ("decimals", "is_on_change", "uses_bad") if wanted[name] is None}
    types.change_metric(db, found, metric, types.MetricDraft(**wanted), actor=viewer.actor, now=clock.now())
    return MetricOut.model_validate(metric)


@router.delete("/{type_id}/metrics/{metric_id}", status_code=204)
def remove_metric(db: Db, viewer: Writer, type_id: int, metric_id: int) -> None:
    """Stop describing a metric; its readings stay."""
    found = find(db, viewer, type_id)
    scope.require(db, viewer, "assets.write", viewer.company_id)
    types.remove_metric(db, found, metric_of(found, metric_id), actor=viewer.actor, now=clock.now())


def find(db: Session, viewer: Viewer, type_id: int) -> AssetType:
    """Return a type of the viewer's company.

    Raises:
        NotFound: there is none.
    """
    found = db.get(AssetType, type_id)
    if found is None or found.company_id != viewer.company_id:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return found


def metric_of(kind: AssetType, metric_id: int) -> Metric:
    """Return a metric that a type has itself.

    Raises:
        NotFound: it has none of this id; an inherited one is changed where it is said.
    """
    found = next((metric for metric in kind.metrics if metric.id == metric_id), None)
    if found is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return found


def _shown(db: Session, viewer: Viewer, kinds: list[AssetType]) -> list[TypeOut]:
    measured = types.metrics(db, viewer.company_id, [kind.id for kind in kinds])
    return [
        TypeOut(
            id=kind.id,
            key=kind.key,
            name=kind.name,
            name_zh=kind.name_zh,
            parent_id=kind.parent_id,
            icon=kind.icon,
            skill=kind.skill,
            metrics=[MetricOut.model_validate(metric) for metric in measured[kind.id].values()],
        )
        for kind in kinds
    ]
