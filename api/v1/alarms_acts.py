"""What people do about alarms over JSON: shelve, take out of service, give to somebody, reset; one or several."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.instants import Instant
from api.v1 import alarms as v1
from kernel import clock
from kernel.errors import Conflict, Invalid
from people import scope
from people.models import Account
from people.scope import Viewer
from rules import alarms, attention, holds
from rules.models import Alarm

router = APIRouter(prefix="/alarms", tags=["alarms"])
Actor = Annotated[Viewer, needs("alarms.act")]
Holder = Annotated[Viewer, needs("alarms.hold")]
OPERATOR_SHELF: Final = timedelta(days=30)


class Shelf(BaseModel):
    """How long and why: until an instant, for so many minutes, or once: until it clears."""

    reason: str = Field(max_length=500)
    until: Instant | None = None
    minutes: int | None = Field(None, ge=1, le=100_000)
    once: bool = False

    def ends(self, now: datetime) -> datetime | None:
        """Return the instant that was asked for."""
        return now + timedelta(minutes=self.minutes) if self.minutes is not None else self.until


class TakenOut(BaseModel):
    """Why, and until when or when somebody is to look again."""

    reason: str = Field(max_length=500)
    until: Instant | None = None
    review_at: Instant | None = None


class Assignee(BaseModel):
    """Whose the alarm is from now on; null: nobody's."""

    account_id: int | None


class Ids(BaseModel):
    """Alarms to act on together; those outside the viewer's sight count as not existing."""

    ids: list[int] = Field(min_length=1, max_length=v1.MOST_AT_ONCE)


class SeveralShelf(Shelf, Ids):
    """Alarms to shelve together."""


class SeveralOut(TakenOut, Ids):
    """Alarms to take out of service together."""


class SeveralAssigned(Assignee, Ids):
    """Alarms to give to one person."""


class SeveralWords(Ids):
    """A note on several alarms."""

    comment: str = Field(max_length=2000)


class Done(BaseModel):
    """How many were changed; the others stood otherwise already."""

    done: int


@router.post("/shelve")
def shelve_several(db: Db, viewer: Actor, body: SeveralShelf) -> Done:
    """Shelve several alarms."""
    return Done(done=each(db, viewer, "alarms.act", body.ids, lambda one: shelve_one(db, viewer, one, body)))


@router.post("/out-of-service")
def take_out_several(db: Db, viewer: Holder, body: SeveralOut) -> Done:
    """Take several alarms out of service."""
    return Done(done=each(db, viewer, "alarms.hold", body.ids, lambda one: take_out_one(db, viewer, one, body)))


@router.post("/assign")
def assign_several(db: Db, viewer: Actor, body: SeveralAssigned) -> Done:
    """Give several alarms to one person."""
    return Done(done=each(db, viewer, "alarms.act", body.ids, lambda one: assign_one(db, viewer, one, body.account_id)))


@router.post("/comment")
def comment_several(db: Db, viewer: Actor, body: SeveralWords) -> Done:
    """Add one note to several alarms."""

    def note(one: Alarm) -> None:
        alarms.add_comment(db, one, body.comment, by=viewer.actor, now=clock.now())

    return Done(done=each(db, viewer, "alarms.act", body.ids, note))


@router.post("/{alarm_id}/shelve")
def shelve(db: Db, viewer: Actor, alarm_id: int, body: Shelf) -> v1.AlarmWhole:
    """Keep an alarm quiet for a while; how long one may, depends on one's role."""
    found = v1.actable(db, viewer, alarm_id)
    shelve_one(db, viewer, found, body)
    return v1.whole(db, viewer, found)


@router.post("/{alarm_id}/unshelve")
def unshelve(db: Db, viewer: Actor, alarm_id: int) -> v1.AlarmWhole:
    """Take an alarm off the shelf; it is announced if it still stands."""
    found = v1.actable(db, viewer, alarm_id)
    attention.unshelve(db, found, by=viewer.actor, now=clock.now())
    return v1.whole(db, viewer, found)


