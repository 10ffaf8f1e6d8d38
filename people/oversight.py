"""What a viewer sees of the records the kernel keeps: the audit trail, and events on their way to subscribers.

Those records know no org tree. Whoever holds the right over the whole company sees all of the company's; whoever
holds it over a part sees of the trail what the people of that part did, and the deliveries of events that happened
there. What belongs to no company (the machine itself, a stranger's guess at a name) is shown over the whole company
where the installation has one company only: with several, nobody's records may tell of another.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, false, func, or_, select
from sqlalchemy.orm import Session, aliased

from kernel import audit, events
from kernel.errors import Forbidden
from kernel.models import AuditEntry, Delivery, Event
from people.models import Account, OrgUnit
from people.scope import Viewer, units


@dataclass(frozen=True, slots=True)
class Trail:
    """The filter of the audit trail."""

    action: str = ""
    """The beginning of an action, e.g. ``order.``."""
    actor: str = ""
    subject: str = ""
    since: datetime | None = None
    until: datetime | None = None


def trail(session: Session, viewer: Viewer, wanted: Trail, *, before: int | None, limit: int) -> list[AuditEntry]:
    """Return entries of the audit trail, newest first; ``before`` is the last id seen."""
    rows = select(AuditEntry).where(_of_trail(viewer), *_conditions(wanted))
    if before is not None:
        rows = rows.where(AuditEntry.id < before)
    return list(session.scalars(rows.order_by(AuditEntry.id.desc()).limit(limit)))


def require_whole_trail(viewer: Viewer) -> None:
    """Make sure that a viewer may have the whole chain verified.

    Raises:
        Forbidden: they see only a part of the company's trail.
    """
    if not viewer.may_at("audit.read", _root(viewer)):
        raise Forbidden("Only somebody who sees the whole company's trail can verify it.")


def deliveries(
    session: Session, viewer: Viewer, *, state: str, before: int | None, limit: int
) -> list[tuple[Delivery, Event]]:
    """Return deliveries in a state (``waiting``, ``stuck`` or ``done``) with their events, newest first."""
    rows = (
        select(Delivery, Event)
        .join(Event, Event.id == Delivery.event_id)
        .where(Delivery.state == state, _of_events(viewer, "deliveries.read"))
    )
    if before is not None:
        rows = rows.where(Delivery.id < before)
    newest_first = session.execute(rows.order_by(Delivery.id.desc()).limit(limit))
    return [(delivery, event) for delivery, event in newest_first]


def retry(session: Session, viewer: Viewer, identities: Iterable[int] | None, now: datetime) -> int:
    """Put stuck deliveries back in line, those given or with None all within the viewer's right; return how many."""
    rows = (
        select(Delivery.id)
        .join(Event, Event.id == Delivery.event_id)
        .where(Delivery.state == "stuck", _of_events(viewer, "deliveries.act"))
    )
    if identities is not None:
        rows = rows.where(Delivery.id.in_(list(identities)))
    chosen = sorted(session.scalars(rows))
    if not chosen:
        return 0
    retried = events.retry(session, chosen, now)
    audit.record(session, "delivery.retry", subject="deliveries", actor=viewer.actor, at=now,
                 after={"deliveries": chosen[:100], "count": retried}, company_id=viewer.company_id)  # fmt: skip
    return retried


def names(session: Session, viewer: Viewer, actors: Iterable[str]) -> dict[str, str]:
    """Return what people are called, by the actors that name them, e.g. ``account:12``; one query."""
    wanted = {int(actor.partition(":")[2]) for actor in actors if actor.startswith("account:") and actor[8:].isdigit()}
    rows = select(Account.id, Account.name).where(Account.id.in_(wanted), Account.company_id == viewer.company_id)
    return {f"account:{identity}": name for identity, name in session.execute(rows)}


def _of_trail(viewer: Viewer) -> ColumnElement[bool]:
    ours = AuditEntry.company_id == viewer.company_id
    if viewer.may_at("audit.read", _root(viewer)):
        return or_(ours, and_(AuditEntry.company_id.is_(None), _is_only_company()))
    if not viewer.may("audit.read"):
        return false()
    below = Account.home_unit_id.in_(units(viewer, "audit.read"))
    theirs = select(func.concat("account:", Account.id)).where(below)
    return and_(ours, AuditEntry.actor.in_(theirs))


def _of_events(viewer: Viewer, right: str) -> ColumnElement[bool]:
    placed = Event.unit_id.in_(units(viewer, right))
    if viewer.may_at(right, _root(viewer)):
        return or_(placed, and_(Event.unit_id.is_(None), _is_only_company()))
    return placed


def _is_only_company() -> ColumnElement[bool]:
    one, other = aliased(OrgUnit), aliased(OrgUnit)
    both = and_(one.parent_id.is_(None), other.parent_id.is_(None), one.id < other.id)
    return ~exists(select(one.id).join(other, both))


def _conditions(wanted: Trail) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.action:
        conditions.append(AuditEntry.action.startswith(wanted.action, autoescape=True))
    if wanted.actor:
        conditions.append(AuditEntry.actor == wanted.actor)
    if wanted.subject:
        conditions.append(AuditEntry.subject == wanted.subject)
    if wanted.since is not None:
        conditions.append(AuditEntry.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(AuditEntry.at < wanted.until)
    return conditions


def _root(viewer: Viewer) -> str:
    return f"/{viewer.company_id}/"
