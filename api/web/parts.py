"""The catalogue of parts and each part's page: what there is, where, for whom, and for how long it lasts."""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.web import forms, pages
from kernel import clock, i18n
from kernel.errors import Conflict, FixwrightError, Invalid
from maintenance.orders.models import Order
from maintenance.parts import catalogue, figures, places
from maintenance.parts.catalogue import PartDraft
from maintenance.parts.models import Part
from people.scope import Viewer

router = APIRouter(tags=["parts"])
PAGE = 50
MOST_WAITING = 8
LONGEST_FIELD = 400

Reader = Annotated[Viewer, needs("parts.read")]
Writer = Annotated[Viewer, needs("parts.write")]


async def _given(request: Request) -> dict[str, str]:
    """Return the fields of a form as texts, each cut to what a field of ours can hold."""
    return {name: str(value)[:LONGEST_FIELD] for name, value in (await request.form()).items()}


Given = Annotated[dict[str, str], Depends(_given)]


@router.get("/parts")
def overview(
    request: Request,
    viewer: Reader,
    session: Db,
    *,
    q: Annotated[str, Query(max_length=100)] = "",
    category: Annotated[str, Query(max_length=60)] = "",
    low: bool = False,
    place: Annotated[str, Query(max_length=20)] = "",
    after: str | None = None,
) -> HTMLResponse:
    """List parts with what is on hand, promised and available, and how long that lasts."""
    key = paging.read(after, (str,))
    rows = catalogue.listed(
        session,
        viewer,
        text=q,
        category=category,
        low_only=low,
        place_id=forms.whole(place, "place"),
        after=key[0] if key else None,
        limit=PAGE + 1,
    )
    shown, following = paging.cut(rows, PAGE, lambda held: (held.part.number,))
    used = figures.usage(session, viewer, [held.part.id for held in shown], clock.now())
    is_whole = not (q or category or low or place or after)
    return pages.render(
        request,
        "parts/overview.html",
        rows=shown,
        lasts={held.part.id: figures.lasts_days(held.available, used.get(held.part.id, Decimal(0))) for held in shown},
        whole=figures.whole(session, viewer),
        waiting=catalogue.reservations(session, viewer, limit=MOST_WAITING) if is_whole else (),
        next=following,
        after=after,
        q=q,
        category=category,
        low=low,
        place=place,
        categories=catalogue.categories(session, viewer),
        stores=places.listed(session, viewer),
    )


@router.get("/parts/new")
def new(request: Request, _: Writer) -> HTMLResponse:
    """Show the form of a new part."""
    return pages.render(
        request, "parts/form.html", units=catalogue.UNITS, part=None, given={"unit": "pcs", "lead_days": "7"}, errors={}
    )


