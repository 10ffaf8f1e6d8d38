"""What the storeroom does on its pages: receive, issue, move and count parts, and arrange the places they lie in."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.web import forms, pages, parts
from api.web.parts import Given, quantity
from kernel import clock, i18n
from kernel.errors import Conflict, FixwrightError, Invalid, NotFound
from maintenance.orders.models import Order
from maintenance.parts import catalogue, places, stock
from maintenance.parts.models import Movement, Part, Place, Reservation
from maintenance.parts.places import PlaceDraft
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

router = APIRouter(tags=["storeroom"])

Reader = Annotated[Viewer, needs("parts.read")]
Mover = Annotated[Viewer, needs("parts.move")]
Writer = Annotated[Viewer, needs("parts.write")]


@router.post("/parts/{part_id}/receive")
def receive(request: Request, part_id: int, viewer: Mover, session: Db, given: Given) -> Response:
    """Take parts in."""

    def take_in(part: Part) -> None:
        stock.receive(
            session,
            part,
            _place(session, viewer, given, "place_id"),
            quantity(given, "quantity"),
            unit_cost=quantity(given, "unit_cost"),
            actor=viewer.actor,
            now=clock.now(),
            reference=given.get("reference", "").strip()[:100],
        )

    return _moved(request, session, viewer, part_id, given, take_in, form="receive", notice=i18n.noop("Received."))


@router.post("/parts/{part_id}/issue")
def issue(request: Request, part_id: int, viewer: Mover, session: Db, given: Given) -> Response:
    """Hand parts out to a work order, named by its number."""

    def hand_out(part: Part) -> None:
        order = _order_called(session, viewer, given.get("order_number", ""))
        place = _place(session, viewer, given, "issue_place_id")
        amount = quantity(given, "issued")
        stock.issue(session, part, place, amount, to_order=order, actor=viewer.actor, now=clock.now())

    notice = i18n.noop("Issued to this work order.")
    return _moved(request, session, viewer, part_id, given, hand_out, form="issue", notice=notice)


@router.post("/parts/{part_id}/transfer")
def transfer(request: Request, part_id: int, viewer: Mover, session: Db, given: Given) -> Response:
    """Move parts to another place."""

    def carry(part: Part) -> None:
        source = _place(session, viewer, given, "from_place_id")
        target = _place(session, viewer, given, "to_place_id")
        amount = quantity(given, "carried")
        stock.transfer(session, part, source, target, amount, actor=viewer.actor, now=clock.now())

    return _moved(request, session, viewer, part_id, given, carry, form="transfer", notice=i18n.noop("Moved."))


@router.post("/parts/{part_id}/count")
def count(request: Request, part_id: int, viewer: Mover, session: Db, given: Given) -> Response:
    """Set a balance to what was counted."""

    def settle(part: Part) -> None:
        place = _place(session, viewer, given, "counted_place_id")
        counted, reason = quantity(given, "counted"), given.get("reason", "")
        stock.correct(session, part, place, counted, actor=viewer.actor, now=clock.now(), reason=reason)

    notice = i18n.noop("The balance is what was counted.")
    return _moved(request, session, viewer, part_id, given, settle, form="count", notice=notice)


@router.post("/orders/{order_id}/parts")
def use(request: Request, order_id: int, viewer: Mover, session: Db, given: Given) -> Response:
    """Issue or reserve a part for an order; ``item`` is ``part:place``."""
    order = scope.find(session, Order, order_id, viewer, "orders.read")
    is_promise = given.get("verb") == "reserve"
    try:
        with session.begin_nested():
            part, place = _item(session, viewer, given)
            amount, now = quantity(given, "quantity"), clock.now()
            if is_promise:
                stock.reserve(session, part, place, amount, for_order=order, actor=viewer.actor, now=now)
            else:
                stock.issue(session, part, place, amount, to_order=order, actor=viewer.actor, now=now)
    except (Invalid, Conflict) as error:
        return _refused(request, order, error)
    done = i18n.noop("Reserved.") if is_promise else i18n.noop("Issued to this work order.")
    return pages.go(_back(request, order), notice=done)


@router.post("/orders/{order_id}/parts/{movement_id}/return")
def give_back(request: Request, order_id: int, movement_id: int, viewer: Mover, session: Db, given: Given) -> Response:
    """Give back parts of an issue."""
    order = scope.find(session, Order, order_id, viewer, "orders.read")
    issued = session.scalars(
        select(Movement)
        .join(Place, Place.id == Movement.place_id)
        .where(Movement.id == movement_id, Movement.order_id == order.id, scope.visible(Place, viewer, "parts.move"))
    ).one_or_none()
    if issued is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    try:
        with session.begin_nested():
            amount = parts.quantity_or_none(given, "quantity") or -issued.quantity
            stock.give_back(session, issued, amount, actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        return _refused(request, order, error)
    return pages.go(_back(request, order), notice=i18n.noop("Given back."))


@router.post("/orders/{order_id}/reservations/{reservation_id}/release")
def release(request: Request, order_id: int, reservation_id: int, viewer: Mover, session: Db) -> Response:
    """Take a promise back."""
    order = scope.find(session, Order, order_id, viewer, "orders.read")
    found = session.scalars(
        select(Reservation)
        .join(Place, Place.id == Reservation.place_id)
        .where(
            Reservation.id == reservation_id,
            Reservation.order_id == order.id,
            scope.visible(Place, viewer, "parts.move"),
        )
    ).one_or_none()
    if found is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    stock.release(session, found, actor=viewer.actor, now=clock.now())
    return pages.go(_back(request, order), notice=i18n.noop("Released."))


@router.get("/places")
def listed(request: Request, viewer: Reader, session: Db) -> HTMLResponse:
    """List the places where parts lie."""
    rows = places.listed(session, viewer)
    return pages.render(request, "parts/places.html", rows=rows, held=places.held_at(session, rows))


@router.get("/places/new")
def new(request: Request, viewer: Writer, session: Db) -> HTMLResponse:
    """Show the form of a new place."""
    return _form(request, session, viewer, None, {"kind": "warehouse"})


@router.post("/places")
def add(request: Request, viewer: Writer, session: Db, given: Given) -> Response:
    """Add a place."""
    try:
        with session.begin_nested():
            unit = _unit(session, viewer, given)
            place = places.add(session, unit, _draft(session, viewer, given), actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        return _form(request, session, viewer, None, given, error)
    return pages.go("/places", notice=i18n.noop("The place {code} was added."), code=place.code)


@router.get("/places/{place_id}/edit")
def edit(request: Request, place_id: int, viewer: Writer, session: Db) -> HTMLResponse:
    """Show the form of a place."""
    place = scope.find(session, Place, place_id, viewer, "parts.write")
    given = {name: str(getattr(place, name) or "") for name in ("code", "name", "name_zh", "kind", "parent_id")}
    return _form(request, session, viewer, place, given)


@router.post("/places/{place_id}")
def change(request: Request, place_id: int, viewer: Writer, session: Db, given: Given) -> Response:
    """Change a place."""
    place = scope.find(session, Place, place_id, viewer, "parts.write")
    try:
        with session.begin_nested():
            places.change(session, place, _draft(session, viewer, given), actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        session.refresh(place)
        return _form(request, session, viewer, place, given, error)
    return pages.go("/places", notice=i18n.noop("Saved."))


def _moved(
    request: Request,
    session: Session,
    viewer: Viewer,
    part_id: int,
    given: dict[str, str],
    verb: Callable[[Part], None],
    *,
    form: str,
    notice: str,
) -> Response:
    """Do one of the ledger's verbs and show the part again; a refusal changes nothing and stands at its field."""
    part = catalogue.find(session, part_id, viewer, "parts.move")
    try:
        with session.begin_nested():
            verb(part)
    except (Invalid, Conflict) as error:
        return parts.page(request, session, part, viewer, form=form, given=given, error=error)
    return pages.go(f"/parts/{part.id}", notice=notice)


