"""What an alarm set off and what became of each: for whoever looks at the alarm and asks who was told.

A run stands on its own row; whether it waits, is tried again or was given up stands on the delivery of its event.
Targets are told in short: an address outside may carry a secret in its path, so only its host is named.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import BigInteger, and_, cast, select
from sqlalchemy.orm import Session

from kernel import errors
from kernel.db import Json
from kernel.models import Delivery, Event
from people import scope
from people.scope import Viewer
from rules.action_tables import AlarmActionRun
from rules.events import AlarmActionDue, AlarmWebhookDue
from rules.models import Alarm

DUE: Final = (AlarmActionDue.__name__, AlarmWebhookDue.__name__)
UNEXPECTED: Final = "unexpected"


@dataclass(frozen=True, slots=True)
class Run:
    """One action that an alarm set off.

    ``state``: *waiting* for its first try, *retried* by itself after a failure, *failed* until a person tries it
    again, or *done*. ``error`` is the sentence of the last try that failed, ``UNEXPECTED`` where it was none meant
    for people. ``next_at`` is when it is tried next; ``delivery_id`` what a retry is asked of.
    """

    id: int
    kind: str
    occasion: str
    settings: Json
    at: datetime
    done_at: datetime | None
    state: str
    attempts: int
    next_at: datetime | None
    error: str | None
    delivery_id: int | None
    may_retry: bool


def of_alarm(session: Session, viewer: Viewer, alarm: Alarm, *, after: int | None = None, limit: int) -> Sequence[Run]:
    """Return what an alarm set off, in the order in which it did; ``after`` is the last id seen."""
    run_id = cast(Event.payload["run_id"].astext, BigInteger)
    of_run = and_(Event.subject == f"alarm:{alarm.id}", Event.kind.in_(DUE), run_id == AlarmActionRun.id)
    rows = (
        select(AlarmActionRun, Delivery)
        .outerjoin(Event, of_run)
        .outerjoin(Delivery, Delivery.event_id == Event.id)
        .where(AlarmActionRun.alarm_id == alarm.id)
        .order_by(AlarmActionRun.id)
        .limit(limit)
    )
    if after is not None:
        rows = rows.where(AlarmActionRun.id > after)
    may_retry = scope.reaches(session, viewer, "deliveries.act", alarm.unit_id)
    return [_told(run, delivery, may_retry=may_retry) for run, delivery in session.execute(rows)]


def target(run: Run) -> str:
    """Return in short what a run is aimed at: a role's key, a host, a method, an attribute with its value."""
    said = run.settings
    if run.kind == "message":
        return str(said.get("role") or "")
    if run.kind == "webhook":
        return urlsplit(said["url"]).hostname or ""
    if run.kind == "command":
        return str(said["method"])
    return f"{said['name']} = {json.dumps(said['value'], ensure_ascii=False)}"


def reason(kept: str | None) -> str | None:
    """Return the sentence for people in what a delivery keeps of its failure, e.g. ``kernel.errors.Unavailable: …``."""
    if not kept:
        return None
    kind, _, sentence = kept.partition(": ")
    is_ours = kind.rpartition(".")[0] == errors.__name__
    return sentence if is_ours and sentence else UNEXPECTED


def _told(run: AlarmActionRun, delivery: Delivery | None, *, may_retry: bool) -> Run:
    state = "done" if run.done_at is not None else _standing(delivery)
    is_open = delivery is not None and state != "done"
    return Run(
        id=run.id,
        kind=run.kind,
        occasion=run.occasion,
        settings=run.settings,
        at=run.at,
        done_at=run.done_at,
        state=state,
        attempts=delivery.attempts if delivery is not None else 0,
        next_at=delivery.next_at if delivery is not None and state == "retried" else None,
        error=reason(delivery.last_error) if delivery is not None and is_open else None,
        delivery_id=delivery.id if delivery is not None and is_open else None,
        may_retry=may_retry and state == "failed",
    )


def _standing(delivery: Delivery | None) -> str:
    if delivery is not None and delivery.state == "stuck":
        return "failed"
    return "retried" if delivery is not None and delivery.last_error else "waiting"
