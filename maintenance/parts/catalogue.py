"""Parts: what there is, made and changed, and what of it lies where a viewer can see.

A part is known in the whole company; its stock is seen place by place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, joinedload

from kernel import audit, i18n
from kernel.errors import Conflict, Invalid, NotFound
from maintenance.orders.models import Order
from maintenance.parts.models import Movement, Part, Place, Reservation, Stock
from maintenance.parts.stock import HELD
from people import scope
from people.scope import Viewer

UNITS = (i18n.noop("pcs"), i18n.noop("set"), i18n.noop("pair"), i18n.noop("roll"), i18n.noop("box"), "L", "kg", "m")
"""Units that are offered, stored as they stand here and shown in the reader's language; any other may be typed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDraft:
    """A part as somebody wants it."""

    number: str
    name: str
    name_zh: str | None = None
    unit: str = "pcs"
    category: str = ""
    barcode: str | None = None
    reorder_level: Decimal | None = None
    reorder_quantity: Decimal | None = None
    lead_days: int = 7


@dataclass(frozen=True, slots=True)
class Held:
    """A part with what lies in the places a viewer sees."""

    part: Part
    on_hand: Decimal
    committed: Decimal
    value: Decimal
    """On hand times average cost, summed over the places."""

    @property
    def available(self) -> Decimal:
        """What may still be promised."""
        return self.on_hand - self.committed

    @property
    def is_low(self) -> bool:
        """Whether what is available is at or below the reorder level."""
        return self.part.reorder_level is not None and self.available <= self.part.reorder_level


def add(session: Session, draft: PartDraft, *, company_id: int, actor: str, now: datetime) -> Part:
    """Add a part to the company's catalogue.

    Raises:
        Invalid: a field is not acceptable; the error names it.
        Conflict: the company has a part of this number.
    """
    part = Part(company_id=company_id, is_active=True)
    _apply(session, part, draft)
    session.add(part)
    session.flush()
    _audit(session, part, "add", actor, now)
    return part


def change(session: Session, part: Part, draft: PartDraft, *, actor: str, now: datetime) -> Part:
    """Change a part.

    Raises:
        Invalid: a field is not acceptable; the error names it.
        Conflict: another part has this number.
    """
    _apply(session, part, draft)
    session.flush()
    _audit(session, part, "change", actor, now)
    return part


def _apply(session: Session, part: Part, draft: PartDraft) -> None:
    number, name, unit = draft.number.strip(), draft.name.strip(), draft.unit.strip()
    for field, text in (("number", number), ("name", name), ("unit", unit)):
        if not text:
            raise Invalid("This field must not be empty.", field=field)
    for field, amount in (("reorder_level", draft.reorder_level), ("reorder_quantity", draft.reorder_quantity)):
        if amount is not None and amount < 0:
            raise Invalid("This must not be negative.", field=field)
    taken = select(Part.id).where(Part.company_id == part.company_id, Part.number == number, Part.id != (part.id or 0))
    with session.no_autoflush:
        if session.scalar(taken) is not None:
            raise Conflict("There is a part with this number already.", field="number")
    part.number, part.name, part.unit = number[:60], name[:200], unit[:20]
    part.name_zh = (draft.name_zh or "").strip()[:200] or None
    part.category, part.barcode = draft.category.strip()[:60], (draft.barcode or "").strip()[:80] or None
    part.reorder_level, part.reorder_quantity = draft.reorder_level, draft.reorder_quantity
    part.lead_days = draft.lead_days


def find(session: Session, part_id: int, viewer: Viewer, right: str) -> Part:
    """Return a part of the viewer's company.

    Raises:
        NotFound: there is none, or the viewer's role reaches no parts.
    """
    part = session.get(Part, part_id)
    if part is None or part.company_id != viewer.company_id or not viewer.may(right):
        raise NotFound("There is nothing here, or it is not yours to see.")
    return part


