"""Everything that happened to one asset, the newest first: alarms, orders, parts put in, devices bound (AS-6).

For the asset's page and the API. A viewer who may not see one kind of thing is shown the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import BigInteger, Select, literal, select, tuple_, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload

from assets.models import Asset, Binding
from maintenance.orders.models import Order
from maintenance.parts.models import Movement
from people import scope
from people.scope import Viewer
from rules.models import Alarm

_ALARM, _ORDER, _PART, _BOUND, _UNBOUND = range(5)
_MODELS: Final[dict[int, Any]] = {_ALARM: Alarm, _ORDER: Order, _PART: Movement, _BOUND: Binding, _UNBOUND: Binding}
Kind = Literal["alarm", "order", "part", "bound", "unbound"]
KINDS: Final[tuple[Kind, ...]] = ("alarm", "order", "part", "bound", "unbound")
Key = tuple[datetime, int, int]


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened: an alarm, an order, a movement of parts, or a binding (``bound``, ``unbound``)."""

    at: datetime
    kind: Kind
    row: Any

    @property
    def key(self) -> Key:
        """The sort key, as a cursor holds it."""
        return self.at, KINDS.index(self.kind), self.row.id


def read(session: Session, viewer: Viewer, asset: Asset, *, after: Key | None = None, limit: int) -> list[Happening]:
    """Return up to ``limit`` happenings; ``after`` is the key of the one before. Four queries at most."""
    newest = [_newest(query, after, limit) for query in _sources(viewer, asset)]
    together = union_all(*newest).subquery()
    rows = session.execute(
        select(together).order_by(together.c.at.desc(), together.c.kind.desc(), together.c.id.desc()).limit(limit)
    ).all()
    found: dict[tuple[int, int], Any] = {}
    for model in {_MODELS[row.kind] for row in rows}:
        kinds = {kind for kind, one in _MODELS.items() if one is model}
        wanted = [row.id for row in rows if row.kind in kinds]
        for one in session.scalars(select(model).where(model.id.in_(wanted)).options(*_along(model))):
            found.update({(kind, one.id): one for kind in kinds})
    return [Happening(row.at, KINDS[row.kind], found[row.kind, row.id]) for row in rows]


def _sources(viewer: Viewer, asset: Asset) -> Sequence[Select[Any]]:
    parts = (
        _times(_PART, Movement.at, Movement.id)
        .join(Order, Order.id == Movement.order_id)
        .where(Order.asset_id == asset.id, Movement.kind.in_(("issue", "return")))
        .where(scope.visible(Order, viewer, "parts.read"))
    )
    return (
        _times(_ALARM, Alarm.raised_at, Alarm.id).where(
            Alarm.asset_id == asset.id, scope.visible(Alarm, viewer, "alarms.read")
        ),
        _times(_ORDER, Order.created_at, Order.id).where(
            Order.asset_id == asset.id, scope.visible(Order, viewer, "orders.read")
        ),
        parts,
        _times(_BOUND, Binding.starts_at, Binding.id).where(Binding.asset_id == asset.id),
        _times(_UNBOUND, Binding.ends_at, Binding.id).where(Binding.asset_id == asset.id, Binding.ends_at.is_not(None)),
    )


def _times(kind: int, at: InstrumentedAttribute[Any], identity: InstrumentedAttribute[int]) -> Select[Any]:
    return select(at.label("at"), literal(kind, BigInteger).label("kind"), identity.label("id"))


def _newest(query: Select[Any], after: Key | None, limit: int) -> Select[Any]:
    source = query.subquery()
    newest = select(source)
    if after is not None:
        newest = newest.where(tuple_(source.c.at, source.c.kind, source.c.id) < after)
    newest = newest.order_by(source.c.at.desc(), source.c.kind.desc(), source.c.id.desc()).limit(limit)
    return select(newest.subquery())


def _along(model: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a mapped class
    """Return what is shown beside a row and therefore loaded with it."""
    if model is Alarm:
        return (joinedload(Alarm.alarm_type),)
    if model is Movement:
        return (joinedload(Movement.part),)
    if model is Binding:
        return (joinedload(Binding.device),)
    return (joinedload(Order.assignee),)
