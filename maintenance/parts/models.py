"""Spare parts: what they are, where they lie, and the ledger of their movements (promise P4).

Only movements exist; ``stock`` is their sum by part and place, kept in the same transaction so that a row
can be locked and the database itself can refuse a negative balance. The database also refuses to change or
delete a movement.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from kernel.db import Id, Money, Named, Quantity, Row
from maintenance.orders.models import Order
from people.models import Scoped


class Part(Named, Row):
    """A kind of spare part, known in the whole company."""

    __tablename__ = "part"
    __table_args__ = (UniqueConstraint("company_id", "number"),)

    id: Mapped[Id]
    company_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"))
    number: Mapped[str] = mapped_column(String(60))
    unit: Mapped[str] = mapped_column(String(20), default="pcs")
    category: Mapped[str] = mapped_column(String(60), default="")
    barcode: Mapped[str | None] = mapped_column(String(80), index=True)
    reorder_level: Mapped[Quantity | None]
    reorder_quantity: Mapped[Quantity | None]
    lead_days: Mapped[int] = mapped_column(default=7)
    is_active: Mapped[bool] = mapped_column(default=True)
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it as written


class Place(Scoped, Named, Row):
    """Where parts lie: a warehouse, a shelf, a bin, a van."""

    __tablename__ = "place"
    __table_args__ = (
        UniqueConstraint("company_id", "code"),
        CheckConstraint("kind IN ('warehouse', 'shelf', 'bin', 'van')", name="kind"),
    )

    id: Mapped[Id]
    code: Mapped[str] = mapped_column(String(40))
    kind: Mapped[str] = mapped_column(String(10), default="warehouse")
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("place.id"), index=True)

    parent: Mapped["Place | None"] = relationship(remote_side="Place.id")


class Stock(Row):
    """The balance of one part at one place: the sum of its movements, and what is promised to orders."""

    __tablename__ = "stock"
    __table_args__ = (
        CheckConstraint("on_hand >= 0", name="on_hand_not_negative"),
        CheckConstraint("committed >= 0 AND committed <= on_hand", name="committed_within_on_hand"),
    )

    part_id: Mapped[int] = mapped_column(ForeignKey("part.id"), primary_key=True)
    place_id: Mapped[int] = mapped_column(ForeignKey("place.id"), primary_key=True, index=True)
    on_hand: Mapped[Quantity] = mapped_column(default=0)
    committed: Mapped[Quantity] = mapped_column(default=0)
    average_cost: Mapped[Money] = mapped_column(default=0)
    """Moving average, weighted by quantity (SEMANTICS T8)."""

    part: Mapped[Part] = relationship()
    place: Mapped[Place] = relationship()


class Movement(Row):
    """One line of the ledger; appended, never changed. Positive comes in, negative goes out."""

    __tablename__ = "movement"
    __table_args__ = (
        Index("ix_movement_part", "part_id", "place_id", "id"),
        Index("ix_movement_order", "order_id"),
        Index("uq_movement_key", "idempotency_key", unique=True, postgresql_where=text("idempotency_key IS NOT NULL")),
        CheckConstraint("quantity <> 0", name="quantity_not_zero"),
        CheckConstraint("kind IN ('receive', 'issue', 'return', 'transfer', 'count', 'scrap', 'reverse')", name="kind"),
    )

    id: Mapped[Id]
    part_id: Mapped[int] = mapped_column(ForeignKey("part.id"))
    place_id: Mapped[int] = mapped_column(ForeignKey("place.id"))
    kind: Mapped[str] = mapped_column(String(10))
    quantity: Mapped[Quantity]
    unit_cost: Mapped[Money]
    """Frozen when written; an issue keeps the average of that moment (T9)."""
    order_id: Mapped[int | None] = mapped_column(ForeignKey("work_order.id"))
    reverses_id: Mapped[int | None] = mapped_column(ForeignKey("movement.id"))
    """The issue that a return gives back, or the movement that a reversal undoes."""
    reference: Mapped[str] = mapped_column(String(100), default="")
    at: Mapped[datetime]
    by: Mapped[str] = mapped_column(String(80))
    idempotency_key: Mapped[str | None] = mapped_column(String(120))

    part: Mapped[Part] = relationship()
    place: Mapped[Place] = relationship()
    order: Mapped[Order | None] = relationship()


class Reservation(Row):
    """A quantity of a part at a place promised to an order, on its way along the commitment chain (T3)."""

    __tablename__ = "reservation"
    __table_args__ = (
        Index("ix_reservation_order", "order_id"),
        Index(
            "ix_reservation_open",
            "part_id",
            "place_id",
            postgresql_where=text("state IN ('reserved', 'picked', 'staged')"),
        ),
        CheckConstraint("state IN ('planned', 'reserved', 'picked', 'staged', 'issued', 'released')", name="state"),
        CheckConstraint("quantity > 0", name="quantity_positive"),
    )

    id: Mapped[Id]
    part_id: Mapped[int] = mapped_column(ForeignKey("part.id"))
    place_id: Mapped[int] = mapped_column(ForeignKey("place.id"))
    order_id: Mapped[int] = mapped_column(ForeignKey("work_order.id"))
    quantity: Mapped[Quantity]
    state: Mapped[str] = mapped_column(String(10), default="reserved")
    at: Mapped[datetime]
    by: Mapped[str] = mapped_column(String(80))

    part: Mapped[Part] = relationship()
    place: Mapped[Place] = relationship()
    order: Mapped[Order] = relationship()
