"""Checklists as planners write them, and the checklist of an order as a technician goes through it (PM-8)."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.access import Db, Parts, needs
from api.web import forms, pages, scan
from kernel import clock, i18n, ids
from kernel.db import Json
from kernel.errors import Conflict, FixwrightError, Invalid, TooLarge, Unsupported
from maintenance.orders import authority, desk
from maintenance.orders.models import Order
from maintenance.plans import answers, checklists
from maintenance.plans.models import Checklist, Plan
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

router = APIRouter(tags=["checklists"])
BLANK_ROWS = 4
FIELDS = ("key", "name", "name_zh", "kind", "unit", "low", "high", "pass", "flag", "fail")

Reader = Annotated[Viewer, needs("plans.read")]
Writer = Annotated[Viewer, needs("plans.write")]
Worker = Annotated[Viewer, needs("orders.read")]


async def _given(request: Request) -> dict[str, str]:
    """Return the fields of a form as texts, each cut to what a field of ours can hold."""
    return {name: str(value)[:400] for name, value in (await request.form(max_fields=3000)).items()}


Given = Annotated[dict[str, str], Depends(_given)]


@router.get("/checklists")
def listed(request: Request, viewer: Reader, session: Db) -> HTMLResponse:
    """List the checklists of the company."""
    rows = session.scalars(
        select(Checklist).where(Checklist.company_id == viewer.company_id).order_by(Checklist.name, Checklist.id)
    ).all()
    used = session.execute(
        select(Plan.checklist_id, func.count())
        .where(Plan.checklist_id.in_([row.id for row in rows]))
        .group_by(Plan.checklist_id)
    )
    counts = {checklist_id: count for checklist_id, count in used if checklist_id is not None}
    return pages.render(request, "checklists/list.html", rows=rows, used=counts)


@router.get("/checklists/new")
def new(request: Request, viewer: Writer, session: Db) -> HTMLResponse:
    """Show the form of a new checklist."""
    return _form(request, session, viewer, None, {"name": "", "name_zh": ""}, rows=[])


@router.get("/checklists/{checklist_id}")
def one(request: Request, checklist_id: int, viewer: Writer, session: Db) -> HTMLResponse:
    """Show a checklist to be changed; orders that exist keep the version they were made with."""
    row = scope.find(session, Checklist, checklist_id, viewer, "plans.write")
    given = {"name": row.name, "name_zh": row.name_zh or ""}
    return _form(
        request, session, viewer, row, given, rows=[_row(item) for item in checklists.newest_items(session, row)]
    )


@router.post("/checklists")
def make(request: Request, viewer: Writer, session: Db, given: Given) -> Response:
    """Make a checklist."""
    try:
        with session.begin_nested():
            unit = _unit(session, viewer, given)
            made = checklists.make(
                session,
                unit,
                name=given.get("name", ""),
                name_zh=given.get("name_zh"),
                actor=viewer.actor,
                now=clock.now(),
            )
            checklists.save(session, made, _items(_rows(given), []), actor=viewer.actor, now=clock.now())
    except Invalid as error:
        return _form(request, session, viewer, None, given, rows=_rows(given), error=error)
    return pages.go("/checklists", notice=i18n.noop("The checklist is ready. Choose it in a plan."))


@router.post("/checklists/{checklist_id}")
def change(request: Request, checklist_id: int, viewer: Writer, session: Db, given: Given) -> Response:
    """Give a checklist a new version."""
    row = scope.find(session, Checklist, checklist_id, viewer, "plans.write")
    try:
        with session.begin_nested():
            checklists.name_it(row, name=given.get("name", ""), name_zh=given.get("name_zh"))
            items = _items(_rows(given), checklists.newest_items(session, row))
            checklists.save(session, row, items, actor=viewer.actor, now=clock.now())
    except Invalid as error:
        session.refresh(row)
        return _form(request, session, viewer, row, given, rows=_rows(given), error=error)
    return pages.go("/checklists", notice=i18n.noop("Saved. It holds for orders made from now on."))


@router.post("/orders/{order_id}/checklist/{item_key}")
def answer(
    request: Request,
    order_id: int,
    item_key: str,
    viewer: Worker,
    session: Db,
    parts: Parts,
    *,
    value: Annotated[str, Form(max_length=400)] = "",
    note: Annotated[str, Form(max_length=2000)] = "",
    photos: Annotated[list[UploadFile] | None, File()] = None,
) -> Response:
    """Answer an item of an order's checklist."""
    order = desk.locked(session, scope.find(session, Order, order_id, viewer, "orders.read").id)
    # Whoever may finish the work may say what they found.
    authority.require(viewer, order, "finish", desk.path_of(session, order))
    item = next((found for found in checklists.items_of(session, order) if found["key"] == item_key), None)
    on_phone = "/jobs/" in request.headers.get("referer", "")
    back = f"/jobs/{order.id}#checklist" if on_phone else f"/orders/{order.id}#checklist"
    try:
        with session.begin_nested():
            kept = scan.keep_photos(session, parts, photos or [], company_id=order.company_id)
            typed, now = _typed(item, value), clock.now()
            answers.answer(session, order, item_key, typed, note=note, photos=kept, actor=viewer.actor, now=now)
    except (Invalid, Conflict, TooLarge, Unsupported) as error:
        return pages.go(back, notice=error.sentence, kind="bad", **error.values)
    return pages.go(back)


