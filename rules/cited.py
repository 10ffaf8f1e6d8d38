"""Which readings an alarm rests upon: kept exact whatever their age, so that its curve can be drawn years later.

An alarm cites its metric, and every other metric among the samples frozen with it, on the devices that spoke for
its asset: from an hour before it began to an hour after it ended, of a long one the first day. A work order cites
what the alarm it was opened for cites.
"""

from datetime import timedelta
from typing import Final

import numpy as np
from sqlalchemy import cast, func, select
from sqlalchemy.dialects.postgresql import JSONPATH
from sqlalchemy.orm import Session

from assets.models import Binding
from rules.models import Alarm
from telemetry.models import Series
from telemetry.retention import Cited

AROUND: Final = timedelta(hours=1)
LONGEST: Final = timedelta(days=1)
_SAMPLED: Final = cast("$.samples[*] ? (@.metric == $metric)", JSONPATH)


def spans(session: Session) -> Cited:
    """Return what all alarms cite; one statement."""
    begins = Alarm.began_at - AROUND
    ends = func.least(func.coalesce(Alarm.ended_at, func.now()), Alarm.began_at + LONGEST) + AROUND
    sampled = func.jsonb_path_exists(Alarm.evidence, _SAMPLED, func.jsonb_build_object("metric", Series.metric))
    # In PostgreSQL the least of a time and NULL is the time.
    rows = session.execute(
        select(
            Series.id,
            func.extract("epoch", func.greatest(begins, Binding.starts_at)),
            func.extract("epoch", func.least(ends, Binding.ends_at)),
        )
        .select_from(Alarm)
        .join(Binding, (Binding.asset_id == Alarm.asset_id) & (Binding.starts_at < ends))
        .join(Series, Series.device_id == Binding.device_id)
        .where(
            Binding.ends_at.is_(None) | (Binding.ends_at > begins),
            (Series.metric == Alarm.metric) | sampled,
        )
    ).all()
    if not rows:
        return Cited()
    return Cited(
        np.array([row[0] for row in rows], np.int64),
        np.array([int(row[1] * 1000) for row in rows], np.int64),
        np.array([int(row[2] * 1000) + 1 for row in rows], np.int64),
    )
