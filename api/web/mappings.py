"""Payload mappings as pages: those in use and those to adopt, an editor with a sample beside it, the versions."""

from collections.abc import Mapping as Entries
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.web import forms, mapping_forms, pages
from assets import listing
from assets.models import AssetType, Device
from ingest import mapping as language
from ingest import mappings, ready, reasons, trial
from ingest.mapping import Definition
from ingest.mappings import MappingDraft
from ingest.models import Mapping, MappingUse, MappingVersion
from ingest.trial import Sample, Trial
from kernel import clock, i18n
from kernel.errors import Conflict, FixwrightError, Invalid, Stale
from people import oversight, scope
from people.models import OrgUnit
from people.scope import Viewer
from rules.faults import DefinitionRefused
from rules.models import SEVERITIES
from telemetry import units

router = APIRouter(prefix="/mappings")
Reader = Annotated[Viewer, needs("ingest.read")]
Writer = Annotated[Viewer, needs("mappings.write")]
A_PAGE = 100
SHOWN_READINGS = 200
LONGEST_FIELD = 300_000

FORMATS = (
    ("json", i18n.noop("JSON")),
    ("text", i18n.noop("A single value, or text")),
    ("senml", i18n.noop("SenML (RFC 8428)")),
    ("frame", i18n.noop("Bytes")),
)
KINDS = (
    ("any", i18n.noop("As it comes")),
    ("number", i18n.noop("Number")),
    ("boolean", i18n.noop("Yes or no")),
    ("text", i18n.noop("Text")),
)
TIMES = (
    ("ms", i18n.noop("Milliseconds since 1970")),
    ("s", i18n.noop("Seconds since 1970")),
    ("iso", i18n.noop("Date and time (ISO 8601)")),
)
ENCODINGS = (("bytes", i18n.noop("Bytes as they are")), ("hex", i18n.noop("Hexadecimal")), ("base64", "Base64"))
ORDERS = (
    ("ABCD", i18n.noop("ABCD, big-endian")),
    ("CDAB", i18n.noop("CDAB, words swapped")),
    ("BADC", i18n.noop("BADC, bytes swapped")),
    ("DCBA", i18n.noop("DCBA, little-endian")),
)
FRAME_KINDS = (
    "uint8", "int8", "uint16", "int16", "uint24", "int24", "uint32", "int32", "uint64", "int64",
    "float16", "float32", "float64", "bcd8", "bcd16", "bcd32", "text",
)  # fmt: skip
OTHERWISE = (
    ("pass", i18n.noop("is for another mapping, or set aside")),
    ("ignore", i18n.noop("is left alone")),
)


async def _given(request: Request) -> dict[str, str]:
    """Return the fields of a form as texts."""
    form = await request.form(max_fields=6000)
    return {name: str(value)[:LONGEST_FIELD].replace("\r\n", "\n") for name, value in form.items()}


Given = Annotated[dict[str, str], Depends(_given)]


class Asked(BaseModel):
    """Where the list begins."""

    after: str = ""


@router.get("")
def listed(request: Request, db: Db, viewer: Reader, asked: Annotated[Asked, Query()]) -> Response:
    """List the mappings in use, and those that come with the product."""
    after = paging.read(asked.after or None, (int,))
    rows = mappings.listed(db, viewer, after=after[0] if after else None, limit=A_PAGE + 1)
    shown, following = paging.cut(rows, A_PAGE, lambda row: (row[0].id,))
    adopted = select(Mapping.ready).where(Mapping.company_id == viewer.company_id, Mapping.ready.is_not(None))
    taken = set(db.scalars(adopted))
    waiting = [one for one in ready.READY if one.key not in taken]
    systems = {one.system: [other for other in waiting if other.system == one.system] for one in waiting}
    return pages.render(
        request,
        "mappings/list.html",
        rows=shown,
        following=following,
        after=asked.after,
        systems=systems,
        may_write=viewer.may(mappings.WRITES),
    )


