"""What an alarm set off, in the words of its page: to whom, what became of it, why it failed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.web import forms
from assets.models import Device
from kernel.i18n import noop
from people import scope
from people.models import Account, Role
from people.scope import Viewer
from rules import action_runs, actions
from rules.action_runs import Run
from rules.models import Alarm

MOST: Final = 100
"""More than an alarm type can have actions, on both occasions."""
STATES: Final = {
    "waiting": (noop("Waiting"), "waiting"),
    "retried": (noop("Is tried again"), "waiting"),
    "failed": (noop("Failed"), "bad"),
    "done": (noop("Done"), "good"),
}
WITHIN: Final = noop("It failed within Fixwright. The list of deliveries says how.")
FAILURES: Final = (
    noop("{host} does not answer: {reason}"),
    noop("{host} answered {status}."),
    noop("{host} lies in a network that is not public. FIXWRIGHT_OUTGOING_ALLOW may allow it."),
    noop("This device is revoked. Register a new one in its place."),
    noop("{most} commands wait for this device already. Cancel some first."),
)
"""What a delivery keeps is a finished English sentence; these are known again, to be said in the reader's language."""


@dataclass(frozen=True, slots=True)
class Line:
    """One action as the page shows it."""

    run: Run
    kind: str
    occasion: str
    target: str
    state: str
    tone: str
    error: str | None
    """A sentence to be translated and filled in with ``values``."""
    values: dict[str, str]


def of(db: Session, viewer: Viewer, found: Alarm, language: str) -> list[Line]:
    """Return what an alarm set off."""
    runs = action_runs.of_alarm(db, viewer, found, limit=MOST)
    if not runs:
        return []
    names = _named(db, viewer, runs, language)
    return [
        Line(
            run,
            actions.KINDS[run.kind],
            actions.OCCASIONS[run.occasion],
            _aimed_at(run, names[run.id]),
            *STATES[run.state],
            *said(run.error),
        )
        for run in runs
    ]


def said(error: str | None) -> tuple[str | None, dict[str, str]]:
    """Return the sentence of why a try failed and what fills it in; one that is not known stays as it was kept."""
    if error == action_runs.UNEXPECTED:
        return WITHIN, {}
    for sentence in FAILURES if error else ():
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(sentence))
        found = re.fullmatch(pattern, error or "")
        if found:
            return sentence, found.groupdict()
    return error, {}


def _aimed_at(run: Run, name: str) -> str:
    if run.kind == "message":
        return name or "–"
    return " → ".join(part for part in (action_runs.target(run), name) if part)


def _named(db: Session, viewer: Viewer, runs: Sequence[Run], language: str) -> dict[int, str]:
    """Return run → the role, person or device it names, as far as the viewer may see the device."""
    people = [run.settings["account_id"] for run in runs if run.settings.get("account_id")]
    devices = [run.settings["device_id"] for run in runs if run.settings.get("device_id")]
    roles = db.scalars(select(Role).where(Role.company_id.is_(None) | (Role.company_id == viewer.company_id)))
    of_role = dict(forms.translated([(role.key, role.name) for role in roles], language))
    known = select(Account.id, Account.name).where(Account.id.in_(people), Account.company_id == viewer.company_id)
    of_person = {row.id: row.name for row in db.execute(known)}
    seen = select(Device.id, Device.key).where(Device.id.in_(devices), scope.visible(Device, viewer, "assets.read"))
    of_device = {row.id: row.key for row in db.execute(seen)}
    return {
        run.id: of_role.get(run.settings.get("role") or "", "")
        or of_person.get(run.settings.get("account_id") or 0, "")
        or of_device.get(run.settings.get("device_id") or 0, "")
        for run in runs
    }
