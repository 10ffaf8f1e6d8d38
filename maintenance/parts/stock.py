"""The ledger's verbs: receive, reserve, release, issue, return, transfer, scrap, reverse (SEMANTICS section 4).

Each verb locks the stock row of the part at its place first (after the order's row, where it changes that), so
that those who come at the same time queue and the one who comes too late is told what is left (T4). Nothing
here updates a movement.
"""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kernel import audit, events
from kernel.errors import Conflict, Invalid
from maintenance.orders import timeline
from maintenance.orders.models import Order
from maintenance.parts.events import StockMoved, StockRanLow
from maintenance.parts.models import Movement, Part, Place, Reservation, Stock

HELD = ("reserved", "picked", "staged")
"""The states of a reservation that commit stock (T3)."""


def locked(session: Session, part: Part, place: Place) -> Stock:
    """Return the stock row of a part at a place, made when missing, locked until the transaction ends."""
    session.execute(
        insert(Stock)
        .values(part_id=part.id, place_id=place.id, on_hand=0, committed=0, average_cost=0)
        .on_conflict_do_nothing()
    )
    return session.scalars(
        select(Stock)
        .where(Stock.part_id == part.id, Stock.place_id == place.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()


def available(stock: Stock) -> Decimal:
    """Return what may still be promised: on hand minus committed (T3)."""
    return stock.on_hand - stock.committed


def receive(
    session: Session,
    part: Part,
    place: Place,
    quantity: Decimal,
    *,
    unit_cost: Decimal,
    actor: str,
    now: datetime,
    reference: str = "",
    key: str | None = None,
) -> Movement:
    """Take parts in and weigh the average cost by quantity (T8).

    ``key`` makes the call idempotent: the same key again returns the first movement.

    Raises:
        Invalid: the quantity is not positive, or the cost negative.
    """
    _require_positive(quantity)
    if unit_cost < 0:
        raise Invalid("A cost cannot be negative.", field="unit_cost")
    stock = locked(session, part, place)
    if known := _known(session, key):
        return known
    total = stock.on_hand * stock.average_cost + quantity * unit_cost
    stock.average_cost = total / (stock.on_hand + quantity)
    return _move(
        session, stock, "receive", quantity, unit_cost=unit_cost, actor=actor, now=now, reference=reference, key=key
    )


def reserve(
    session: Session, part: Part, place: Place, quantity: Decimal, *, for_order: Order, actor: str, now: datetime
) -> Reservation:
    """Promise parts to an order.

    Raises:
        Conflict: less is available; ``left`` says how much.
        Invalid: the quantity is not positive.
    """
    _require_positive(quantity)
    stock = locked(session, part, place)
    if available(stock) < quantity:
        raise Conflict("Only {left} {unit} are available.", left=_plain(available(stock)), unit=part.unit)
    stock.committed += quantity
    reservation = Reservation(
        part_id=part.id,
        place_id=place.id,
        order_id=for_order.id,
        quantity=quantity,
        state="reserved",
        at=now,
        by=actor,
    )
    session.add(reservation)
    session.flush()
    _audit(session, "stock.reserve", stock, actor, now, order=for_order.id, quantity=quantity)
    _tell_if_low(session, part, stock, before=available(stock) + quantity, actor=actor, now=now)
    return reservation


def release(session: Session, reservation: Reservation, *, actor: str, now: datetime) -> None:
    """Take a promise back.

    Raises:
        Conflict: it was issued or released already.
    """
    stock = locked(session, reservation.part, reservation.place)
    session.refresh(reservation, with_for_update=True)
    if reservation.state not in HELD:
        raise Conflict("This reservation has ended already.")
    stock.committed -= reservation.quantity
    reservation.state = "released"
    _audit(session, "stock.release", stock, actor, now, order=reservation.order_id, quantity=reservation.quantity)


def issue(
    session: Session,
    part: Part,
    place: Place,
    quantity: Decimal,
    *,
    to_order: Order,
    actor: str,
    now: datetime,
    key: str | None = None,
) -> Movement:
    """Hand parts out to an order; its own reservation is used up first, the cost is frozen (T3, T9).

    Raises:
        Conflict: less is on hand than promised to others; ``left`` says how much there is for this order.
        Invalid: the quantity is not positive.
    """
    _require_positive(quantity)
    session.refresh(to_order, with_for_update=True)
    stock = locked(session, part, place)
    if known := _known(session, key):
        return known
    own = _held_by(session, part, place, to_order)
    promised = sum((one.quantity for one in own), Decimal(0))
    if available(stock) + promised < quantity:
        raise Conflict("Only {left} {unit} are left.", left=_plain(available(stock) + promised), unit=part.unit)
    free_before = available(stock)
    stock.committed -= _use_up(session, own, quantity)
    movement = _move(
        session, stock, "issue", -quantity, unit_cost=stock.average_cost, actor=actor, now=now, key=key, order=to_order
    )
    to_order.parts_cost += quantity * movement.unit_cost
    _note(session, to_order, part, place, quantity, verb="issue", actor=actor, now=now)
    _tell_if_low(session, part, stock, before=free_before, actor=actor, now=now)
    return movement


def give_back(
    session: Session, issued: Movement, quantity: Decimal, *, actor: str, now: datetime, key: str | None = None
) -> Movement:
    """Return issued parts from an order, at the cost of their issue.

    Raises:
        Invalid: it is no issue, or more than was issued and not yet returned.
    """
    _require_positive(quantity)
    order = session.get(Order, issued.order_id, with_for_update=True) if issued.order_id else None
    stock = locked(session, issued.part, issued.place)
    if known := _known(session, key):
        return known
    if issued.kind != "issue":
        raise Invalid("Only issued parts can be returned.")
    returned = session.scalar(
        select(func.coalesce(func.sum(Movement.quantity), 0)).where(
            Movement.reverses_id == issued.id, Movement.kind == "return"
        )
    )
    left = -issued.quantity - Decimal(returned or 0)
    if quantity > left:
        raise Invalid(
            "At most {left} {unit} can be returned.", field="quantity", left=_plain(left), unit=issued.part.unit
        )
    total = stock.on_hand * stock.average_cost + quantity * issued.unit_cost
    stock.average_cost = total / (stock.on_hand + quantity)
    if order is not None:
        order.parts_cost -= quantity * issued.unit_cost
        _note(session, order, issued.part, issued.place, quantity, verb="return", actor=actor, now=now)
    return _move(
        session,
        stock,
        "return",
        quantity,
        unit_cost=issued.unit_cost,
        actor=actor,
        now=now,
        key=key,
        order=order,
        reverses=issued,
    )


def transfer(
    session: Session, part: Part, source: Place, target: Place, quantity: Decimal, *, actor: str, now: datetime
) -> tuple[Movement, Movement]:
    """Move parts from one place to another; the total stays.

    Raises:
        Conflict: less is available at the source.
        Invalid: the quantity is not positive, or both places are the same.
    """
    _require_positive(quantity)
    if source.id == target.id:
        raise Invalid("Choose another place to move the parts to.", field="place")
    # Always locked in the order of their ids, so that two transfers in opposite directions cannot wait for each other.
    first, second = sorted((source, target), key=lambda place: place.id)
    rows = {first.id: locked(session, part, first), second.id: locked(session, part, second)}
    giving, taking = rows[source.id], rows[target.id]
    if available(giving) < quantity:
        raise Conflict("Only {left} {unit} are available.", left=_plain(available(giving)), unit=part.unit)
    cost = giving.average_cost
    total = taking.on_hand * taking.average_cost + quantity * cost
    taking.average_cost = total / (taking.on_hand + quantity)
    out = _move(session, giving, "transfer", -quantity, unit_cost=cost, actor=actor, now=now, reference=target.code)
    into = _move(session, taking, "transfer", quantity, unit_cost=cost, actor=actor, now=now, reference=source.code)
    return out, into


def correct(
    session: Session, part: Part, place: Place, counted: Decimal, *, actor: str, now: datetime, reason: str
) -> Movement | None:
    """Set the balance to what was counted, by a movement of the difference; None when it was right.

    Raises:
        Invalid: the count is negative, or no reason is given.
        Conflict: more is promised to orders than was counted.
    """
    if counted < 0:
        raise Invalid("A count cannot be negative.", field="counted")
    if not reason.strip():
        raise Invalid("Please say why the count differs.", field="reason")
    stock = locked(session, part, place)
    if counted < stock.committed:
        raise Conflict("{committed} {unit} are promised to orders.", committed=_plain(stock.committed), unit=part.unit)
    difference = counted - stock.on_hand
    if not difference:
        return None
    cost = stock.average_cost
    return _move(
        session, stock, "count", difference, unit_cost=cost, actor=actor, now=now, reference=reason.strip()[:100]
    )


def release_all(session: Session, order: Order, *, actor: str, now: datetime) -> int:
    """Take back every promise to an order that has ended; return how many there were."""
    held = session.scalars(
        select(Reservation)
        .where(Reservation.order_id == order.id, Reservation.state.in_(HELD))
        .order_by(Reservation.part_id, Reservation.place_id)
    ).all()
    for reservation in held:
        release(session, reservation, actor=actor, now=now)
    return len(held)


def _held_by(session: Session, part: Part, place: Place, order: Order) -> list[Reservation]:
    return list(
        session.scalars(
            select(Reservation)
            .where(
                Reservation.order_id == order.id,
                Reservation.part_id == part.id,
                Reservation.place_id == place.id,
                Reservation.state.in_(HELD),
            )
            .order_by(Reservation.id)
            .with_for_update()
        )
    )


def _use_up(session: Session, own: list[Reservation], quantity: Decimal) -> Decimal:
    """End an order's reservations as far as they are issued; split the one that is issued in part."""
    used = Decimal(0)
    for reservation in own:
        take = min(reservation.quantity, quantity - used)
        if take <= 0:
            break
        if take < reservation.quantity:
            rest = reservation.quantity - take
            session.add(
                Reservation(
                    part_id=reservation.part_id,
                    place_id=reservation.place_id,
                    order_id=reservation.order_id,
                    quantity=rest,
                    state=reservation.state,
                    at=reservation.at,
                    by=reservation.by,
                )
            )
            reservation.quantity = take
        reservation.state = "issued"
        used += take
    return used


def _move(
    session: Session,
    stock: Stock,
    kind: str,
    quantity: Decimal,
    *,
    unit_cost: Decimal,
    actor: str,
    now: datetime,
    reference: str = "",
    key: str | None = None,
    order: Order | None = None,
    reverses: Movement | None = None,
) -> Movement:
    """Append a movement and carry the balance along."""
    stock.on_hand += quantity
    movement = Movement(
        part_id=stock.part_id,
        place_id=stock.place_id,
        kind=kind,
        quantity=quantity,
        unit_cost=unit_cost,
        order_id=order.id if order else None,
        reverses_id=reverses.id if reverses else None,
        reference=reference,
        at=now,
        by=actor,
        idempotency_key=key,
    )
    session.add(movement)
    session.flush()
    _audit(session, f"stock.{kind}", stock, actor, now, order=movement.order_id, quantity=quantity)
    moved = StockMoved(movement.id, stock.part_id, stock.place_id)
    unit = session.get_one(Place, stock.place_id).unit_id
    events.emit(session, moved, subject=f"part:{stock.part_id}", at=now, actor=actor, unit_id=unit)
    return movement


def _note(
    session: Session, order: Order, part: Part, place: Place, quantity: Decimal, *, verb: str, actor: str, now: datetime
) -> None:
    """Write a line on the order's timeline."""
    detail = {
        "verb": verb,
        "part_id": part.id,
        "number": part.number,
        "name": part.name,
        "name_zh": part.name_zh,
        "quantity": _plain(quantity),
        "unit": part.unit,
        "place": place.code,
    }
    timeline.write(session, order, "part", actor=actor, now=now, detail=detail)


def _tell_if_low(session: Session, part: Part, stock: Stock, *, before: Decimal, actor: str, now: datetime) -> None:
    """Say once that a part ran low: when what is available crosses its reorder level, not while it is below."""
    level = part.reorder_level
    if level is not None and before > level >= available(stock):
        unit = session.get_one(Place, stock.place_id).unit_id
        low = StockRanLow(part.id, stock.place_id)
        events.emit(session, low, subject=f"part:{part.id}", at=now, actor=actor, unit_id=unit)


def _known(session: Session, key: str | None) -> Movement | None:
    if key is None:
        return None
    return session.scalars(select(Movement).where(Movement.idempotency_key == key)).one_or_none()


def _require_positive(quantity: Decimal) -> None:
    if quantity <= 0:
        raise Invalid("The quantity must be more than zero.", field="quantity")


def _plain(quantity: Decimal) -> str:
    """Return a quantity as a person writes it: ``10``, ``2.5``."""
    return f"{quantity.normalize():f}"


def _audit(
    session: Session, action: str, stock: Stock, actor: str, now: datetime, *, order: int | None, quantity: Decimal
) -> None:
    after = {
        "place": stock.place_id,
        "order": order,
        "quantity": str(quantity),
        "on_hand": str(stock.on_hand),
        "committed": str(stock.committed),
    }
    audit.record(session, action, subject=f"part:{stock.part_id}", actor=actor, at=now, after=after)