@router.post("/adopt")
def adopt(db: Db, viewer: Writer, key: Annotated[str, Form()] = "") -> Response:
    """Make a copy of a ready mapping, or of all of a system, for the highest unit the viewer may do so at."""
    found = [one for one in ready.READY if key in {one.key, one.system}]
    unit = db.scalars(_units(viewer).limit(1)).one()
    made = 0
    for one in found:
        try:
            with db.begin_nested():
                mappings.adopt(db, one, unit=unit, actor=viewer.actor, now=clock.now())
            made += 1
        except Conflict as error:
            if len(found) == 1:
                return pages.go("/mappings", notice=error.sentence, kind="warning")
    if not made:
        return pages.go("/mappings", notice=i18n.noop("There was nothing to adopt."), kind="info")
    return pages.go("/mappings", notice=i18n.noop("{n} mappings read from now on."), n=made)


# The editor ----------------------------------------------------------------------------------------------------


@router.get("/new")
def new(request: Request, db: Db, viewer: Writer, start: str = "") -> Response:
    """Show the editor with a new mapping, perhaps started from a ready one."""
    one = ready.find(start)
    given = {"format": "json", "sample_form": "text", "topic": "", "device": "{device}"}
    if one is not None:
        given = {**(mapping_forms.fields_of(one.definition) or {}), "name": one.name, "name_zh": one.name_zh,
                 "sample_topic": one.topic, "sample": one.payload, "sample_form": "text"}  # fmt: skip
    return _editor(request, db, viewer, given, tried=_tried(request, given) if one else None)


@router.post("/try")
def try_it(request: Request, db: Db, viewer: Writer, given: Given) -> Response:
    """Show what a mapping would make of its sample: the part of the page beside it, or the page without a script."""
    tried = _tried(request, given)
    if pages.wants_fragment(request):
        return pages.render(request, "mappings/_trial.html", tried=tried)
    row = None
    if given.get("mapping_id", "").isdecimal():
        row = mappings.find(db, viewer, int(given["mapping_id"]), mappings.WRITES)
    return _editor(request, db, viewer, given, row=row, tried=tried, more=given.get("more") == "1")


