"""Work that makes an asset's alarms mean nothing: isolation, a permit, calibration (ALM-5).

While such an order is worked on, its asset is out of service: alarms are recorded and nobody is told. It ends with
the work, at the latest with the order's due date or a day after its start, and what still stands is announced then.
A kind of order asks for it with ``requires["holds"]``; any open order can be given it by hand.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from assets.models import Asset
from kernel.errors import Conflict, Invalid
from kernel.i18n import noop
from maintenance.orders import kinds, lifecycle
from maintenance.orders.events import OrderMoved
from maintenance.orders.models import Order, OrderType
from rules import alarms, holds

WHYS: Final = {
    "isolation": noop("The machine is isolated for work."),
    "permit": noop("Work under a permit is going on."),
    "calibration": noop("The machine is being calibrated."),
}
_AT_WORK: Final = frozenset({"working", "paused"})
_OVER: Final = frozenset({"done", "verified", *lifecycle.ENDED})


def on_moved(session: Session, event: OrderMoved, now: datetime) -> None:
    """Take the asset out of service when work that asks for it starts, and put it back when it is over."""
    if event.after in _AT_WORK:
        order = session.get_one(Order, event.order_id)
        whys = kinds.setting(session.get_one(OrderType, order.type_id), "holds")
        # The order may have moved on while this was on its way.
        if whys and order.phase in _AT_WORK:
            hold(session, order, whys[0], by="system", now=now)
    elif event.after in _OVER:
        ended = holds.end_work(session, f"order:{event.order_id}", by="system", now=now)
        alarms.settle(session, holds.concerned_alarms(session, ended), now=now)


def concerns(_session: Session, happenings: Sequence[OrderMoved]) -> list[bool]:
    """Say which moves start or end work; no other takes an asset out of service."""
    return [one.after in _AT_WORK or one.after in _OVER for one in happenings]


def hold(session: Session, order: Order, why: str, *, by: str, now: datetime) -> None:
    """Take an order's asset out of service until the order's work is over.

    Raises:
        Invalid: there is no such reason, or the order concerns no asset.
        Conflict: the work is over.
    """
    if why not in WHYS:
        raise Invalid("It must be one of {expected}.", field="why", expected=", ".join(WHYS))
    if order.phase in _OVER:
        raise Conflict("The work on this order is over.")
    asset = session.get(Asset, order.asset_id) if order.asset_id is not None else None
    if asset is None:
        raise Invalid("This order concerns no asset.", field="order")
    until = max(order.due_at or now, now + holds.WORK_EXPIRES)
    holds.for_work(session, asset, f"order:{order.id}", reason=WHYS[why], by=by, until=until, now=now)
    alarms.settle(session, holds.concerned_alarms(session, holds.of_work(session, f"order:{order.id}")), now=now)
