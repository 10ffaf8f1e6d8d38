"""Alarms over JSON: what is wrong, since when, on whose word; acknowledged, noted, cleared."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import or_, select
from sqlalchemy.orm import Session, joinedload

from api import paging
from api.access import Db, needs
from api.instants import Instant
from kernel import clock
from maintenance.orders import lifecycle
from maintenance.orders.models import Order
from people import scope
from people.scope import Viewer
from rules import alarm_desk, alarms, attention
from rules.models import SEVERITIES, Alarm

router = APIRouter(prefix="/alarms", tags=["alarms"])
Reader = Annotated[Viewer, needs("alarms.read")]
Actor = Annotated[Viewer, needs("alarms.act")]
Severity = Literal["critical", "major", "minor", "warning", "info"]
State = Literal["listed", "held", "open", "cleared", "all"]
MOST_AT_ONCE = 500
OPEN_NOW = Order.phase.not_in(lifecycle.ENDED)


class AlarmOut(BaseModel):
    """An alarm. ``began_at``, ``raised_at`` and ``ended_at`` are device time, the others server time."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    type_key: str
    alarm_type_id: int | None
    asset_id: int | None
    device_id: int | None
    unit_id: int
    origin: str
    severity: str
    peak_severity: str
    message: str
    is_active: bool
    is_acknowledged: bool
    began_at: datetime
    raised_at: datetime
    detected_at: datetime
    last_seen_at: datetime
    ended_at: datetime | None
    cleared_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    count: int
    metric: str | None
    value: float | None
    peak_value: float | None
    limit: float | None
    rule_version: int | None
    previous_id: int | None
    is_late: bool = Field(False, description="Found in readings that came when it was over; nobody was called.")
    is_unsupported: bool = Field(False, description="Readings that came late no longer support it.")
    state: str = Field("", description="The state of ISA-18.2 that its marks amount to.")
    is_latched: bool
    is_shelved: bool
    suppressed_by: str | None = Field(description="gateway, parent, window, plant_state or flood.")
    is_out_of_service: bool
    is_chattering: bool
    announced_at: datetime | None
    parent_id: int | None = Field(description="The alarm that stands for it while it is suppressed.")
    assignee_id: int | None
    reminders: int
    escalated: int
    realarms: int
    stale_at: datetime | None
    order_id: int | None = Field(None, description="The open work order of this fault, else the one it opened.")


class EntryOut(BaseModel):
    """A line of an alarm's history."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    actor: str
    kind: str
    text: str
    detail: dict[str, Any]


class AlarmWhole(AlarmOut):
    """An alarm with what it rests on and its history."""

    evidence: dict[str, Any] = Field(description="Samples, limits and where they came from, frozen at the raise.")
    history: list[EntryOut] = Field(default_factory=list)


class Words(BaseModel):
    """A comment."""

    comment: str = ""


class Reason(BaseModel):
    """Why an alarm is cleared by hand."""

    reason: str


class Several(BaseModel):
    """Alarms to acknowledge together."""

    ids: list[int] = Field(min_length=1, max_length=MOST_AT_ONCE)


class Acknowledged(BaseModel):
    """How many of them had not been acknowledged yet."""

    acknowledged: int


class Filter(BaseModel):
    """The parameters of the list of alarms."""

    state: State = Field("listed", description="listed is open or not acknowledged, and not held.")
    severity: Severity | None = None
    acknowledged: bool | None = None
    asset: int | None = Field(None, description="An asset; its parts count.")
    device: int | None = None
    site: int | None = None
    customer: int | None = Field(None, description="On the assets of a customer.")
    type: str | None = Field(None, max_length=80, description="An alarm type's key, or a device's code.")
    subject: str | None = Field(
        None, max_length=40, description="``asset:12`` or ``device:7``; its parts do not count."
    )
    parent: int | None = Field(None, description="An alarm that stands for many; those it stands for.")
    unit: int | None = Field(None, description="An org unit with all below it.")
    since: Instant | None = Field(None, description="Noticed here then or later.")
    until: Instant | None = Field(None, description="Noticed here earlier.")
    announced: bool = Field(False, description="Leave out what nobody was told of.")
    behind: Literal["fleeting", "stale", "chattering"] | None = Field(
        None, description="Those of the period that a figure counts."
    )
    q: str = Field("", max_length=100, description="A part of the message, the type, the asset's code or name.")
    sort: Literal["severity", "-id"] = "severity"
    limit: paging.Limit = 100
    cursor: paging.Cursor = None

    def asked(self) -> alarm_desk.Wanted:
        """Return the filter of the query."""
        return alarm_desk.Wanted(
            state=self.state,
            severity=self.severity,
            is_acknowledged=self.acknowledged,
            within=self.asset,
            device_id=self.device,
            site_id=self.site,
            customer_id=self.customer,
            type_key=self.type,
            subject=self.subject,
            parent_id=self.parent,
            unit_id=self.unit,
            since=self.since,
            until=self.until or (clock.now() if self.behind == "stale" else None),
            is_announced=self.announced,
            actor=self.behind,
            text=self.q.strip(),
        )


@router.get("")
def listed(db: Db, viewer: Reader, wanted: Annotated[Filter, Query()]) -> paging.Page[AlarmOut]:
    """List alarms, the worst first and among equals the newest; or, with ``sort=-id``, the newest first."""
    page, following = page_of(db, viewer, wanted)
    orders = orders_of(db, viewer, page)
    return paging.Page(items=[_shown(row, orders.get(row.id)) for row in page], next=following)


def page_of(db: Session, viewer: Viewer, wanted: Filter) -> tuple[list[Alarm], str | None]:
    """Return one page of a filter's alarms and the cursor of the next."""
    if wanted.sort == "-id":
        after = paging.read(wanted.cursor, (int,))
        rows = alarm_desk.newest_first(
            db, viewer, wanted.asked(), after=after[0] if after else None, limit=wanted.limit + 1
        )
        return paging.cut(rows, wanted.limit, lambda row: (row.id,))
    key = paging.read(wanted.cursor, (int, int))
    rows = alarm_desk.worst_first(db, viewer, wanted.asked(), after=key and (key[0], key[1]), limit=wanted.limit + 1)
    return paging.cut(rows, wanted.limit, lambda row: (SEVERITIES.index(row.severity), row.id))


