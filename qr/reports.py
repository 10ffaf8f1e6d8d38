"""Reports from a scan: limits that hold whatever else happens, and the way into the orders (IN-3, QRC-3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel import limits
from kernel.errors import Invalid
from kernel.models import File
from maintenance.orders import requests
from maintenance.orders.models import Order, Request
from maintenance.orders.requests import Made, Report
from qr.models import Tag
from rules.models import SEVERITIES, Alarm

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
REPORTS_A_MINUTE = 20
"""From one address."""
REPORTS_AN_HOUR = 60
"""On one label: a machine has not more to tell, and a copied label must not flood the desk."""
SCANS_A_MINUTE = 120
"""From one address, known labels and unknown ones alike."""
GUESSES_A_MINUTE = 30
"""Tracking links that open nothing, from one address. Links that open are not counted: their pages ask again by
themselves, and many who follow a repair sit behind one address."""
MOST_PHOTOS = 6


@dataclass(frozen=True, slots=True)
class Known:
    """What anybody may know of the trouble an asset has: that there is some, how bad, and how far the repair is."""

    severity: str | None
    since: datetime | None
    phase: str | None


def may_scan(session: Session, address: str, now: datetime) -> None:
    """Count a scan from an address.

    Raises:
        TooMany: too many in this minute.
    """
    limits.spend(session, f"scan/{address}", limit=SCANS_A_MINUTE, window=MINUTE, now=now)


def may_report(session: Session, tag: Tag, address: str, now: datetime) -> None:
    """Count a report from an address on a label. The caller commits this also when the report is refused later.

    Raises:
        TooMany: too many from this address in this minute, or on this label in this hour.
    """
    limits.spend(session, f"report/{address}", limit=REPORTS_A_MINUTE, window=MINUTE, now=now)
    limits.spend(session, f"report/tag/{tag.id}", limit=REPORTS_AN_HOUR, window=HOUR, now=now)


def may_write(session: Session, request: Request, address: str, now: datetime) -> None:
    """Count something said on a tracking page, with what the address reports. The caller commits it at once.

    Raises:
        TooMany: too many from this address in this minute, or on this report in this hour.
    """
    limits.spend(session, f"report/{address}", limit=REPORTS_A_MINUTE, window=MINUTE, now=now)
    limits.spend(session, f"report/request/{request.id}", limit=REPORTS_AN_HOUR, window=HOUR, now=now)


def may_guess(session: Session, address: str, now: datetime) -> None:
    """Make sure that an address has not opened too many tracking links that do not exist.

    Raises:
        TooMany: it has, in this minute.
    """
    limits.require_room(session, f"guess/{address}", limit=GUESSES_A_MINUTE, window=MINUTE, now=now)


def guessed(session: Session, address: str, now: datetime) -> None:
    """Count a tracking link that does not exist. The caller commits it at once."""
    limits.count(session, f"guess/{address}", window=MINUTE, now=now)


def known_trouble(session: Session, tag: Tag) -> Known | None:
    """Return what is known to be wrong with a tag's asset, or None."""
    alarms = session.execute(
        select(Alarm.severity, Alarm.raised_at).where(Alarm.asset_id == tag.asset_id, Alarm.is_active)
    ).all()
    order = known_order(session, tag)
    if not alarms and order is None:
        return None
    worst = min((severity for severity, _ in alarms), key=SEVERITIES.index, default=None)
    began = [raised_at for _, raised_at in alarms] + ([order.created_at] if order else [])
    return Known(worst, min(began), order.phase if order else None)


def known_order(session: Session, tag: Tag) -> Order | None:
    """Return the open order that a new report of this asset most likely belongs to."""
    return requests.suggest(session, tag.asset) if tag.asset else None


def report(session: Session, tag: Tag, said: Report, *, photos: Sequence[File], is_known: bool, now: datetime) -> Made:
    """Take a stranger's report; ``is_known`` says that they recognised the open fault as theirs.

    Raises:
        Invalid: nothing is said, or there are too many photos.
    """
    if len(photos) > MOST_PHOTOS:
        raise Invalid("Please add at most {most} photos.", field="photos", most=MOST_PHOTOS)
    if tag.asset is None:
        raise Invalid("This label is not bound to anything.")
    known = known_order(session, tag) if is_known else None
    return requests.make(session, tag.asset, said, origin="scan", actor="customer", now=now, photos=photos, known=known)
