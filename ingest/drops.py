"""What a broker says it threw away, kept by the hour, across our restarts and its own (ING-3, promise P7).

A broker counts since its start and tells the sum now and then. Only what it grew by is news; a smaller number than the
last one means that the broker began anew, and then all of it is. The first number ever heard is where counting begins.
"""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from ingest.models import BrokerCount, BrokerDrop
from kernel import log


def grown(before: int, said: int) -> int:
    """Return how many messages were dropped between two numbers a broker told."""
    return said - before if said >= before else said


def note(session: Session, broker: str, said: int, *, now: datetime) -> int:
    """Enter what a broker said; return how many messages it dropped since it was last heard.

    Several workers that hear the same broker count each drop once: the row is locked, and the number tells.
    """
    session.execute(
        upsert(BrokerCount).values(broker=broker, dropped=said, heard_at=now).on_conflict_do_nothing(),
    )
    row = session.scalars(select(BrokerCount).where(BrokerCount.broker == broker).with_for_update()).one()
    dropped = grown(row.dropped, said)
    row.dropped, row.heard_at = said, now
    if dropped:
        hour = now.replace(minute=0, second=0, microsecond=0)
        statement = upsert(BrokerDrop).values(hour=hour, broker=broker, dropped=dropped)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=[BrokerDrop.hour, BrokerDrop.broker],
                set_={"dropped": BrokerDrop.dropped + statement.excluded.dropped},
            )
        )
        log.of(__name__).error("the mqtt broker dropped messages", broker=broker, dropped=dropped)
    return dropped
