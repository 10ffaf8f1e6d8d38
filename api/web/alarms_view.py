"""What an alarm's page says of its state: who has it, what holds it, what one may do about it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.web import forms
from kernel.i18n import noop
from people.scope import Viewer
from rules import attention, holds, states
from rules.hold_tables import AlarmHold
from rules.models import Alarm

SPANS: Final = (
    ("30", noop("30 minutes")),
    ("60", noop("1 hour")),
    ("240", noop("4 hours")),
    ("480", noop("8 hours")),
    ("1440", noop("1 day")),
    ("10080", noop("7 days")),
)
"""For how long an alarm can be put away, in minutes."""


@dataclass(frozen=True, slots=True)
class Attention:
    """Where one alarm stands, as its page shows it."""

    state: str
    verbs: frozenset[str]
    holds: list[AlarmHold]
    people: list[tuple[int, str]]
    parent: Alarm | None
    children: int
    may_hold: bool
    is_out: bool
    """Whether this alarm alone is out of service, and not its asset."""
    spans: list[tuple[str, str]]


def of(db: Session, viewer: Viewer, found: Alarm, language: str) -> Attention:
    """Return where an alarm stands and what the viewer may do."""
    marks = attention.marks_of(found)
    may_act = viewer.may("alarms.act")
    held = holds.of_alarm(db, found) if marks.is_held else []
    longest = holds.longest_shelf(db, viewer.account_id, found.unit_id)
    return Attention(
        state=marks.state,
        verbs=states.verbs(marks),
        holds=held,
        people=[(one.id, one.name) for one in attention.may_act(db, found)] if may_act else [],
        parent=db.get(Alarm, found.parent_id) if found.parent_id else None,
        children=db.scalar(select(func.count()).where(Alarm.parent_id == found.id)) or 0,
        may_hold=viewer.may("alarms.hold"),
        is_out=any(one.kind == "out_of_service" and one.subject is not None for one in held),
        spans=forms.translated(
            [(minutes, words) for minutes, words in SPANS if timedelta(minutes=int(minutes)) <= longest], language
        ),
    )
