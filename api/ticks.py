"""What time does: each tick only looks at rows that are due, so missing or doubling one changes nothing."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from api import idempotency
from api.worker import Tick
from assets import applications
from ingest import ledger, status
from kernel import audit, limits
from maintenance.dispatch import assign, pool
from maintenance.orders import desk, recovery, waiting
from maintenance.plans import schedule
from people import notices, sign_in
from rules import alarm_weeks, timers

KEPT = timedelta(hours=24)


def _sweep(session: Session, now: datetime) -> None:
    """Forget what has run out: rate windows, kept answers, ended sign-ins, who asked in vain, connections of old."""
    limits.sweep(session, before=now - KEPT)
    idempotency.sweep(session, now)
    sign_in.sweep(session, now)
    applications.sweep(session, now)
    status.sweep(session, now)
    notices.sweep(session, now)


def _witness(session: Session, _now: datetime) -> None:
    """Write down how far the audit trail has come."""
    audit.witness(session)


TABLE: Final = (
    Tick("plans", 20, schedule.run_due),
    Tick("delays", 2, waiting.run_due),
    Tick("recovery", 10, recovery.run_due),
    Tick("pool", 5, pool.end_offers),
    Tick("dispatch", 60, assign.retry, in_a_row=25),
    Tick("alarm holds", 2, timers.run_holds),
    Tick("held alarms", 10, timers.run_held),
    Tick("alarm floods", 5, timers.run_floods),
    Tick("followed alarms", 2, timers.run_followed),
    Tick("alarm weeks", 60, alarm_weeks.set_aside, in_a_row=60),
    Tick("close", 600, desk.close_settled),
    Tick("sweep", 3600, _sweep),
    Tick("ledger", 3600, ledger.sweep),
    Tick("witness", 60, _witness),
)
