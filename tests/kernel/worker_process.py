"""A worker as a process of its own, to be killed: ``python -m tests.kernel.worker_process DATABASE_URL``.

Each ``Happened`` is counted in a row of its own, slowly, so that a kill finds a delivery under way.
"""

import sys
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from kernel import audit, clock, courier, db, events, numbering
from tests.conftest import SECRET


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that is to have its effect once."""

    number: int


def count(session: Session, event: Happened, now: datetime) -> None:
    """Count the event, and write that down."""
    numbering.draw(session, f"effect of {event.number}")
    audit.record(session, "effect.count", subject=f"effect:{event.number}", actor="system", at=now)
    session.execute(text("SELECT pg_sleep(0.01)"))


SUBSCRIPTIONS: events.Subscriptions = {Happened: [count]}


def work(sessions: sessionmaker[Session]) -> bool:
    """Deliver until nothing is due; return whether anything was."""
    with db.transaction(sessions) as session:
        worked = bool(events.fan_out(session, SUBSCRIPTIONS, clock.now()))
    while courier.deliver_many(sessions, SUBSCRIPTIONS, clock.now()):
        worked = True
    return worked


if __name__ == "__main__":
    factory = db.sessions(db.connect(sys.argv[1], pool=2), secret=SECRET)
    while work(factory):
        pass
