"""What the ledger says about the future and the whole: how long a part lasts, what a machine takes, what waits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maintenance.orders.models import Order
from maintenance.parts.models import Movement, Part, Place, Reservation, Stock
from maintenance.parts.stock import HELD
from people import scope
from people.scope import Viewer

MEASURED_OVER = timedelta(days=90)
"""How far back the use of a part is looked at to say how long it will last."""
NOT_USED_UP = 1000
"""So many days are as good as for ever."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The storeroom in three figures, over the places a viewer sees."""

    low: int
    """Parts whose available stock is at or below their reorder level."""
    waiting: int
    """Promises to orders that nobody has handed out yet."""
    value: Decimal


def whole(session: Session, viewer: Viewer) -> Whole:
    """Return the figures of the storeroom."""
    seen = select(Place.id).where(scope.visible(Place, viewer, "parts.read"))
    available = func.coalesce(func.sum(Stock.on_hand - Stock.committed), 0)
    short = (
        select(Part.id)
        .outerjoin(Stock, (Stock.part_id == Part.id) & Stock.place_id.in_(seen))
        .where(Part.company_id == viewer.company_id, Part.is_active, Part.reorder_level.is_not(None))
        .group_by(Part.id)
        .having(available <= Part.reorder_level)
    )
    low = session.scalar(select(func.count()).select_from(short.subquery())) or 0
    held = select(func.count()).select_from(Reservation)
    waiting = session.scalar(held.where(Reservation.place_id.in_(seen), Reservation.state.in_(HELD))) or 0
    value = session.scalar(select(func.sum(Stock.on_hand * Stock.average_cost)).where(Stock.place_id.in_(seen)))
    return Whole(low, waiting, Decimal(value or 0))


def usage(session: Session, viewer: Viewer, part_ids: Sequence[int], now: datetime) -> dict[int, Decimal]:
    """Return how much of each part went into orders in the last 90 days, from the places the viewer sees."""
    used = (
        select(Movement.part_id, -func.sum(Movement.quantity))
        .join(Place, Place.id == Movement.place_id)
        .where(
            scope.visible(Place, viewer, "parts.read"),
            Movement.part_id.in_(part_ids),
            Movement.kind.in_(("issue", "return")),
            Movement.at > now - MEASURED_OVER,
        )
        .group_by(Movement.part_id)
    )
    return {part_id: max(Decimal(amount), Decimal(0)) for part_id, amount in session.execute(used)}


def lasts_days(available: Decimal, used: Decimal) -> int | None:
    """Return for how many days a stock lasts at the use of the last 90; None when that cannot be said."""
    if used <= 0:
        return None
    days = int(available * MEASURED_OVER.days / used)
    return days if days < NOT_USED_UP else None


def used_on(session: Session, viewer: Viewer, asset_id: int, *, limit: int = 8) -> Sequence[tuple[Part, Decimal]]:
    """Return the parts that repairs of an asset took, and how many in all, the last used first."""
    newest = func.max(Movement.id)
    used = (
        select(Part, -func.sum(Movement.quantity))
        .join(Movement, Movement.part_id == Part.id)
        .join(Order, Order.id == Movement.order_id)
        .where(
            Order.asset_id == asset_id,
            scope.visible(Order, viewer, "orders.read"),
            Movement.kind.in_(("issue", "return")),
        )
        .group_by(Part.id)
        .having(func.sum(Movement.quantity) < 0)
        .order_by(newest.desc())
        .limit(limit)
    )
    return [(part, Decimal(amount)) for part, amount in session.execute(used)]


def trend(session: Session, viewer: Viewer, part: Part, now: datetime, *, points: int = 30) -> list[float]:
    """Return a part's balance over the last 90 days in equal steps, the present last; for a small curve."""
    seen = select(Place.id).where(scope.visible(Place, viewer, "parts.read"))
    mine = Movement.part_id == part.id, Movement.place_id.in_(seen)
    lately = session.execute(
        select(Movement.at, Movement.quantity).where(*mine, Movement.at > now - MEASURED_OVER)
    ).all()
    on_hand = session.scalar(
        select(func.coalesce(func.sum(Stock.on_hand), 0)).where(Stock.part_id == part.id, Stock.place_id.in_(seen))
    )
    moments = [now - MEASURED_OVER * number / (points - 1) for number in reversed(range(points))]
    return [float((on_hand or 0) - sum(quantity for at, quantity in lately if at > moment)) for moment in moments]
