"""Stock for programs: what lies where, and the ledger's verbs."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from api import paging
from api.access import Db, needs
from api.paging import Cursor, Limit, Page
from kernel import clock
from kernel.errors import NotFound
from maintenance.orders.models import Order
from maintenance.parts import catalogue, stock
from maintenance.parts.models import Movement, Part, Place, Reservation, Stock
from people import scope
from people.scope import Viewer

router = APIRouter(tags=["stock"])

Reader = Annotated[Viewer, needs("parts.read")]
Mover = Annotated[Viewer, needs("parts.move")]
Amount = Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=6)]
Cost = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=4)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=100)]


class StockOut(BaseModel):
    """What lies of a part at a place."""

    part_id: int
    part_number: str
    place_id: int
    place_code: str
    on_hand: Decimal
    committed: Decimal
    available: Decimal
    average_cost: Decimal | None


class MovementOut(BaseModel):
    """One line of the ledger; ``unit_cost`` only with the right to see prices."""

    id: int
    part_id: int
    place_id: int
    kind: str
    quantity: Decimal
    unit_cost: Decimal | None
    order_id: int | None
    reverses_id: int | None
    reference: str
    at: datetime
    by: str


class ReservationOut(BaseModel):
    """A promise of parts to an order."""

    id: int
    part_id: int
    place_id: int
    order_id: int
    quantity: Decimal
    state: str
    at: datetime


class Receipt(BaseModel):
    """Parts that came in."""

    part_id: int
    place_id: int
    quantity: Amount
    unit_cost: Cost
    reference: str = Field("", max_length=100)


class Wanted(BaseModel):
    """Parts wanted for an order."""

    part_id: int
    place_id: int
    order_id: int
    quantity: Amount


class Return(BaseModel):
    """Part of an issue that is given back."""

    quantity: Amount


class Transfer(BaseModel):
    """Parts that go to another place."""

    part_id: int
    from_place_id: int
    to_place_id: int
    quantity: Amount


class Counted(BaseModel):
    """What was really found."""

    part_id: int
    place_id: int
    counted: Decimal = Field(ge=0, max_digits=12, decimal_places=6)
    reason: str = Field(min_length=1, max_length=100)


def _out(movement: Movement, viewer: Viewer) -> MovementOut:
    return MovementOut(
        id=movement.id,
        part_id=movement.part_id,
        place_id=movement.place_id,
        kind=movement.kind,
        quantity=movement.quantity,
        unit_cost=movement.unit_cost if viewer.may("parts.price") else None,
        order_id=movement.order_id,
        reverses_id=movement.reverses_id,
        reference=movement.reference,
        at=movement.at,
        by=movement.by,
    )


def _reservation(one: Reservation) -> ReservationOut:
    return ReservationOut(
        id=one.id,
        part_id=one.part_id,
        place_id=one.place_id,
        order_id=one.order_id,
        quantity=one.quantity,
        state=one.state,
        at=one.at,
    )


def _part_and_place(session: Session, viewer: Viewer, part_id: int, place_id: int) -> tuple[Part, Place]:
    part = catalogue.find(session, part_id, viewer, "parts.move")
    return part, scope.find(session, Place, place_id, viewer, "parts.move")


def _key(viewer: Viewer, key: str | None) -> str | None:
    return f"{viewer.actor}/{key}" if key else None


@router.get("/stock")
def list_stock(
    viewer: Reader,
    session: Db,
    *,
    part_id: int | None = None,
    place_id: int | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[StockOut]:
    """List what lies where, by part and place."""
    wanted = (
        select(Stock)
        .join(Place, Place.id == Stock.place_id)
        .where(scope.visible(Place, viewer, "parts.read"))
        .options(joinedload(Stock.part), joinedload(Stock.place))
        .order_by(Stock.part_id, Stock.place_id)
        .limit(limit + 1)
    )
    if part_id is not None:
        wanted = wanted.where(Stock.part_id == part_id)
    if place_id is not None:
        wanted = wanted.where(Stock.place_id == place_id)
    if key := paging.read(cursor, (int, int)):
        wanted = wanted.where((Stock.part_id > key[0]) | ((Stock.part_id == key[0]) & (Stock.place_id > key[1])))
    shown, following = paging.cut(session.scalars(wanted).all(), limit, lambda row: (row.part_id, row.place_id))
    items = [
        StockOut(
            part_id=row.part_id,
            part_number=row.part.number,
            place_id=row.place_id,
            place_code=row.place.code,
            on_hand=row.on_hand,
            committed=row.committed,
            available=stock.available(row),
            average_cost=row.average_cost if viewer.may("parts.price") else None,
        )
        for row in shown
    ]
    return Page(items=items, next=following)


@router.post("/stock/receive", status_code=201)
def receive(viewer: Mover, session: Db, receipt: Receipt, key: Key = None) -> MovementOut:
    """Take parts in."""
    part, place = _part_and_place(session, viewer, receipt.part_id, receipt.place_id)
    movement = stock.receive(
        session,
        part,
        place,
        receipt.quantity,
        unit_cost=receipt.unit_cost,
        actor=viewer.actor,
        now=clock.now(),
        reference=receipt.reference,
        key=_key(viewer, key),
    )
    return _out(movement, viewer)


@router.post("/stock/issue", status_code=201)
def issue(viewer: Mover, session: Db, wanted: Wanted, key: Key = None) -> MovementOut:
    """Hand parts out to an order."""
    part, place = _part_and_place(session, viewer, wanted.part_id, wanted.place_id)
    order = scope.find(session, Order, wanted.order_id, viewer, "orders.read")
    movement = stock.issue(
        session,
        part,
        place,
        wanted.quantity,
        to_order=order,
        actor=viewer.actor,
        now=clock.now(),
        key=_key(viewer, key),
    )
    return _out(movement, viewer)


@router.post("/stock/transfer", status_code=201)
def transfer(viewer: Mover, session: Db, wanted: Transfer) -> list[MovementOut]:
    """Move parts to another place."""
    part, source = _part_and_place(session, viewer, wanted.part_id, wanted.from_place_id)
    target = scope.find(session, Place, wanted.to_place_id, viewer, "parts.move")
    moved = stock.transfer(session, part, source, target, wanted.quantity, actor=viewer.actor, now=clock.now())
    return [_out(movement, viewer) for movement in moved]


@router.post("/stock/count", status_code=201)
def count(viewer: Mover, session: Db, counted: Counted) -> MovementOut | None:
    """Set a balance to what was counted; null when it was right."""
    part, place = _part_and_place(session, viewer, counted.part_id, counted.place_id)
    movement = stock.correct(
        session, part, place, counted.counted, actor=viewer.actor, now=clock.now(), reason=counted.reason
    )
    return _out(movement, viewer) if movement else None


@router.get("/movements")
def list_movements(
    viewer: Reader,
    session: Db,
    *,
    part_id: int | None = None,
    order_id: int | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[MovementOut]:
    """List movements, the newest first."""
    key = paging.read(cursor, (int,))
    rows = catalogue.movements(
        session, viewer, part_id=part_id, order_id=order_id, before=key[0] if key else None, limit=limit + 1
    )
    shown, following = paging.cut(rows, limit, lambda movement: (movement.id,))
    return Page(items=[_out(movement, viewer) for movement in shown], next=following)


@router.post("/movements/{movement_id}/return", status_code=201)
def give_back(movement_id: int, viewer: Mover, session: Db, wanted: Return, key: Key = None) -> MovementOut:
    """Give back parts of an issue."""
    issued = session.scalars(
        select(Movement)
        .join(Place, Place.id == Movement.place_id)
        .where(Movement.id == movement_id, scope.visible(Place, viewer, "parts.move"))
    ).one_or_none()
    if issued is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    movement = stock.give_back(
        session, issued, wanted.quantity, actor=viewer.actor, now=clock.now(), key=_key(viewer, key)
    )
    return _out(movement, viewer)


@router.get("/reservations")
def list_reservations(
    viewer: Reader,
    session: Db,
    *,
    order_id: Annotated[int | None, Query()] = None,
    part_id: int | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ReservationOut]:
    """List what is promised to orders and not issued yet."""
    key = paging.read(cursor, (int,))
    rows = catalogue.reservations(
        session, viewer, order_id=order_id, part_id=part_id, after=key[0] if key else 0, limit=limit + 1
    )
    shown, following = paging.cut(rows, limit, lambda one: (one.id,))
    return Page(items=[_reservation(one) for one in shown], next=following)


@router.post("/reservations", status_code=201)
def reserve(viewer: Mover, session: Db, wanted: Wanted) -> ReservationOut:
    """Promise parts to an order."""
    part, place = _part_and_place(session, viewer, wanted.part_id, wanted.place_id)
    order = scope.find(session, Order, wanted.order_id, viewer, "orders.read")
    made = stock.reserve(session, part, place, wanted.quantity, for_order=order, actor=viewer.actor, now=clock.now())
    return _reservation(made)


@router.post("/reservations/{reservation_id}/release")
def release(reservation_id: int, viewer: Mover, session: Db) -> ReservationOut:
    """Take a promise back."""
    one = session.scalars(
        select(Reservation)
        .join(Place, Place.id == Reservation.place_id)
        .where(Reservation.id == reservation_id, scope.visible(Place, viewer, "parts.move"))
    ).one_or_none()
    if one is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    stock.release(session, one, actor=viewer.actor, now=clock.now())
    return _reservation(one)
