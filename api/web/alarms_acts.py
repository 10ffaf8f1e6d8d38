"""The verbs on an alarm's page and on the desk: shelve, take out of service, give to somebody, reset, note."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import alarms as v1
from api.v1 import alarms_acts as acts
from api.web import alarms as page
from api.web import forms, pages
from kernel import clock, i18n
from kernel.errors import Conflict, Invalid
from people.scope import Viewer
from rules import alarms, attention
from rules.models import Alarm

router = APIRouter()
Actor = Annotated[Viewer, needs("alarms.act")]
Holder = Annotated[Viewer, needs("alarms.hold")]


class Wanted(BaseModel):
    """What the forms send: texts, empty where nothing was chosen."""

    minutes: str = ""
    reason: str = ""
    ends: str = "until"
    account: str = ""
    comment: str = ""
    ids: list[str] = []
    back: str = "/alarms"

    def shelf(self) -> acts.Shelf:
        """Return the shelf that was asked for: minutes, or *once*."""
        if self.minutes == "once":
            return acts.Shelf(reason=self.reason[:500], once=True)
        return acts.Shelf(reason=self.reason[:500], minutes=forms.whole(self.minutes, "minutes"))

    def out(self) -> acts.TakenOut:
        """Return the time out of service that was asked for."""
        minutes = forms.whole(self.minutes, "minutes")
        at = None if minutes is None else clock.now() + timedelta(minutes=minutes)
        is_review = self.ends == "review"
        return acts.TakenOut(
            reason=self.reason[:500], until=None if is_review else at, review_at=at if is_review else None
        )

    def numbers(self) -> list[int]:
        """Return the ticked alarms."""
        found = [forms.whole(text, "ids") for text in self.ids[: v1.MOST_AT_ONCE]]
        return [number for number in found if number is not None]


Sent = Annotated[Wanted, Form()]


@router.post("/alarms/shelve")
def shelve_several(db: Db, viewer: Actor, form: Sent) -> Response:
    """Shelve the alarms that were ticked."""

    def act(one: Alarm) -> None:
        acts.shelve_one(db, viewer, one, form.shelf())

    return _several(db, viewer, form, act, i18n.noop("{n} shelved."))


@router.post("/alarms/assign")
def assign_several(db: Db, viewer: Actor, form: Sent) -> Response:
    """Take the alarms that were ticked upon oneself."""

    def act(one: Alarm) -> None:
        acts.assign_one(db, viewer, one, viewer.account_id)

    return _several(db, viewer, form, act, i18n.noop("{n} are yours."))


@router.post("/alarms/comment")
def comment_several(db: Db, viewer: Actor, form: Sent) -> Response:
    """Write one note on the alarms that were ticked."""

    def act(one: Alarm) -> None:
        alarms.add_comment(db, one, form.reason, by=viewer.actor, now=clock.now())

    return _several(db, viewer, form, act, i18n.noop("{n} noted."))


@router.post("/alarms/{alarm_id}/shelve")
def shelve(request: Request, db: Db, viewer: Actor, alarm_id: int, form: Sent) -> Response:
    """Put one alarm away for a while."""
    found = v1.actable(db, viewer, alarm_id)
    return _one(
        request,
        db,
        viewer,
        found,
        lambda: acts.shelve_one(db, viewer, found, form.shelf()),
        i18n.noop("It is shelved."),
    )


@router.post("/alarms/{alarm_id}/unshelve")
def unshelve(request: Request, db: Db, viewer: Actor, alarm_id: int) -> Response:
    """Take it off the shelf."""
    found = v1.actable(db, viewer, alarm_id)

    def act() -> None:
        attention.unshelve(db, found, by=viewer.actor, now=clock.now())

    return _one(request, db, viewer, found, act, i18n.noop("It is back on the desk."))


@router.post("/alarms/{alarm_id}/out-of-service")
def take_out(request: Request, db: Db, viewer: Holder, alarm_id: int, form: Sent) -> Response:
    """Take one alarm out of service."""
    found = acts.holdable(db, viewer, alarm_id)
    return _one(
        request, db, viewer, found, lambda: acts.take_out_one(db, viewer, found, form.out()),
        i18n.noop("It is out of service."),
    )  # fmt: skip


@router.post("/alarms/{alarm_id}/put-back")
def put_back(request: Request, db: Db, viewer: Holder, alarm_id: int) -> Response:
    """Put it back into service."""
    found = acts.holdable(db, viewer, alarm_id)

    def act() -> None:
        attention.put_back(db, found, by=viewer.actor, now=clock.now())

    return _one(request, db, viewer, found, act, i18n.noop("It is back on the desk."))


@router.post("/alarms/{alarm_id}/reset")
def reset(request: Request, db: Db, viewer: Actor, alarm_id: int) -> Response:
    """Reset it, now that it has cleared."""
    found = v1.actable(db, viewer, alarm_id)

    def act() -> None:
        attention.reset(db, found, by=viewer.actor, now=clock.now())

    return _one(request, db, viewer, found, act, i18n.noop("It is reset."))


@router.post("/alarms/{alarm_id}/assign")
def assign(request: Request, db: Db, viewer: Actor, alarm_id: int, form: Sent) -> Response:
    """Give it to somebody, or to nobody."""
    found = v1.actable(db, viewer, alarm_id)
    account_id = forms.whole(form.account, "account")
    return _one(request, db, viewer, found, lambda: acts.assign_one(db, viewer, found, account_id), i18n.noop("Kept."))


def _one(request: Request, db: Session, viewer: Viewer, found: Alarm, act: Callable[[], None], notice: str) -> Response:
    alarm_id = found.id
    try:
        act()
    except (Invalid, Conflict) as error:
        return page.again(request, db, viewer, alarm_id, error)
    return pages.go(f"/alarms/{alarm_id}", notice=notice)


def _several(db: Session, viewer: Viewer, form: Wanted, act: Callable[[Alarm], None], notice: str) -> Response:
    back = form.back if form.back.startswith("/alarms") else "/alarms"
    try:
        done = acts.each(db, viewer, "alarms.act", form.numbers(), act)
    except Invalid as error:
        db.rollback()
        return pages.go(back, notice=error.sentence, kind="bad", **error.values)
    return pages.go(back, notice=notice, n=done)
