"""Derived metrics on pages: what a type works out of what it measures, and what was done to the meters of an asset."""

from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import derived as v1
from api.web import forms, pages, types, worked_out
from assets import derivations
from assets import types as kinds
from assets.derivations import DerivedDraft
from assets.derived_tables import Derivation
from assets.models import AssetType
from kernel import clock, i18n
from kernel.errors import Conflict, Invalid
from people.scope import Viewer
from telemetry.derived import HOWS

router = APIRouter()
Measurer = Annotated[Viewer, needs("telemetry.read")]
Writer = Annotated[Viewer, needs("assets.write")]
PAGE: Final = 50

_NAMES: Final = {
    "run_hours": ("run_hours", i18n.noop("Run hours")),
    "starts": ("starts", i18n.noop("Number of starts")),
    "cycles": ("cycles", i18n.noop("Number of cycles")),
    "energy": ("energy", i18n.noop("Energy")),
    "deviation": ("unusual", i18n.noop("Deviation from the usual")),
}
WIDTHS: Final = (
    ("65536", i18n.noop("16 bits")),
    ("16777216", i18n.noop("24 bits")),
    ("4294967296", i18n.noop("32 bits")),
    ("281474976710656", i18n.noop("48 bits")),
    ("10000", i18n.noop("4 digits")),
    ("100000", i18n.noop("5 digits")),
    ("1000000", i18n.noop("6 digits")),
    ("10000000", i18n.noop("7 digits")),
    ("100000000", i18n.noop("8 digits")),
)
PERS: Final = (
    ("1", i18n.noop("one second")),
    ("60", i18n.noop("one minute")),
    ("3600", i18n.noop("one hour")),
    ("86400", i18n.noop("one day")),
)


class DerivedForm(BaseModel):
    """The form of a derived metric as it is sent; ``other`` is a counter's width that is not among the usual ones."""

    key: str = ""
    name: str = ""
    name_zh: str = ""
    source: str = ""
    how: str = "run_hours"
    unit: str = ""
    decimals: str = "1"
    above: str = ""
    width: str = ""
    other: str = ""
    scale: str = "1"
    hold_s: str = ""
    per_s: str = "3600"

    def draft(self) -> DerivedDraft:
        """Return what it describes.

        Raises:
            Invalid: a field cannot be read.
        """
        wraps_at = forms.number(self.other, "wraps_at") or forms.number(self.width, "wraps_at")
        scale = forms.number(self.scale or "1", "scale")
        return DerivedDraft(
            key=self.key.strip(),
            name=self.name,
            name_zh=self.name_zh,
            source=self.source,
            how=self.how,
            unit=self.unit,
            decimals=forms.whole(self.decimals or "1", "decimals") or 0,
            above=forms.number(self.above, "above"),
            wraps_at=wraps_at,
            scale=1.0 if scale is None else scale,
            hold_s=forms.whole(self.hold_s, "hold_s"),
            per_s=forms.whole(self.per_s, "per_s"),
        )


@router.get("/types/{type_id}/derived/new")
def new(request: Request, db: Db, viewer: Writer, type_id: int, how: Annotated[str, Query()] = "run_hours") -> Response:
    """Show the form of a new derived metric."""
    kind = types.mine(db, viewer, type_id)
    how = how if how in HOWS else HOWS[0]
    key, name = _NAMES.get(how, ("", ""))
    described = kinds.metrics(db, viewer.company_id, [kind.id])[kind.id]
    words = i18n.catalogue("zh")
    form = DerivedForm(
        how=how,
        key="" if key in described else key,
        name=name,
        name_zh=words.get(name, ""),
        decimals="0" if how in {"starts", "cycles", "counter"} else "1",
    )
    return _form(request, db, viewer, kind, form)


@router.post("/types/{type_id}/derived")
def add(request: Request, db: Db, viewer: Writer, type_id: int, form: Annotated[DerivedForm, Form()]) -> Response:
    """Let a metric be worked out for every asset of a type."""
    kind = types.mine(db, viewer, type_id)
    try:
        derivations.add(db, kind, form.draft(), actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        db.rollback()
        return _form(request, db, viewer, kind, form, errors=forms.refused(request, error))
    return pages.go(
        f"/types/{type_id}#derived", notice=i18n.noop("Saved. It is being worked out, also of what is stored already.")
    )


@router.get("/types/{type_id}/derived/{derived_id}")
def edit(request: Request, db: Db, viewer: Writer, type_id: int, derived_id: int) -> Response:
    """Show the form of a derived metric."""
    kind = types.mine(db, viewer, type_id)
    row = v1.derived_of(db, kind, derived_id)
    return _form(request, db, viewer, kind, _form_of(row), row=row)


@router.post("/types/{type_id}/derived/{derived_id}")
def change(
    request: Request, db: Db, viewer: Writer, type_id: int, derived_id: int, form: Annotated[DerivedForm, Form()]
) -> Response:
    """Change how a metric is worked out."""
    kind = types.mine(db, viewer, type_id)
    row = v1.derived_of(db, kind, derived_id)
    fixed = form.model_copy(update={"key": row.metric.key, "how": row.how})
    try:
        derivations.change(db, kind, row, fixed.draft(), actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        db.rollback()
        return _form(request, db, viewer, kind, fixed, row=row, errors=forms.refused(request, error))
    return pages.go(f"/types/{type_id}#derived", notice=i18n.noop("Saved. Hours that can still be read follow."))


@router.post("/types/{type_id}/derived/{derived_id}/remove")
def remove(db: Db, viewer: Writer, type_id: int, derived_id: int) -> Response:
    """Stop working a metric out; what was worked out stays."""
    kind = types.mine(db, viewer, type_id)
    derivations.remove(db, kind, v1.derived_of(db, kind, derived_id), actor=viewer.actor, now=clock.now())
    return pages.go(f"/types/{type_id}#derived", notice=i18n.noop("Removed. What was worked out stays."))


def _form(
    request: Request,
    db: Session,
    viewer: Viewer,
    kind: AssetType,
    form: DerivedForm,
    *,
    row: Derivation | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    language = request.state.language
    described = kinds.metrics(db, viewer.company_id, [kind.id])[kind.id]
    derived = derivations.rows_of(db, described.values())
    sources = [
        (key, f"{one.called(language)} ({key})")
        for key, one in described.items()
        if one.kind != "text" and one.id not in derived
    ]
    return pages.render(
        request,
        "types/derived.html",
        status=422 if errors else 200,
        kind=kind,
        row=row,
        form=form,
        sources=sources,
        hows=dict(forms.translated(worked_out.HOW_WORDS, language)),
        widths=forms.translated(WIDTHS, language),
        pers=forms.translated(PERS, language),
        errors=errors or {},
    )


def _form_of(row: Derivation) -> DerivedForm:
    def text(value: float | None) -> str:
        return "" if value is None else f"{value:.16g}"

    usual = {value for value, _ in WIDTHS}
    wraps = text(row.wraps_at)
    return DerivedForm(
        key=row.metric.key,
        name=row.metric.name,
        name_zh=row.metric.name_zh or "",
        source=row.source,
        how=row.how,
        unit=row.metric.unit,
        decimals=str(row.metric.decimals),
        above=text(row.above),
        width=wraps if wraps in usual else "",
        other="" if wraps in usual else wraps,
        scale=text(row.scale),
        hold_s=text(row.hold_s),
        per_s=text(row.per_s) or "3600",
    )
