"""What people and their work keep from being announced: shelves, out of service, windows; begun, ended, by rows.

Each hold is a row with its reason and its end, so that it ends by itself whatever was restarted in between. Whoever
ends one settles the alarms it held (``rules.alarms.settle``).
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import String, cast, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from rules.hold_tables import AlarmHold


def end_once(session: Session, keys: Sequence[tuple[str, str]], *, now: datetime) -> None:
    """End the shelves of these faults that were to end with the alarm."""
    faults = func.unnest(
        cast([subject for subject, _ in keys], ARRAY(String)), cast([type_key for _, type_key in keys], ARRAY(String))
    )
    over = faults.table_valued("subject", "type_key", name="over").render_derived()
    session.execute(
        update(AlarmHold)
        .where(
            AlarmHold.state == "live",
            AlarmHold.is_once,
            AlarmHold.id.in_(
                select(AlarmHold.id).join(
                    over, (AlarmHold.subject == over.c.subject) & (AlarmHold.type_key == over.c.type_key)
                )
            ),
        )
        .values(state="ended", ended_at=now, ended_by="system", next_at=None)
        .execution_options(synchronize_session=False)
    )
