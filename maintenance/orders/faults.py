"""Which order a fault has: at most one that is open, however many hear of the fault at once (promise P3).

Whoever opens or joins an order of a fault holds its subject first and then looks what is open. Nothing here writes.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, String, bindparam, exists, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from maintenance.orders import lifecycle
from maintenance.orders.models import Order
from rules.models import Alarm

NO_FAULT = ("plan", "rating")
"""Origins of orders that are about no fault of the asset: planned work, and calls to unhappy customers."""


def is_open() -> ColumnElement[bool]:
    """Return the condition that an order has not ended, written out so that the partial indexes serve it."""
    return Order.phase.not_in(bindparam("ended", lifecycle.ENDED, expanding=True, literal_execute=True))


def hold_subject(session: Session, subject: str) -> None:
    """Let one transaction at a time open or join orders about ``subject``, e.g. ``asset:12`` (promise P3).

    The unique index would refuse the second order of a fault too; queueing spares the loser an error and lets
    it see what the winner opened.
    """
    hold_subjects(session, {subject})


def hold_subjects(session: Session, subjects: Collection[str]) -> None:
    """Hold many subjects, always in the same order, so that two who want the same ones wait in no circle."""
    wanted = func.unnest(literal(sorted(f"orders of {one}" for one in subjects), ARRAY(String))).column_valued()
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(wanted, 0))))


def open_of_fault(session: Session, fault_key: str) -> Order | None:
    """Return the open order of a fault, locked, or None."""
    return session.scalars(
        select(Order)
        .where(Order.fault_key == fault_key, is_open())
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()


def open_of_asset(session: Session, asset_id: int) -> Sequence[Order]:
    """Return the open orders of an asset that are about a fault, the most urgent and newest first."""
    return session.scalars(
        select(Order)
        .where(Order.asset_id == asset_id, is_open(), Order.origin.not_in(NO_FAULT))
        .order_by(Order.priority, Order.id.desc())
    ).all()


def signal_is_active(session: Session, order: Order) -> bool:
    """Return whether the fault of an order has an active alarm now."""
    if not order.fault_key:
        return False
    subject, _, type_key = order.fault_key.partition("/")
    active = exists().where(Alarm.subject == subject, Alarm.type_key == type_key, Alarm.is_active)
    return bool(session.scalar(select(active)))