@router.post("/parts")
def add(request: Request, viewer: Writer, session: Db, given: Given) -> Response:
    """Add a part."""
    try:
        with session.begin_nested():
            draft = _draft(given)
            part = catalogue.add(session, draft, company_id=viewer.company_id, actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        return _form(request, None, given, error)
    return pages.go(f"/parts/{part.id}", notice=i18n.noop("The part was added. Receive some of it next."))


@router.get("/parts/{part_id}")
def one(request: Request, part_id: int, viewer: Reader, session: Db) -> HTMLResponse:
    """Show a part: where it lies, what it is promised to, what moved."""
    return page(request, session, catalogue.find(session, part_id, viewer, "parts.read"), viewer)


@router.post("/parts/{part_id}")
def change(request: Request, part_id: int, viewer: Writer, session: Db, given: Given) -> Response:
    """Change a part."""
    part = catalogue.find(session, part_id, viewer, "parts.write")
    try:
        with session.begin_nested():
            catalogue.change(session, part, _draft(given), actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        session.refresh(part)
        return _form(request, part, given, error)
    return pages.go(f"/parts/{part.id}", notice=i18n.noop("Saved."))


@router.get("/parts/{part_id}/edit")
def edit(request: Request, part_id: int, viewer: Writer, session: Db) -> HTMLResponse:
    """Show the form of a part."""
    part = catalogue.find(session, part_id, viewer, "parts.write")
    texts = ("number", "name", "name_zh", "unit", "category", "barcode", "lead_days")
    given = {name: "" if (value := getattr(part, name)) is None else str(value) for name in texts}
    given |= {
        name: "" if (value := getattr(part, name)) is None else f"{value.normalize():f}"
        for name in ("reorder_level", "reorder_quantity")
    }
    return pages.render(request, "parts/form.html", units=catalogue.UNITS, part=part, given=given, errors={})


def order_context(session: Session, order: Order, viewer: Viewer) -> dict[str, Any]:
    """Return what ``parts/_order.html`` shows of an order: issued, given back, promised, and what could be used."""
    if not viewer.may("parts.read"):
        return {"part_lines": [], "part_reservations": [], "part_choices": [], "may_move_parts": False}
    moved = catalogue.movements(session, viewer, order_id=order.id, limit=100)
    returned: dict[int, Decimal] = {}
    for one_move in moved:
        if one_move.kind == "return" and one_move.reverses_id is not None:
            returned[one_move.reverses_id] = returned.get(one_move.reverses_id, Decimal(0)) + one_move.quantity
    lines = [
        {"movement": issued, "left": -issued.quantity - returned.get(issued.id, Decimal(0))}
        for issued in moved
        if issued.kind == "issue"
    ]
    may_move = viewer.may("parts.move")
    is_open = order.phase not in {"closed", "cancelled"}
    return {
        "part_lines": lines,
        "part_reservations": catalogue.reservations(session, viewer, order_id=order.id),
        "part_choices": catalogue.near(session, order, viewer, limit=200) if may_move and is_open else [],
        "may_move_parts": may_move,
    }


def page(
    request: Request,
    session: Session,
    part: Part,
    viewer: Viewer,
    *,
    form: str = "receive",
    given: dict[str, str] | None = None,
    error: FixwrightError | None = None,
) -> HTMLResponse:
    """Return the page of a part; with ``error`` its ``form`` is open, with what was typed and what is wrong."""
    rows = catalogue.balances(session, part, viewer)
    on_hand = sum((row.on_hand for row in rows), Decimal(0))
    committed = sum((row.committed for row in rows), Decimal(0))
    now = clock.now()
    used = figures.usage(session, viewer, [part.id], now).get(part.id, Decimal(0))
    return pages.render(
        request,
        "parts/part.html",
        status=422 if error else 200,
        part=part,
        balances=rows,
        held=catalogue.Held(part, on_hand, committed, Decimal(0)),
        used=used,
        lasts=figures.lasts_days(on_hand - committed, used),
        trend=figures.trend(session, viewer, part, now),
        stores=places.listed(session, viewer, "parts.move") if viewer.may("parts.move") else (),
        movements=catalogue.movements(session, viewer, part_id=part.id, limit=30),
        reservations=catalogue.reservations(session, viewer, part_id=part.id),
        form=form,
        given=given or {},
        errors=forms.refused(request, error) if error else {},
    )


def _form(request: Request, part: Part | None, given: dict[str, str], error: FixwrightError) -> HTMLResponse:
    errors = forms.refused(request, error)
    return pages.render(
        request, "parts/form.html", status=422, units=catalogue.UNITS, part=part, given=given, errors=errors
    )


def _draft(given: dict[str, str]) -> PartDraft:
    return PartDraft(
        number=given.get("number", ""),
        name=given.get("name", ""),
        name_zh=given.get("name_zh", ""),
        unit=given.get("unit", ""),
        category=given.get("category", ""),
        barcode=given.get("barcode", ""),
        reorder_level=quantity_or_none(given, "reorder_level"),
        reorder_quantity=quantity_or_none(given, "reorder_quantity"),
        lead_days=forms.whole(given.get("lead_days", ""), "lead_days") or 0,
    )


def quantity(given: dict[str, str], field: str) -> Decimal:
    """Return a quantity or an amount as a person writes it.

    Raises:
        Invalid: it is no number, or too large or too fine for the ledger.
    """
    try:
        number = Decimal(given.get(field, "").strip().replace(",", "."))
        is_good = number.is_finite() and abs(number) < 10**9 and number == number.quantize(Decimal("0.000001"))
    except InvalidOperation:
        is_good = False
    if not is_good:
        raise Invalid("Please enter a number.", field=field)
    return number


def quantity_or_none(given: dict[str, str], field: str) -> Decimal | None:
    """Return a quantity, or None where nothing was typed.

    Raises:
        Invalid: it is no number, or too large or too fine for the ledger.
    """
    return quantity(given, field) if given.get(field, "").strip() else None