def listed(
    session: Session,
    viewer: Viewer,
    *,
    text: str = "",
    category: str = "",
    low_only: bool = False,
    place_id: int | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Sequence[Held]:
    """Return parts by number, each with its stock in the places the viewer sees; at most ``limit``."""
    seen = select(Place.id).where(scope.visible(Place, viewer, "parts.read"))
    if place_id is not None:
        seen = seen.where(Place.id == place_id)
    on_hand = func.coalesce(func.sum(Stock.on_hand), 0)
    committed = func.coalesce(func.sum(Stock.committed), 0)
    value = func.coalesce(func.sum(Stock.on_hand * Stock.average_cost), 0)
    wanted = (
        select(Part, on_hand, committed, value)
        .outerjoin(Stock, (Stock.part_id == Part.id) & Stock.place_id.in_(seen))
        .where(Part.company_id == viewer.company_id, Part.is_active)
        .group_by(Part.id)
        .order_by(Part.number)
        .limit(limit)
    )
    if text.strip():
        like = f"%{text.strip()}%"
        wanted = wanted.where(
            or_(Part.number.ilike(like), Part.name.ilike(like), Part.name_zh.ilike(like), Part.barcode == text.strip())
        )
    if category:
        wanted = wanted.where(Part.category == category)
    if low_only:
        wanted = wanted.having(on_hand - committed <= Part.reorder_level)
    if after is not None:
        wanted = wanted.where(Part.number > after)
    return [Held(part, *map(Decimal, amounts)) for part, *amounts in session.execute(wanted)]


def categories(session: Session, viewer: Viewer) -> Sequence[str]:
    """Return the categories of the company's parts."""
    found = select(Part.category).where(Part.company_id == viewer.company_id, Part.category != "").distinct()
    return session.scalars(found.order_by(Part.category)).all()


def balances(session: Session, part: Part, viewer: Viewer) -> Sequence[Stock]:
    """Return what lies of a part in each place the viewer sees."""
    return session.scalars(
        select(Stock)
        .join(Place, Place.id == Stock.place_id)
        .where(Stock.part_id == part.id, scope.visible(Place, viewer, "parts.read"))
        .options(joinedload(Stock.place))
        .order_by(Place.code)
    ).all()


def movements(
    session: Session,
    viewer: Viewer,
    *,
    part_id: int | None = None,
    order_id: int | None = None,
    before: int | None = None,
    limit: int = 50,
) -> Sequence[Movement]:
    """Return movements in the places the viewer sees, the newest first; ``before`` is the id of the last one known."""
    wanted = (
        select(Movement)
        .join(Place, Place.id == Movement.place_id)
        .where(scope.visible(Place, viewer, "parts.read"))
        .options(joinedload(Movement.part), joinedload(Movement.place), joinedload(Movement.order))
        .order_by(Movement.id.desc())
        .limit(limit)
    )
    if part_id is not None:
        wanted = wanted.where(Movement.part_id == part_id)
    if order_id is not None:
        wanted = wanted.where(Movement.order_id == order_id)
    if before is not None:
        wanted = wanted.where(Movement.id < before)
    return session.scalars(wanted).all()


def reservations(
    session: Session,
    viewer: Viewer,
    *,
    part_id: int | None = None,
    order_id: int | None = None,
    after: int = 0,
    limit: int = 100,
) -> Sequence[Reservation]:
    """Return what is promised to orders in the places the viewer sees, the oldest promise first."""
    wanted = (
        select(Reservation)
        .join(Place, Place.id == Reservation.place_id)
        .where(scope.visible(Place, viewer, "parts.read"), Reservation.state.in_(HELD), Reservation.id > after)
        .options(
            joinedload(Reservation.part),
            joinedload(Reservation.place),
            joinedload(Reservation.order).joinedload(Order.asset),
        )
        .order_by(Reservation.id)
        .limit(limit)
    )
    if part_id is not None:
        wanted = wanted.where(Reservation.part_id == part_id)
    if order_id is not None:
        wanted = wanted.where(Reservation.order_id == order_id)
    return session.scalars(wanted).all()


def near(session: Session, order: Order, viewer: Viewer, *, text: str = "", limit: int = 30) -> Sequence[Stock]:
    """Return stock that can be issued to an order: where the viewer may move parts, the order's own unit first."""
    wanted = (
        select(Stock)
        .join(Place, Place.id == Stock.place_id)
        .join(Part, Part.id == Stock.part_id)
        .where(scope.visible(Place, viewer, "parts.move"), Stock.on_hand > 0, Part.is_active)
        .options(joinedload(Stock.part), joinedload(Stock.place))
        .order_by(Place.unit_id != order.unit_id, Part.number)
        .limit(limit)
    )
    if text.strip():
        like = f"%{text.strip()}%"
        wanted = wanted.where(or_(Part.number.ilike(like), Part.name.ilike(like), Part.name_zh.ilike(like)))
    return session.scalars(wanted).all()


def _audit(session: Session, part: Part, verb: str, actor: str, now: datetime) -> None:
    audit.record(
        session,
        f"part.{verb}",
        subject=f"part:{part.id}",
        actor=actor,
        at=now,
        after={"number": part.number, "name": part.name, "reorder_level": str(part.reorder_level)},
        company_id=part.company_id,
    )
