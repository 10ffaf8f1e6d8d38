"""Alarms about the platform itself: its broker is lost, it cannot keep up. For whoever notices, and administrators.

They stand on the same desk as those of machines, at most one open for each *what*, and never open a work order: who
mends the platform is not a technician. They belong to the root of the installation's first company, so those see
them whose right reaches all of it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel.i18n import noop
from people.models import OrgUnit
from rules import alarms
from rules.episodes import Fault, Over, Seen
from rules.models import Alarm

ORIGIN: Final = "platform"
NAMES: Final[Mapping[str, str]] = {
    "broker": noop("The MQTT broker is not connected"),
    "broker_drops": noop("The MQTT broker throws messages away"),
    "backlog": noop("Messages wait too long"),
    "device_quiet": noop("Nothing is heard of the device"),
    "gateway_down": noop("The gateway is gone"),
    "alarm_flood": noop("Many alarms at once"),
}
"""What the product's own alarms are called on pages, by their type."""


def stands(session: Session, what: str) -> bool:
    """Return whether the platform's alarm about ``what`` is raised."""
    found = select(Alarm.id).where(Alarm.subject == _subject(what), Alarm.type_key == what, Alarm.is_active)
    return session.scalar(found.limit(1)) is not None


def report(
    session: Session,
    what: str,
    is_wrong: bool,  # noqa: FBT001 - the report itself
    *,
    severity: str = "major",
    detail: str = "",
    now: datetime,
) -> int | None:
    """Raise the platform's alarm about ``what``, keep it up to date, or end it; return its id, None where none is open.

    Saying the same again changes nothing, so it may be said as often as one likes. ``detail`` is a sentence in
    English; ``what`` is a short word such as ``broker`` and stands in ``NAMES``.
    """
    subject = _subject(what)
    standing = session.execute(
        select(Alarm.id, Alarm.severity, Alarm.message, Alarm.company_id).where(
            Alarm.subject == subject, Alarm.type_key == what, Alarm.is_active
        )
    ).first()
    if standing is None and not is_wrong:
        return None
    if standing is not None and is_wrong and (standing.severity, standing.message) == (severity, detail):
        return int(standing.id)
    home = session.scalar(select(OrgUnit.id).where(OrgUnit.parent_id.is_(None)).order_by(OrgUnit.id).limit(1))
    if home is None:
        return None
    fault = Fault(subject, what, ORIGIN, ORIGIN, home, home, asset_id=None, device_id=None)
    if is_wrong:
        return alarms.raise_(session, Seen(fault, severity, now, now, message=detail), now=now)
    alarms.take(session, [Over(fault, now)], now=now)
    return None


def _subject(what: str) -> str:
    return f"{ORIGIN}:{what}"