def orders_of(db: Session, viewer: Viewer, rows: Iterable[Alarm]) -> dict[int, Order]:
    """Return for each alarm the work order of its fault, as far as the viewer sees it: the open one before all."""
    alarms_by_id = {row.id: row for row in rows}
    by_fault: dict[str, list[int]] = {}
    for row in alarms_by_id.values():
        if row.is_active:
            by_fault.setdefault(f"{row.subject}/{row.type_key}", []).append(row.id)
    found = db.scalars(
        select(Order)
        .where(
            scope.visible(Order, viewer, "orders.read"),
            or_(Order.alarm_id.in_(list(alarms_by_id)), Order.fault_key.in_(list(by_fault)) & OPEN_NOW),
        )
        .options(joinedload(Order.assignee))
        .order_by(OPEN_NOW, Order.id)
    )
    orders: dict[int, Order] = {}
    for order in found:
        for identity in (order.alarm_id, *by_fault.get(order.fault_key or "", ())):
            if identity in alarms_by_id:
                orders[identity] = order
    return orders


@router.post("/acknowledge")
def acknowledge_several(db: Db, viewer: Actor, body: Several) -> Acknowledged:
    """Acknowledge several alarms; those outside the viewer's sight count as not existing."""
    return Acknowledged(acknowledged=acknowledge_all(db, viewer, body.ids))


def acknowledge_all(db: Session, viewer: Viewer, ids: Sequence[int]) -> int:
    """Acknowledge those of the alarms that the viewer may act on; return how many were not yet."""
    rows = db.scalars(select(Alarm).where(Alarm.id.in_(ids), scope.visible(Alarm, viewer, "alarms.act"))).all()
    return alarms.acknowledge_all(db, rows, by=viewer.actor, now=clock.now())


@router.get("/{alarm_id}")
def alarm(db: Db, viewer: Reader, alarm_id: int) -> AlarmWhole:
    """Return one alarm with its evidence and history."""
    return whole(db, viewer, scope.find(db, Alarm, alarm_id, viewer, "alarms.read"))


@router.post("/{alarm_id}/acknowledge")
def acknowledge(db: Db, viewer: Actor, alarm_id: int, body: Words | None = None) -> AlarmWhole:
    """Note that somebody has taken note; the first one's name stays."""
    found = actable(db, viewer, alarm_id)
    alarms.acknowledge(db, found, by=viewer.actor, now=clock.now(), comment=body.comment if body else "")
    return whole(db, viewer, found)


@router.post("/{alarm_id}/comment")
def comment(db: Db, viewer: Actor, alarm_id: int, body: Words) -> AlarmWhole:
    """Add a note, which no rule ever overwrites."""
    found = actable(db, viewer, alarm_id)
    alarms.add_comment(db, found, body.comment, by=viewer.actor, now=clock.now())
    return whole(db, viewer, found)


@router.post("/{alarm_id}/clear")
def clear(db: Db, viewer: Actor, alarm_id: int, body: Reason) -> AlarmWhole:
    """End an open alarm on a person's word; its rule raises anew at its next match."""
    found = actable(db, viewer, alarm_id)
    alarms.clear_by_hand(db, found, by=viewer.actor, reason=body.reason, now=clock.now())
    return whole(db, viewer, found)


def actable(db: Session, viewer: Viewer, alarm_id: int) -> Alarm:
    """Return an alarm the viewer may act on.

    Raises:
        NotFound: it lies outside the viewer's sight.
        Forbidden: the viewer may see it and not act on it.
    """
    found = scope.find(db, Alarm, alarm_id, viewer, "alarms.read")
    scope.require(db, viewer, "alarms.act", found.unit_id)
    return found


def _shown(row: Alarm, order: Order | None) -> AlarmOut:
    made = AlarmOut.model_validate(row)
    made.state = attention.marks_of(row).state
    made.order_id = order.id if order else None
    return made


def whole(db: Session, viewer: Viewer, row: Alarm) -> AlarmWhole:
    """Return an alarm as it is shown alone."""
    db.flush()
    order = orders_of(db, viewer, [row]).get(row.id)
    history = [EntryOut.model_validate(entry) for entry in alarm_desk.history_of(db, row)]
    made = AlarmWhole.model_validate(row)
    made.state = attention.marks_of(row).state
    made.order_id, made.history = order.id if order else None, history
    return made
