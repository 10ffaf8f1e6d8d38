"""Which orders a viewer is shown: the lists of pages and API, the board by phase, one person's day.

Every query stays within the viewer's sight and pages by key, so a list costs the same on its first and on its
hundredth page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, or_, select, tuple_
from sqlalchemy.orm import Session, contains_eager, joinedload

from assets.models import Asset
from kernel.errors import Invalid
from maintenance.orders import faults, lifecycle
from maintenance.orders.models import Order, OrderType
from people import scope
from people.scope import Viewer

NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""Where orders without a due date stand in a list by due date, the soonest first."""
ALWAYS: Final = datetime(1, 1, 2, tzinfo=UTC)
"""Where they stand in a list with the latest first: at its end too."""
SORTS: Final[Mapping[str, tuple[type, ...]]] = {
    "-id": (int,),
    "priority": (int, int),
    "-priority": (int, int),
    "due": (datetime, int),
    "-due": (datetime, int),
    "-finished": (datetime, int),
}
"""Sort → the kinds of its key: newest, most and least urgent, due soonest and latest, finished last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a list is narrowed to; None and empty narrow nothing."""

    phases: tuple[str, ...] = ()
    is_open: bool | None = None
    is_unfinished: bool = False
    is_late: bool = False
    assignee_id: int | None = None
    is_unassigned: bool = False
    asset_id: int | None = None
    site_id: int | None = None
    alarm_id: int | None = None
    origin: str | None = None
    kind: str | None = None
    priority: int | None = None
    text: str = ""


def listed(
    session: Session,
    viewer: Viewer,
    wanted: Wanted,
    *,
    now: datetime,
    sort: str = "-id",
    after: tuple[Any, ...] | None = None,
    limit: int = 101,
) -> Sequence[Order]:
    """Return orders with asset, type, site and assignee loaded; ``after`` is the key of the last one known.

    Raises:
        Invalid: there is no such sort, or the phase is none.
    """
    if sort not in SORTS:
        raise Invalid("Orders cannot be sorted by this.", field="sort")
    query = _narrowed(viewer, wanted, now)
    keys = _columns(sort)
    falls = sort.startswith("-")
    query = query.order_by(*(key.desc() if falls else key for key in keys))
    if after:
        query = query.where(tuple_(*keys) < after if falls else tuple_(*keys) > after)
    return session.scalars(query.limit(limit)).unique().all()


def _columns(sort: str) -> tuple[ColumnElement[Any], ...]:
    """Return what a list of this sort is ordered by, in the database; ``key_of`` is the same for one order."""
    keys: dict[str, tuple[ColumnElement[Any], ...]] = {
        "id": (),
        "priority": (Order.priority.expression,),
        "due": (func.coalesce(Order.due_at, ALWAYS if sort == "-due" else NEVER),),
        "finished": (func.coalesce(Order.finished_at, Order.created_at),),
    }
    return (*keys[sort.removeprefix("-")], Order.id.expression)


def key_of(order: Order, sort: str) -> tuple[Any, ...]:
    """Return where an order stands in a list of this sort."""
    keys: dict[str, tuple[Any, ...]] = {
        "-id": (order.id,),
        "priority": (order.priority, order.id),
        "-priority": (order.priority, order.id),
        "-due": (order.due_at or ALWAYS, order.id),
        "due": (order.due_at or NEVER, order.id),
        "-finished": (order.finished_at or order.created_at, order.id),
    }
    return keys[sort]


def counts(session: Session, viewer: Viewer, wanted: Wanted, *, now: datetime) -> dict[str, int]:
    """Return how many open orders there are in each phase; only open ones are ever counted."""
    query = _narrowed(viewer, wanted, now, loaded=False).where(faults.is_open())
    found = session.execute(query.with_only_columns(Order.phase, func.count()).group_by(Order.phase))
    by_phase: dict[str, int] = {phase: number for phase, number in found}  # noqa: C416 - a result is no mapping
    return {phase: by_phase.get(phase, 0) for phase in lifecycle.PHASES if phase not in lifecycle.ENDED}


