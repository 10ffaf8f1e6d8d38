"""Places where parts lie: warehouses, shelves, bins and vans, one inside another, made and changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from kernel import audit
from kernel.errors import Conflict, Invalid
from maintenance.parts.models import Place, Stock
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

KINDS = ("warehouse", "shelf", "bin", "van")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceDraft:
    """A place as somebody wants it."""

    code: str
    name: str
    name_zh: str | None = None
    kind: str = "warehouse"
    parent: Place | None = None


def add(session: Session, unit: OrgUnit, draft: PlaceDraft, *, actor: str, now: datetime) -> Place:
    """Add a place where parts lie.

    Raises:
        Invalid: it has no code or name, is of an unknown kind, or would lie inside a place of another unit.
        Conflict: the company has a place of this code.
    """
    place = Place(company_id=unit.company_id or unit.id, unit_id=unit.id)
    _arrange(session, place, draft)
    session.add(place)
    session.flush()
    _audit(session, place, "add", actor, now)
    return place


def change(session: Session, place: Place, draft: PlaceDraft, *, actor: str, now: datetime) -> Place:
    """Change what a place is called, its kind and what it lies in; what lies in it stays.

    Raises:
        Invalid: it has no code or name, is of an unknown kind, or would lie inside itself.
        Conflict: another place has this code.
    """
    _arrange(session, place, draft)
    session.flush()
    _audit(session, place, "change", actor, now)
    return place


def _arrange(session: Session, place: Place, draft: PlaceDraft) -> None:
    code, name = draft.code.strip(), draft.name.strip()
    for field, text in (("code", code), ("name", name)):
        if not text:
            raise Invalid("This field must not be empty.", field=field)
    if draft.kind not in KINDS:
        raise Invalid("A place is a warehouse, a shelf, a bin or a van.", field="kind")
    if draft.parent is not None and draft.parent.company_id != place.company_id:
        raise Invalid("A place lies in another place of the same company.", field="parent_id")
    above = draft.parent
    while above is not None and place.id is not None:
        if above.id == place.id:
            raise Invalid("A place cannot lie inside itself.", field="parent_id")
        above = above.parent
    taken = select(Place.id).where(
        Place.company_id == place.company_id, Place.code == code, Place.id != (place.id or 0)
    )
    with session.no_autoflush:
        if session.scalar(taken) is not None:
            raise Conflict("There is a place with this code already.", field="code")
    place.code, place.name, place.kind = code[:40], name[:200], draft.kind
    place.name_zh = (draft.name_zh or "").strip()[:200] or None
    place.parent = draft.parent


def listed(session: Session, viewer: Viewer, right: str = "parts.read") -> Sequence[Place]:
    """Return the places a viewer sees, by code."""
    return session.scalars(
        select(Place).where(scope.visible(Place, viewer, right)).options(joinedload(Place.parent)).order_by(Place.code)
    ).all()


def held_at(session: Session, places: Sequence[Place]) -> dict[int, tuple[int, Decimal]]:
    """Return for each place how many parts lie there and what they are worth; places without any are left out."""
    rows = session.execute(
        select(Stock.place_id, func.count(), func.sum(Stock.on_hand * Stock.average_cost))
        .where(Stock.place_id.in_([place.id for place in places]), Stock.on_hand > 0)
        .group_by(Stock.place_id)
    )
    return {place_id: (count, Decimal(value)) for place_id, count, value in rows}


def _audit(session: Session, place: Place, verb: str, actor: str, now: datetime) -> None:
    audit.record(
        session,
        f"place.{verb}",
        subject=f"place:{place.id}",
        actor=actor,
        at=now,
        after={"code": place.code, "name": place.name, "kind": place.kind, "parent": place.parent_id},
        company_id=place.company_id,
    )
