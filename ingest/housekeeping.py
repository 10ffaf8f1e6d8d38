"""What the telemetry store may forget now, put together from settings, types, holds and alarms.

For the process that owns the store. Nothing is forgotten unless everything that forbids it could be read.
"""

import asyncio
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session, sessionmaker

from assets import keeping
from ingest.patience import TRANSIENT
from kernel import clock, db, log
from kernel.errors import Unavailable
from kernel.settings import Settings
from rules import cited
from telemetry.retention import Lifetimes, Policy
from telemetry.store import TelemetryStore

COMPACT_EVERY_S: Final = 2.0
EXPIRE_EVERY_S: Final = 6 * 3600.0

_log = log.of(__name__)


def lifetimes(settings: Settings) -> Lifetimes:
    """Return how long readings are kept that no type says anything about."""
    raw = settings.retention_days
    minute = settings.retention_minute_days and max(settings.retention_minute_days, raw)
    return Lifetimes(raw, minute, max(settings.retention_hour_days, minute, raw))


def forget(sessions: sessionmaker[Session], store: TelemetryStore, settings: Settings, *, now: datetime) -> None:
    """Let the store forget what nobody needs any more.

    Raises:
        kernel.errors.Unavailable: the store failed; what was begun goes on the next time.
    """
    default, now_ms = lifetimes(settings), clock.to_ms(now)
    with db.transaction(sessions) as session:
        own = keeping.own_horizons(session, default, now_ms)
        policy = Policy(default.horizon(now_ms), own, cited.spans(session))
    store.keep(policy)


def refusals(sessions: sessionmaker[Session], store: TelemetryStore) -> list[str]:
    """Return what is asked for and this store cannot do, by name: said at start."""
    if store.has_tiers:
        return []
    with db.transaction(sessions) as session:
        asked = keeping.asked_for(session)
    return [f"{name}: this telemetry server keeps all readings alike" for name in asked]


async def for_ever(sessions: sessionmaker[Session], store: TelemetryStore, settings: Settings) -> None:
    """Let the store sort and forget, beside writes: in a thread that the path does not wait for."""
    loop = asyncio.get_running_loop()
    expire_at = loop.time()
    for refusal in await asyncio.to_thread(refusals, sessions, store):
        _log.warning("the telemetry store cannot do this", what=refusal)
    while True:
        try:
            while await asyncio.to_thread(store.compact):
                pass
            if store.can_expire and loop.time() >= expire_at:
                await asyncio.to_thread(lambda: forget(sessions, store, settings, now=clock.now()))
                expire_at = loop.time() + EXPIRE_EVERY_S
        except (Unavailable, *TRANSIENT) as error:
            _log.warning("the telemetry store could not tidy up", reason=str(error))
        await asyncio.sleep(COMPACT_EVERY_S)
