"""What happens to an order's promised parts when it ends: they are free again."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from maintenance.orders.events import OrderMoved
from maintenance.orders.lifecycle import ENDED
from maintenance.orders.models import Order
from maintenance.parts import stock


def on_moved(session: Session, event: OrderMoved, now: datetime) -> None:
    """Release what an ended order had reserved and not used."""
    if event.after in ENDED:
        stock.release_all(session, session.get_one(Order, event.order_id), actor="system", now=now)


def concerns(_session: Session, happenings: Sequence[OrderMoved]) -> list[bool]:
    """Say which moves end an order."""
    return [one.after in ENDED for one in happenings]
