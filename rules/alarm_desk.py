"""Which alarms a viewer is shown, the worst first: for the desk, an asset's page and the API (ALM-13).

The desk holds what is open and what has cleared without anybody having taken note; the history holds everything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, ColumnExpressionArgument, Select, func, or_, select, tuple_
from sqlalchemy.orm import Session, joinedload

from assets.models import Asset
from people import scope
from people.scope import Viewer
from rules import alarm_figures, bad_actors
from rules.models import Alarm, AlarmEntry
from rules.rollup import RANK

MOST_LINES = 500
LONG_AGO, FAR_AHEAD = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
STATES = ("listed", "held", "open", "cleared", "all")

PUT_AWAY = or_(Alarm.is_shelved, Alarm.suppressed_by.is_not(None), Alarm.is_out_of_service)
"""What nobody is to look at now; it is shown on request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A filter of alarms; what is None or empty does not filter.

    ``state``: *listed* (open, cleared and not acknowledged, or to be reset, and not put away), *held* (open and put
    away: shelved, suppressed or out of service), *open*, *cleared* or *all*. ``within`` takes an asset with all its
    parts, ``unit_id`` an org unit with all below it. ``since`` and ``until`` bound when an alarm was noticed here.
    """

    state: str = "listed"
    severity: str | None = None
    is_acknowledged: bool | None = None
    within: int | None = None
    device_id: int | None = None
    site_id: int | None = None
    customer_id: int | None = None
    type_key: str | None = None
    text: str = ""
    ids: Sequence[int] | None = None
    subject: str | None = None
    parent_id: int | None = None
    """An alarm that stands for many, as in a flood or behind a dead gateway; those it stands for are meant."""
    unit_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_announced: bool = False
    """Whether those are left out that nobody was told of."""
    actor: str | None = None
    """One of ``bad_actors.KINDS``: what of a period is behind a figure."""

    def of(self, ids: Sequence[int]) -> "Wanted":
        """Return the same filter over some alarms alone."""
        return replace(self, ids=ids)


def worst_first(
    session: Session, viewer: Viewer, wanted: Wanted, *, after: tuple[int, int] | None = None, limit: int
) -> Sequence[Alarm]:
    """Return up to ``limit`` alarms by severity, then the newest first; ``after`` is (rank, id) of the one before."""
    query = _query(session, viewer, wanted).order_by(RANK, Alarm.id.desc()).limit(limit)
    if after is not None:
        query = query.where(tuple_(RANK, -Alarm.id) > (after[0], -after[1]))
    return session.scalars(query).all()


def newest_first(
    session: Session, viewer: Viewer, wanted: Wanted, *, after: int | None = None, limit: int
) -> Sequence[Alarm]:
    """Return up to ``limit`` alarms, the newest first; ``after`` is the id of the one before."""
    query = _query(session, viewer, wanted).order_by(Alarm.id.desc()).limit(limit)
    if after is not None:
        query = query.where(Alarm.id < after)
    return session.scalars(query).all()


def _query(session: Session, viewer: Viewer, wanted: Wanted) -> Select[Alarm]:
    return (
        select(Alarm)
        .where(scope.visible(Alarm, viewer, "alarms.read"), *_conditions(session, viewer, wanted))
        .options(
            joinedload(Alarm.asset).joinedload(Asset.site),
            joinedload(Alarm.device),
            joinedload(Alarm.alarm_type),
            joinedload(Alarm.assignee),
        )
    )


def _of_state(state: str) -> Iterable[ColumnExpressionArgument[bool]]:
    if state == "listed":
        yield or_(Alarm.is_active, ~Alarm.is_acknowledged, Alarm.is_latched)
        yield ~PUT_AWAY
    elif state == "held":
        yield Alarm.is_active
        yield PUT_AWAY
    elif state in {"open", "cleared"}:
        yield Alarm.is_active if state == "open" else ~Alarm.is_active


def _conditions(session: Session, viewer: Viewer, wanted: Wanted) -> Iterable[ColumnExpressionArgument[bool]]:
    yield from _of_state(wanted.state)
    if wanted.ids is not None:
        yield Alarm.id.in_(wanted.ids)
    if wanted.is_acknowledged is not None:
        yield Alarm.is_acknowledged if wanted.is_acknowledged else ~Alarm.is_acknowledged
    yield from _of_place(session, viewer, wanted)
    yield from _of_period(wanted)
    for column, value in (
        (Alarm.severity, wanted.severity),
        (Alarm.device_id, wanted.device_id),
        (Alarm.type_key, wanted.type_key),
        (Alarm.subject, wanted.subject),
        (Alarm.parent_id, wanted.parent_id),
    ):
        if value is not None:
            yield column == value
    if wanted.text:
        yield _saying(wanted.text)


def _saying(words: str) -> ColumnElement[bool]:
    on_assets = select(Asset.id).where(
        or_(*(name.icontains(words, autoescape=True) for name in (Asset.code, Asset.name, Asset.name_zh)))
    )
    return or_(
        Alarm.message.icontains(words, autoescape=True),
        Alarm.type_key.icontains(words, autoescape=True),
        Alarm.asset_id.in_(on_assets),
    )


def _of_place(session: Session, viewer: Viewer, wanted: Wanted) -> Iterable[ColumnElement[bool]]:
    if wanted.within is not None:
        path = session.scalar(
            select(Asset.path).where(Asset.id == wanted.within, scope.visible(Asset, viewer, "alarms.read"))
        )
        below = select(Asset.id).where(Asset.path.startswith(path or "nothing", autoescape=True))
        yield Alarm.asset_id.in_(below)
    if wanted.site_id is not None:
        yield Alarm.asset_id.in_(select(Asset.id).where(Asset.site_id == wanted.site_id))
    if wanted.customer_id is not None:
        yield Alarm.asset_id.in_(select(Asset.id).where(Asset.customer_id == wanted.customer_id))
    if wanted.unit_id is not None:
        yield alarm_figures.within(viewer, wanted.unit_id)[-1]


def _of_period(wanted: Wanted) -> Iterable[ColumnElement[bool]]:
    start, end = wanted.since or LONG_AGO, wanted.until or FAR_AHEAD
    if wanted.is_announced:
        yield Alarm.announced_at.is_not(None)
    if wanted.actor == "stale":
        # What stood at the end of a period may have begun long before it.
        yield bad_actors.stale(end)
        return
    if wanted.since is not None:
        yield Alarm.detected_at >= start
    if wanted.until is not None:
        yield Alarm.detected_at < end
    if wanted.actor == "fleeting":
        yield bad_actors.fleeting()
    elif wanted.actor == "chattering":
        yield bad_actors.chattering(start, end)


def open_by_severity(session: Session, viewer: Viewer) -> dict[str, int]:
    """Return how many alarms of each severity are open; of an index over open alarms, however long the history."""
    rows = session.execute(
        select(Alarm.severity, func.count())
        .where(Alarm.is_active, ~PUT_AWAY, scope.visible(Alarm, viewer, "alarms.read"))
        .group_by(Alarm.severity)
    )
    return {severity: count for severity, count in rows}  # noqa: C416 - rows are no pairs to mypy


def of_orders(session: Session, viewer: Viewer, faults: Iterable[tuple[int | None, str | None]]) -> Sequence[int]:
    """Return the alarms that work orders are about, given as (alarm, fault); a fault is ``subject/type_key``."""
    pairs = [*faults]
    if not pairs:
        return []
    of_fault = [key.partition("/")[::2] for _, key in pairs if key]
    return session.scalars(
        select(Alarm.id).where(
            scope.visible(Alarm, viewer, "alarms.read"),
            or_(
                Alarm.id.in_([alarm_id for alarm_id, _ in pairs if alarm_id is not None]),
                Alarm.is_active & tuple_(Alarm.subject, Alarm.type_key).in_(of_fault),
            ),
        )
    ).all()


def stood_for(session: Session, viewer: Viewer, ids: Iterable[int]) -> dict[int, int]:
    """Return for how many open alarms each of these stands; those that stand for themselves alone are missing."""
    rows = session.execute(
        select(Alarm.parent_id, func.count())
        .where(Alarm.parent_id.in_(list(ids)), Alarm.is_active, scope.visible(Alarm, viewer, "alarms.read"))
        .group_by(Alarm.parent_id)
    )
    return {parent_id: count for parent_id, count in rows if parent_id is not None}


def history_of(session: Session, alarm: Alarm) -> Sequence[AlarmEntry]:
    """Return the lines of an alarm's history, the oldest first, at most 500."""
    query = select(AlarmEntry).where(AlarmEntry.alarm_id == alarm.id).order_by(AlarmEntry.id).limit(MOST_LINES)
    return session.scalars(query).all()