def _place(session: Session, viewer: Viewer, given: dict[str, str], field: str) -> Place:
    identity = forms.whole(given.get(field, ""), field)
    if identity is None:
        raise Invalid("Choose a place.", field=field)
    return scope.find(session, Place, identity, viewer, "parts.move")


def _item(session: Session, viewer: Viewer, given: dict[str, str]) -> tuple[Part, Place]:
    """Return the part and the place of a choice ``part:place``."""
    part_id, _, place_id = (text.strip() for text in given.get("item", "").partition(":"))
    if not part_id.isdecimal() or not place_id.isdecimal():
        raise Invalid("Choose a part first.", field="item")
    part = catalogue.find(session, int(part_id), viewer, "parts.move")
    return part, scope.find(session, Place, int(place_id), viewer, "parts.move")


def _order_called(session: Session, viewer: Viewer, number: str) -> Order:
    """Return the order of this number, or of its last digits without the year's noughts."""
    seen = select(Order).where(scope.visible(Order, viewer, "orders.read"))
    plain = number.strip().upper()
    if plain.isdecimal():
        plain = f"WO-{clock.now().year}-{int(plain):06}"
    found = session.scalars(seen.where(Order.number == plain)).one_or_none() if plain.isprintable() else None
    if found is None:
        raise Invalid("There is no work order of this number.", field="order_number")
    return found


def _unit(session: Session, viewer: Viewer, given: dict[str, str]) -> OrgUnit:
    unit = session.get(OrgUnit, forms.whole(given.get("unit_id", ""), "unit_id") or 0)
    if unit is None or not viewer.may_at("parts.write", unit.path):
        raise Invalid("Choose where it stands.", field="unit_id")
    return unit


def _draft(session: Session, viewer: Viewer, given: dict[str, str]) -> PlaceDraft:
    parent_id = forms.whole(given.get("parent_id", ""), "parent_id")
    return PlaceDraft(
        code=given.get("code", ""),
        name=given.get("name", ""),
        name_zh=given.get("name_zh", ""),
        kind=given.get("kind", ""),
        parent=scope.find(session, Place, parent_id, viewer, "parts.read") if parent_id is not None else None,
    )


def _form(
    request: Request,
    session: Session,
    viewer: Viewer,
    place: Place | None,
    given: dict[str, Any],
    error: FixwrightError | None = None,
) -> HTMLResponse:
    units = session.scalars(
        select(OrgUnit).where(OrgUnit.id.in_(scope.units(viewer, "parts.write"))).order_by(OrgUnit.path)
    ).all()
    return pages.render(
        request,
        "parts/place.html",
        status=422 if error else 200,
        place=place,
        given=given,
        errors=forms.refused(request, error) if error else {},
        units=units,
        others=[one for one in places.listed(session, viewer) if place is None or one.id != place.id],
    )


def _refused(request: Request, order: Order, error: FixwrightError) -> Response:
    """Lead back to the order and say there what is wrong; its page has more sections than one form can speak for."""
    return pages.go(_back(request, order), notice=error.sentence, kind="bad", **error.values)


def _back(request: Request, order: Order) -> str:
    """Return the page of the order that the form stood on: the phone's or the desk's."""
    on_phone = "/jobs/" in request.headers.get("referer", "")
    return f"/jobs/{order.id}#parts" if on_phone else f"/orders/{order.id}#parts"
