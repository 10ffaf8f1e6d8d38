"""Devices that a mapping found in somebody else's messages and nobody knows: listed for a person to let in (ING-7).

Only where the mapping was told to. Their messages are set aside meanwhile and can be replayed once they are known.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import applications
from assets.models import Device
from ingest.decoded import Source
from kernel import log
from kernel.errors import FixwrightError
from people.models import OrgUnit

AGAIN_MS: Final = 60_000
"""A device that waits is not proposed again sooner than this."""
_REMEMBERED: Final = 100_000

_log = log.of(__name__)


class Newcomers:
    """Proposes devices, each seldom: ``due`` before the transaction of a batch, ``proposed`` after its commit."""

    def __init__(self) -> None:
        self._last_ms: dict[Source, int] = {}

    def due(self, found: Mapping[Source, str], now_ms: int) -> dict[Source, str]:
        """Return those that were not proposed lately; the texts are the topics they were found in."""
        return {one: topic for one, topic in found.items() if now_ms - self._last_ms.get(one, 0) >= AGAIN_MS}

    def proposed(self, found: Mapping[Source, str], now_ms: int) -> None:
        """Take note of those that were proposed."""
        if len(self._last_ms) >= _REMEMBERED:
            self._last_ms.clear()
        self._last_ms |= dict.fromkeys(found, now_ms)


def propose(session: Session, found: Mapping[Source, str], *, now: datetime) -> None:
    """List devices for approval, with the topic they were found in."""
    for source, topic in sorted(found.items(), key=lambda pair: (pair[0].unit_id, pair[0].device)):
        unit = session.get(OrgUnit, source.unit_id)
        if unit is None:
            continue
        try:
            applications.apply(
                session,
                key=source.device,
                origin="mapping",
                unit=unit,
                gateway=_bridge(session, source.bridge),
                said={"topic": topic},
                now=now,
            )
        except FixwrightError as error:
            # Too many wait, or another company has the key: the message stays set aside with its own reason.
            _log.info("a device found by a mapping was not listed", device=source.device, reason=str(error))


def _bridge(session: Session, key: str) -> Device | None:
    if not key:
        return None
    return session.scalars(select(Device).where(Device.key == key, Device.gateway_id.is_(None))).one_or_none()