def order_context(session: Session, order: Order, viewer: Viewer) -> dict[str, Any]:
    """Return what ``plans/_order_checklist.html`` shows of an order: items, answers, and whether they may be given."""
    items = checklists.items_of(session, order)
    results = answers.results_of(session, order) if items else {}
    may_answer = authority.may(viewer, order, "finish", desk.path_of(session, order))
    return {
        "check_items": items,
        "check_results": results,
        "check_open": sum(item["key"] not in results for item in items),
        "check_repairs": answers.repairs_of(session, order) if items else {},
        "may_check": may_answer and order.phase in answers.WORKED_IN,
    }


def _typed(item: Json | None, value: str) -> Any:  # noqa: ANN401 - as the item's kind wants it
    """Return a form's text as the kind of answer an item takes."""
    if item is None or item["kind"] == "choice":
        return value
    if item["kind"] == "photo":
        return int(value) if value.isdecimal() and len(value) < 19 else None  # noqa: PLR2004 - an identity of ours
    if item["kind"] == "tick":
        return value == "yes" if value in {"yes", "no"} else value
    try:
        return float(value.strip().replace(",", ".").replace("−", "-"))
    except ValueError:
        return value


def _unit(session: Session, viewer: Viewer, given: dict[str, str]) -> OrgUnit:
    unit = session.get(OrgUnit, forms.whole(given.get("unit_id", ""), "unit_id") or 0)
    if unit is None or not viewer.may_at("plans.write", unit.path):
        raise Invalid("Choose where it is used.", field="unit_id")
    return unit


def _row(item: Json) -> dict[str, str]:
    """Return an item as the fields of a form row."""
    good, remark = item.get("pass"), item.get("flag")
    choices = item.get("choices", [])
    judged = good is not None or remark is not None
    lists = {
        "pass": good or [] if judged else choices,
        "flag": remark or [],
        "fail": [one for one in choices if one not in (good or []) and one not in (remark or [])] if judged else [],
    }
    plain = {name: "" if item.get(name) is None else str(item[name]) for name in FIELDS if name not in lists}
    return plain | {name: ", ".join(chosen) for name, chosen in lists.items()}


def _rows(given: dict[str, str]) -> list[dict[str, str]]:
    """Return the rows of a form that name an item, in order."""
    numbers = sorted(
        {int(name.split("-")[1]) for name in given if name.startswith("item-") and name.split("-")[1].isdecimal()}
    )
    rows = [{field: given.get(f"item-{number}-{field}", "").strip() for field in FIELDS} for number in numbers]
    return [row for row in rows if row["name"] or row["name_zh"]]


def _items(rows: list[dict[str, str]], before: list[Json]) -> list[Json]:
    """Return the items that the rows of a form describe; an item keeps its key as long as it stands in the form."""
    known = {item["key"]: item for item in before}
    items = []
    for position, row in enumerate(rows, 1):
        item: Json = {
            "key": row["key"] if row["key"] in known else ids.code(6).lower(),
            "name": row["name"] or row["name_zh"],
            "name_zh": row["name_zh"],
            "kind": row["kind"],
        }
        if row["kind"] == "number":
            item |= {"unit": row["unit"], "low": _limit(row, "low", position), "high": _limit(row, "high", position)}
        if row["kind"] == "choice":
            lists = {
                name: [one.strip() for one in _split(row[name]) if one.strip()] for name in ("pass", "flag", "fail")
            }
            item |= {
                "choices": [*lists["pass"], *lists["flag"], *lists["fail"]],
                "pass": lists["pass"],
                "flag": lists["flag"],
            }
            old = known.get(row["key"], {})
            if old.get("choices") == item["choices"]:
                item["choices_zh"] = old.get("choices_zh")
        items.append(item)
    return items


def _split(text: str) -> list[str]:
    return text.replace("，", ",").replace("、", ",").split(",")


def _limit(row: dict[str, str], name: str, position: int) -> float | None:
    try:
        return forms.number(row[name], name)
    except Invalid as error:
        raise Invalid("Item {position}: a limit is a number.", field="items", position=position) from error


def _form(
    request: Request,
    session: Session,
    viewer: Viewer,
    row: Checklist | None,
    given: dict[str, str],
    *,
    rows: list[dict[str, str]],
    error: FixwrightError | None = None,
) -> HTMLResponse:
    units = session.scalars(
        select(OrgUnit).where(OrgUnit.id.in_(scope.units(viewer, "plans.write"))).order_by(OrgUnit.path)
    ).all()
    return pages.render(
        request,
        "checklists/form.html",
        status=422 if error else 200,
        checklist=row,
        given=given,
        rows=[*rows, *({**dict.fromkeys(FIELDS, ""), "kind": "tick"} for _ in range(BLANK_ROWS))],
        units=units,
        errors=forms.refused(request, error) if error else {},
    )