@router.post("/{alarm_id}/out-of-service")
def take_out(db: Db, viewer: Holder, alarm_id: int, body: TakenOut) -> v1.AlarmWhole:
    """Take an alarm out of service."""
    found = holdable(db, viewer, alarm_id)
    take_out_one(db, viewer, found, body)
    return v1.whole(db, viewer, found)


@router.post("/{alarm_id}/put-back")
def put_back(db: Db, viewer: Holder, alarm_id: int) -> v1.AlarmWhole:
    """Put an alarm back into service; it is announced if it still stands."""
    found = holdable(db, viewer, alarm_id)
    attention.put_back(db, found, by=viewer.actor, now=clock.now())
    return v1.whole(db, viewer, found)


@router.post("/{alarm_id}/reset")
def reset(db: Db, viewer: Actor, alarm_id: int) -> v1.AlarmWhole:
    """Reset a latched alarm that has cleared."""
    found = v1.actable(db, viewer, alarm_id)
    attention.reset(db, found, by=viewer.actor, now=clock.now())
    return v1.whole(db, viewer, found)


@router.post("/{alarm_id}/assign")
def assign(db: Db, viewer: Actor, alarm_id: int, body: Assignee) -> v1.AlarmWhole:
    """Give an alarm to somebody who may act on it, or to nobody."""
    found = v1.actable(db, viewer, alarm_id)
    assign_one(db, viewer, found, body.account_id)
    return v1.whole(db, viewer, found)


# What the pages do as well --------------------------------------------------------------------------------------


def holdable(db: Session, viewer: Viewer, alarm_id: int) -> Alarm:
    """Return an alarm that the viewer may take out of service.

    Raises:
        NotFound: it lies outside the viewer's sight.
        Forbidden: the viewer may see it and not hold it.
    """
    found = scope.find(db, Alarm, alarm_id, viewer, "alarms.read")
    scope.require(db, viewer, "alarms.hold", found.unit_id)
    return found


def each(db: Session, viewer: Viewer, right: str, ids: Sequence[int], act: Callable[[Alarm], None]) -> int:
    """Do the same to those of the alarms that the viewer may; return how many it fitted."""
    rows = db.scalars(
        select(Alarm).where(Alarm.id.in_(ids), scope.visible(Alarm, viewer, right)).order_by(Alarm.id)
    ).all()
    done = 0
    for row in rows:
        try:
            with db.begin_nested():
                act(row)
        except Conflict:
            # One of many that stands otherwise by now: the others are acted on.
            continue
        done += 1
    return done


def shelve_one(db: Session, viewer: Viewer, found: Alarm, shelf: Shelf) -> None:
    """Shelve one alarm as far as the viewer's role allows."""
    now = clock.now()
    longest = holds.longest_shelf(db, viewer.account_id, found.unit_id) if viewer.account_id else OPERATOR_SHELF
    attention.shelve(
        db, found, until=shelf.ends(now), is_once=shelf.once, reason=shelf.reason, longest=longest, by=viewer.actor,
        now=now,
    )  # fmt: skip


def take_out_one(db: Session, viewer: Viewer, found: Alarm, wanted: TakenOut) -> None:
    """Take one alarm out of service."""
    attention.take_out(
        db, found, until=wanted.until, review_at=wanted.review_at, reason=wanted.reason, by=viewer.actor,
        now=clock.now(),
    )  # fmt: skip


def assign_one(db: Session, viewer: Viewer, found: Alarm, account_id: int | None) -> None:
    """Give one alarm to a person."""
    account = None if account_id is None else db.get(Account, account_id)
    if account_id is not None and (account is None or account.company_id != viewer.company_id):
        raise Invalid("They may not act on this alarm.", field="account")
    attention.assign(db, found, account, by=viewer.actor, now=clock.now())