def twins(session: Session, alarm: Alarm, *, limit: int = 10) -> Sequence[Alarm]:
    """Return earlier and later alarms of the same kind on the same thing, the newest first."""
    return session.scalars(
        select(Alarm)
        .where(Alarm.subject == alarm.subject, Alarm.type_key == alarm.type_key, Alarm.id != alarm.id)
        .order_by(Alarm.id.desc())
        .limit(limit)
    ).all()


def sisters(session: Session, viewer: Viewer, alarm: Alarm, *, limit: int = 10) -> Sequence[Alarm]:
    """Return the latest alarm of the same kind on each sister, the newest first: assets of the same type in sight."""
    if alarm.asset is None:
        return []
    latest = (
        select(func.max(Alarm.id))
        .join(Asset, Asset.id == Alarm.asset_id)
        .where(
            Asset.type_id == alarm.asset.type_id,
            Alarm.asset_id != alarm.asset_id,
            Alarm.type_key == alarm.type_key,
            scope.visible(Alarm, viewer, "alarms.read"),
        )
        .group_by(Alarm.asset_id)
    )
    return session.scalars(
        select(Alarm)
        .where(Alarm.id.in_(latest))
        .options(joinedload(Alarm.asset).joinedload(Asset.site))
        .order_by(Alarm.id.desc())
        .limit(limit)
    ).all()