@router.post("")
def add(request: Request, db: Db, viewer: Writer, given: Given) -> Response:
    """Add a mapping."""
    try:
        draft = _draft(db, viewer, given)
        unit = _unit(db, viewer, given)
        definition, sample = mapping_forms.definition_of(given), _sample(given)
        made = mappings.add(db, draft, definition, sample, unit=unit, actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        db.rollback()
        return _editor(request, db, viewer, given, error=error, tried=_tried(request, given))
    return pages.go(f"/mappings/{made.id}", notice=i18n.noop("Saved. It reads from now on."))


@router.get("/{mapping_id}/edit")
def edit(request: Request, db: Db, viewer: Writer, mapping_id: int, *, version: str = "", view: str = "") -> Response:
    """Show the editor with a mapping's next version, started from the present one or from an earlier one."""
    row = mappings.find(db, viewer, mapping_id, mappings.WRITES)
    number = forms.whole(version, "version") or row.version
    start = next((one for one in mappings.versions(db, row) if one.number == number), None)
    start = start or mappings.in_force(db, row)
    given = _given_by(row, start, as_text=view == "json")
    return _editor(request, db, viewer, given, row=row, tried=_tried(request, given))


@router.post("/{mapping_id}")
def save(request: Request, db: Db, viewer: Writer, mapping_id: int, given: Given) -> Response:
    """Save a mapping's next version."""
    row = mappings.find(db, viewer, mapping_id, mappings.WRITES)
    now = clock.now()
    try:
        after = forms.whole(given.get("after", ""), "after")
        definition, sample = mapping_forms.definition_of(given), _sample(given)
        mappings.revise(db, row, definition, sample, actor=viewer.actor, now=now, after=after)
        mappings.change(db, row, _draft(db, viewer, given), actor=viewer.actor, now=now)
    except (Invalid, Conflict, Stale) as error:
        db.rollback()
        row = mappings.find(db, viewer, mapping_id, mappings.WRITES)
        return _editor(request, db, viewer, given, row=row, error=error, tried=_tried(request, given))
    return pages.go(f"/mappings/{row.id}", notice=i18n.noop("Version {n} holds from now on."), n=row.version)


# One mapping ---------------------------------------------------------------------------------------------------


@router.get("/{mapping_id}")
def one_mapping(request: Request, db: Db, viewer: Reader, mapping_id: int, version: str = "") -> Response:
    """Show a mapping: what it says, how it is used, its versions; ``version`` shows an earlier one."""
    row = mappings.find(db, viewer, mapping_id)
    every = mappings.versions(db, row)
    number = forms.whole(version, "version") or row.version
    shown = next((one for one in every if one.number == number), every[0])
    given = _given_by(row, shown, as_text=False)
    return pages.render(
        request,
        "mappings/mapping.html",
        row=row,
        unit=db.get_one(OrgUnit, row.unit_id),
        use=db.get(MappingUse, row.id),
        shown=shown,
        is_old=shown.number != row.version,
        versions=every,
        names=oversight.names(db, viewer, [one.author for one in every]),
        tried=_tried(request, given),
        text=mapping_forms.as_text(shown.definition),
        parts={kind: mapping_forms.rows_of(given, kind) for kind in mapping_forms.ROWS},
        may_write=viewer.may_at(mappings.WRITES, db.get_one(OrgUnit, row.unit_id).path),
    )


@router.post("/{mapping_id}/switch")
def switch(db: Db, viewer: Writer, mapping_id: int, on: Annotated[str, Form()] = "") -> Response:
    """Let a mapping read, or no longer."""
    row = mappings.find(db, viewer, mapping_id, mappings.WRITES)
    mappings.switch(db, row, is_enabled=on == "1", actor=viewer.actor, now=clock.now())
    notice = i18n.noop("It reads again.") if row.is_enabled else i18n.noop("It reads no longer.")
    return pages.go(f"/mappings/{row.id}", notice=notice)


@router.post("/{mapping_id}/roll_back")
def roll_back(db: Db, viewer: Writer, mapping_id: int, number: Annotated[str, Form()] = "") -> Response:
    """Put an earlier version in force again."""
    row = mappings.find(db, viewer, mapping_id, mappings.WRITES)
    try:
        wanted = forms.whole(number, "number") or 0
        mappings.roll_back(db, row, wanted, actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        db.rollback()
        return pages.go(f"/mappings/{mapping_id}", notice=error.sentence, kind="warning")
    return pages.go(f"/mappings/{row.id}", notice=i18n.noop("Version {n} holds again."), n=row.version)


# How -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a trial, for the page: what was said, or what is wrong at which place."""

    trial: Trial | None = None
    problems: tuple[tuple[str, str], ...] = ()
    reason: str = ""

    @property
    def readings(self) -> list[tuple[str, datetime | None, str, Any]]:
        """Rows of (device, time, metric, value)."""
        said = self.trial.said if self.trial else ()
        rows = [
            (one.device, _moment(element.ts_ms), metric, value)
            for one in said
            for element in one.elements
            for metric, value in element.values.items()
        ]
        return rows[:SHOWN_READINGS]


def _moment(ts_ms: int | None) -> datetime | None:
    try:
        return None if ts_ms is None else clock.from_ms(ts_ms)
    except (ValueError, OverflowError):
        return None  # so absurd that it would be stored at the time of receipt


def _tried(request: Request, given: Entries[str, str]) -> Tried | None:
    """Return what a form's definition makes of its sample, None where there is no sample yet."""
    try:
        definition: Definition = language.parse(mapping_forms.definition_of(given))
    except DefinitionRefused as error:
        said_ = [(mapping_forms.place(one.field), forms.said(request, one.template, one.values))
                  for one in error.problems]  # fmt: skip
        return Tried(problems=tuple(said_))
    except Invalid as error:
        said = forms.said(request, error.sentence, error.values)
        return Tried(problems=((mapping_forms.place(error.field or ""), said),))
    if not given.get("sample", "").strip():
        return None
    found = trial.run(definition, _sample(given), now_ms=clock.now_ms())
    return Tried(found, reason=reasons.words(found.refusal.reason)[0] if found.refusal else "")


def _sample(given: Entries[str, str]) -> Sample:
    form: trial.Form = "hex" if given.get("sample_form") == "hex" else "text"
    return Sample(given.get("sample_topic", "").strip(), given.get("sample", ""), form)


def _given_by(row: Mapping, version: MappingVersion, *, as_text: bool) -> dict[str, str]:
    fields = None if as_text else mapping_forms.fields_of(version.definition)
    if fields is None:
        fields = {"text": mapping_forms.as_text(version.definition)}
    sample = Sample.of(version.sample)
    return {
        **fields,
        "name": row.name,
        "name_zh": row.name_zh or "",
        "bridge": row.bridge.key if row.bridge else "",
        "admits": "1" if row.admits else "",
        "type": str(row.asset_type_id or ""),
        "sample_topic": sample.topic,
        "sample": sample.payload,
        "sample_form": sample.form,
        "after": str(row.version),
    }


def _draft(db: Session, viewer: Viewer, given: Entries[str, str]) -> MappingDraft:
    bridge_id = None
    if key := given.get("bridge", "").strip():
        wanted = select(Device.id).where(Device.key == key, scope.visible(Device, viewer, "assets.read"))
        bridge_id = db.scalar(wanted)
        if bridge_id is None:
            raise Invalid("There is no device with this key.", field="bridge")
    return MappingDraft(
        given.get("name", ""),
        given.get("name_zh", "").strip() or None,
        forms.whole(given.get("type", ""), "type"),
        bridge_id,
        given.get("admits") == "1",
    )


def _units(viewer: Viewer) -> Any:  # noqa: ANN401 - a select of org units
    return select(OrgUnit).where(OrgUnit.id.in_(scope.units(viewer, mappings.WRITES))).order_by(OrgUnit.path)


def _unit(db: Session, viewer: Viewer, given: Entries[str, str]) -> OrgUnit:
    wanted = forms.whole(given.get("unit", ""), "unit")
    unit = db.scalars(_units(viewer).limit(1)).one() if wanted is None else db.get(OrgUnit, wanted)
    if unit is None or not viewer.may_at(mappings.WRITES, unit.path):
        raise Invalid("Choose whose devices it speaks for.", field="unit")
    return unit


def _editor(
    request: Request,
    db: Session,
    viewer: Viewer,
    given: Entries[str, str],
    *,
    row: Mapping | None = None,
    error: FixwrightError | None = None,
    tried: Tried | None = None,
    more: bool = False,
) -> Response:
    language_ = request.state.language
    parts = {kind: mapping_forms.rows_of(given, kind) for kind in mapping_forms.ROWS}
    for kind, rows in parts.items():
        blanks = mapping_forms.BLANK[kind] + (4 if more else 0)
        rows += [dict.fromkeys(mapping_forms.ROWS[kind], "") for _ in range(blanks)]
    choices = {"formats": FORMATS, "kinds": KINDS, "times": TIMES, "encodings": ENCODINGS, "orders": ORDERS,
               "otherwises": OTHERWISE}  # fmt: skip
    return pages.render(
        request,
        "mappings/editor.html",
        status=422 if error else 200,
        row=row,
        given=given,
        parts=parts,
        tried=tried,
        errors=forms.refused(request, error) if error else {},
        place_words=mapping_forms.place,
        is_text=bool(given.get("text", "").strip()),
        fits_form=row is None or mapping_forms.fields_of(mappings.in_force(db, row).definition) is not None,
        units=forms.options(db.scalars(_units(viewer)), language_),
        types=forms.options(_types(db, viewer), language_),
        severities=SEVERITIES,
        frame_kinds=[(one, one) for one in FRAME_KINDS],
        unit_names=sorted(units.UNITS),
        choices={name: forms.translated(pairs, language_) for name, pairs in choices.items()},
    )


def _types(db: Session, viewer: Viewer) -> list[AssetType]:
    return [*listing.all_types(db, viewer)]