def whole(session: Session, order_id: int, viewer: Viewer) -> Order:
    """Return one order with everything its page shows of it loaded at once.

    Raises:
        NotFound: it does not exist or lies outside the viewer's sight.
    """
    scope.find(session, Order, order_id, viewer, "orders.read")
    return (
        session.scalars(
            select(Order)
            .where(Order.id == order_id)
            .options(
                *_LOADED,
                joinedload(Order.asset).options(joinedload(Asset.type), joinedload(Asset.location)),
                joinedload(Order.customer),
                joinedload(Order.alarm),
                joinedload(Order.team),
                joinedload(Order.requests),
            )
            .execution_options(populate_existing=True)
        )
        .unique()
        .one()
    )


def of_day(session: Session, viewer: Viewer) -> Sequence[Order]:
    """Return what a person has to do, in the order to do it: what is under way, booked visits, then urgency."""
    under_way = Order.phase.in_(("working", "paused", "on_site", "travelling"))
    return (
        session.scalars(
            select(Order)
            .where(
                Order.assignee_id == viewer.account_id,
                Order.phase.in_(("assigned", "accepted", "travelling", "on_site", "working", "paused")),
                scope.visible(Order, viewer, "orders.read"),
            )
            .options(*_LOADED, joinedload(Order.asset).joinedload(Asset.location))
            .order_by(under_way.desc(), Order.planned_at.asc().nulls_last(), Order.priority, Order.due_at, Order.id)
            .limit(100)
        )
        .unique()
        .all()
    )


_LOADED: Final = (joinedload(Order.type), joinedload(Order.site), joinedload(Order.assignee))


def _narrowed(viewer: Viewer, wanted: Wanted, now: datetime, *, loaded: bool = True) -> Select[Order]:
    query = select(Order).where(scope.visible(Order, viewer, "orders.read"), *_conditions(wanted, now))
    if wanted.kind is not None:
        query = query.join(OrderType, OrderType.id == Order.type_id).where(OrderType.key == wanted.kind)
    if wanted.text:
        query = query.outerjoin(Order.asset).where(_holds(wanted.text))
        return query.options(*_LOADED, contains_eager(Order.asset)) if loaded else query
    return query.options(*_LOADED, joinedload(Order.asset)) if loaded else query


def _conditions(wanted: Wanted, now: datetime) -> list[ColumnElement[bool]]:
    unknown = set(wanted.phases) - set(lifecycle.PHASES)
    if unknown:
        raise Invalid("There is no phase called {phase}.", field="phase", phase=min(unknown))
    found: list[ColumnElement[bool]] = []
    if wanted.phases:
        found.append(Order.phase.in_(wanted.phases))
    if wanted.is_open is not None:
        found.append(faults.is_open() if wanted.is_open else Order.phase.in_(lifecycle.ENDED))
    if wanted.is_unfinished:
        found.append(Order.finished_at.is_(None))
    if wanted.is_late:
        found += [faults.is_open(), Order.finished_at.is_(None), Order.due_at < now]
    if wanted.is_unassigned:
        found += [faults.is_open(), Order.assignee_id.is_(None)]
    exact = {
        Order.assignee_id: wanted.assignee_id,
        Order.asset_id: wanted.asset_id,
        Order.site_id: wanted.site_id,
        Order.alarm_id: wanted.alarm_id,
        Order.origin: wanted.origin,
        Order.priority: wanted.priority,
    }
    return found + [column == value for column, value in exact.items() if value is not None]


def _holds(text: str) -> ColumnElement[bool]:
    fields = (Order.number, Order.title, Order.title_zh, Asset.code, Asset.name, Asset.name_zh)
    return or_(*(field.icontains(text, autoescape=True) for field in fields))
