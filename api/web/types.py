"""Types of assets: what there is, what each measures, from which type it inherits."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api import access
from api.access import Db, needs
from api.v1 import enrolments
from api.v1 import types as v1
from api.v1.keeping import retention_of
from api.web import forms, pages, worked_out
from assets import listing, quietness, types
from assets.models import STUCK_AFTER, Asset, AssetType, Metric
from kernel import clock, i18n
from kernel.errors import Conflict, FixwrightError, Invalid
from people import scope
from people.models import OrgUnit, Skill
from people.scope import Viewer

router = APIRouter()
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("assets.write")]
MOST_UNCLASSIFIED = 50
ICONS = (
    "engine", "wind", "snowflake", "droplet", "propeller", "temperature", "bolt", "gauge", "building-factory",
    "arrows-right", "robot", "forklift", "elevator", "windmill", "truck", "tool", "router", "cpu", "box",
)  # fmt: skip
KIND_WORDS = (
    ("gauge", i18n.noop("Gauge: goes up and down")),
    ("counter", i18n.noop("Counter: only goes up")),
    ("state", i18n.noop("State: on, off, a mode")),
    ("text", i18n.noop("Text")),
)


class TypeForm(BaseModel):
    """The form of a type as it is sent."""

    key: str = ""
    name: str = ""
    name_zh: str = ""
    parent: str = ""
    icon: str = "engine"
    skill: str = ""


class MetricForm(BaseModel):
    """The form of a metric as it is sent."""

    key: str = ""
    name: str = ""
    name_zh: str = ""
    unit: str = ""
    kind: str = "gauge"
    low: str = ""
    high: str = ""
    decimals: str = "1"
    expected_interval_s: str = ""
    sent_unit: str = ""
    is_on_change: str = ""
    stuck_after: str = ""
    uses_bad: str = ""

    def draft(self) -> types.MetricDraft:
        """Return the metric it describes.

        Raises:
            Invalid: a field cannot be read.
        """
        return types.MetricDraft(
            key=self.key.strip(),
            name=self.name,
            name_zh=self.name_zh,
            unit=self.unit,
            kind=self.kind,
            low=forms.number(self.low, "low"),
            high=forms.number(self.high, "high"),
            decimals=forms.whole(self.decimals or "1", "decimals") or 0,
            expected_interval_s=forms.whole(self.expected_interval_s, "expected_interval_s"),
            sent_unit=self.sent_unit,
            is_on_change=bool(self.is_on_change),
            stuck_after=forms.whole(self.stuck_after, "stuck_after"),
            uses_bad=bool(self.uses_bad),
        )


@router.get("/types")
def all_types(request: Request, db: Db, viewer: Reader) -> Response:
    """List the types of the company."""
    kinds = listing.all_types(db, viewer)
    counted = select(Asset.type_id, func.count().label("n")).where(scope.visible(Asset, viewer, "assets.read"))
    return pages.render(
        request,
        "types/list.html",
        kinds=kinds,
        by_id={kind.id: kind for kind in kinds},
        measured=types.metrics(db, viewer.company_id, [kind.id for kind in kinds]),
        counts={row.type_id: row.n for row in db.execute(counted.group_by(Asset.type_id))},
        may_write=_may_write(db, viewer),
    )


@router.get("/types/new")
def new_type(request: Request, db: Db, viewer: Writer) -> Response:
    """Show the form of a new type."""
    return _new(request, db, viewer, TypeForm())


@router.post("/types")
def add_type(request: Request, db: Db, viewer: Writer, form: Annotated[TypeForm, Form()]) -> Response:
    """Add a type."""
    scope.require(db, viewer, "assets.write", viewer.company_id)
    try:
        made = types.add(db, _draft(form), company_id=viewer.company_id, actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        db.rollback()
        return _new(request, db, viewer, form, errors=forms.refused(request, error))
    return pages.go(f"/types/{made.id}", notice=i18n.noop("Saved. Now say what it measures."))


@router.get("/types/{type_id}")
def one_type(
    request: Request, db: Db, viewer: Reader, type_id: int, classify: Annotated[str, Query(max_length=80)] = ""
) -> Response:
    """Show a type with all it measures; ``classify`` is a metric that devices send and that is to be described."""
    chosen = MetricForm(key=classify, name=classify.replace("_", " ").capitalize()) if classify else None
    return _page(request, db, viewer, type_id, metric=chosen)


@router.post("/types/{type_id}")
def change_type(request: Request, db: Db, viewer: Writer, type_id: int, form: Annotated[TypeForm, Form()]) -> Response:
    """Change a type."""
    kind = mine(db, viewer, type_id)
    try:
        types.change(db, kind, _draft(form), actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        return again(request, db, viewer, type_id, error, form=form)
    return pages.go(f"/types/{type_id}", notice=i18n.noop("Saved."))


@router.post("/types/{type_id}/metrics")
def add_metric(request: Request, db: Db, viewer: Writer, type_id: int, form: Annotated[MetricForm, Form()]) -> Response:
    """Let a type measure something more."""
    kind = mine(db, viewer, type_id)
    try:
        types.add_metric(db, kind, form.draft(), actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        return again(request, db, viewer, type_id, error, metric=form)
    return pages.go(f"/types/{type_id}#metrics", notice=i18n.noop("Every asset of this type measures it now."))


@router.get("/types/{type_id}/metrics/{metric_id}")
def edit_metric(request: Request, db: Db, viewer: Writer, type_id: int, metric_id: int) -> Response:
    """Show the form of a metric."""
    kind = mine(db, viewer, type_id)
    metric = v1.metric_of(kind, metric_id)
    return _metric(request, kind, metric, _as_form(metric))


@router.post("/types/{type_id}/metrics/{metric_id}")
def change_metric(
    request: Request, db: Db, viewer: Writer, type_id: int, metric_id: int, form: Annotated[MetricForm, Form()]
) -> Response:
    """Change a metric."""
    kind = mine(db, viewer, type_id)
    metric = v1.metric_of(kind, metric_id)
    key = metric.key
    try:
        draft = form.model_copy(update={"key": key}).draft()
        types.change_metric(db, kind, metric, draft, actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        db.rollback()
        return _metric(request, kind, metric, form, errors=forms.refused(request, error))
    return pages.go(f"/types/{type_id}#metrics", notice=i18n.noop("Saved."))


@router.post("/types/{type_id}/metrics/{metric_id}/remove")
def remove_metric(db: Db, viewer: Writer, type_id: int, metric_id: int) -> Response:
    """Stop describing a metric; its readings stay."""
    kind = mine(db, viewer, type_id)
    types.remove_metric(db, kind, v1.metric_of(kind, metric_id), actor=viewer.actor, now=clock.now())
    return pages.go(f"/types/{type_id}#metrics", notice=i18n.noop("Removed. Its readings stay."))


def mine(db: Session, viewer: Viewer, type_id: int) -> AssetType:
    """Return a type that the viewer may change.

    Raises:
        NotFound: there is none in the company.
        Forbidden: the viewer may not change what belongs to the whole company.
    """
    kind = v1.find(db, viewer, type_id)
    scope.require(db, viewer, "assets.write", viewer.company_id)
    return kind


def _may_write(db: Session, viewer: Viewer) -> bool:
    """Return whether the viewer may change types, which belong to the whole company."""
    return viewer.may_at("assets.write", db.get_one(OrgUnit, viewer.company_id).path)


def _draft(form: TypeForm) -> types.TypeDraft:
    return types.TypeDraft(
        key=form.key.strip(),
        name=form.name,
        name_zh=form.name_zh,
        parent_id=forms.whole(form.parent, "parent_id"),
        icon=form.icon,
        skill=form.skill,
    )


def _new(
    request: Request, db: Session, viewer: Viewer, form: TypeForm, *, errors: dict[str, str] | None = None
) -> Response:
    return pages.render(
        request,
        "types/new.html",
        status=422 if errors else 200,
        form=form,
        errors=errors or {},
        **_choices(request, db, viewer),
    )


def _choices(request: Request, db: Session, viewer: Viewer) -> dict[str, Any]:
    skills = db.scalars(select(Skill).where(Skill.company_id == viewer.company_id).order_by(Skill.name)).all()
    language = request.state.language
    return {
        "parents": forms.options(listing.all_types(db, viewer), language),
        "skills": [(skill.key, skill.called(language)) for skill in skills],
        "icons": ICONS,
    }


def _page(
    request: Request,
    db: Session,
    viewer: Viewer,
    type_id: int,
    *,
    errors: dict[str, str] | None = None,
    form: TypeForm | None = None,
    metric: MetricForm | None = None,
    keeps: BaseModel | None = None,
) -> Response:
    kind = v1.find(db, viewer, type_id)
    line = types.lineage(db, viewer.company_id)[kind.id]
    above = {row.id: row for row in db.scalars(select(AssetType).where(AssetType.id.in_(line)))}
    parts = access.runtime(request)
    described = types.metrics(db, viewer.company_id, [kind.id])[kind.id]
    metrics, derived = worked_out.on_type(db, described, request.state.language)
    kept = retention_of(db, parts.settings, viewer.company_id, kind.id)
    return pages.render(
        request,
        "types/type.html",
        status=422 if errors else 200,
        kind=kind,
        above=[above[identity] for identity in line[1:]],
        by_id=above,
        metrics=metrics,
        derived=derived,
        hows=dict(forms.translated(worked_out.HOW_WORDS, request.state.language)),
        form=form or _form_of(kind),
        metric=metric or MetricForm(),
        is_adding=metric is not None,
        unclassified=listing.unclassified(db, viewer, kind, limit=MOST_UNCLASSIFIED),
        stuck_after=STUCK_AFTER,
        errors=errors or {},
        silence=quietness.of_type(db, kind.id),
        kinds=forms.translated(KIND_WORDS, request.state.language),
        may_write=_may_write(db, viewer),
        enrolments=[one for one in enrolments.shown(db, viewer, type_id=kind.id, limit=20) if one.revoked_at is None],
        sites=forms.options(listing.sites(db, viewer), request.state.language),
        kept=kept,
        keeps=keeps or kept,
        has_tiers=parts.store.has_tiers,
        **_choices(request, db, viewer),
    )


def again(
    request: Request,
    db: Session,
    viewer: Viewer,
    type_id: int,
    error: FixwrightError,
    *,
    form: TypeForm | None = None,
    metric: MetricForm | None = None,
    keeps: BaseModel | None = None,
) -> Response:
    """Show the page of a type again with what was typed and why it was refused."""
    db.rollback()
    errors = forms.refused(request, error)
    return _page(request, db, viewer, type_id, errors=errors, form=form, metric=metric, keeps=keeps)


def _metric(
    request: Request, kind: AssetType, metric: Metric, form: MetricForm, *, errors: dict[str, str] | None = None
) -> Response:
    return pages.render(
        request,
        "types/metric.html",
        status=422 if errors else 200,
        kind=kind,
        metric=metric,
        form=form,
        errors=errors or {},
        kinds=forms.translated(KIND_WORDS, request.state.language),
        stuck_after=STUCK_AFTER,
    )


def _form_of(kind: AssetType) -> TypeForm:
    return TypeForm(
        key=kind.key,
        name=kind.name,
        name_zh=kind.name_zh or "",
        parent=str(kind.parent_id or ""),
        icon=kind.icon,
        skill=kind.skill or "",
    )


def _as_form(metric: Metric) -> MetricForm:
    def text(value: float | None) -> str:
        return "" if value is None else f"{value:.10g}"

    return MetricForm(
        key=metric.key,
        name=metric.name,
        name_zh=metric.name_zh or "",
        unit=metric.unit,
        kind=metric.kind,
        low=text(metric.low),
        high=text(metric.high),
        decimals=str(metric.decimals),
        expected_interval_s=text(metric.expected_interval_s),
        sent_unit=metric.sent_unit or "",
        is_on_change="1" if metric.is_on_change else "",
        stuck_after=text(metric.stuck_after),
        uses_bad="1" if metric.uses_bad else "",
    )
