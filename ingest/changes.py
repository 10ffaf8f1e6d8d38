"""What people changed that ingest must know of within two seconds: read from the outbox, a little overlapping.

Event numbers are given before the commit, so a lower one may appear after a higher. Each look therefore goes back
two minutes and leaves out what it has seen; a transaction longer than that is not expected of a form or an import.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kernel.models import Event

OVERLAP_S: Final = 120.0
_DEVICE: Final = frozenset(
    {"DeviceRegistered", "DeviceRevoked", "DeviceBound", "DeviceUnbound", "DeviceCredentialsChanged"}
)
_CUTS: Final = frozenset({"DeviceRevoked", "DeviceCredentialsChanged"})
_TOLD_OF: Final = (
    "AssetChanged",
    "TypeChanged",
    "RuleSaved",
    "MappingChanged",
    "AttributeChanged",
    "IntakeLimitChanged",
)
_KINDS: Final = (*sorted(_DEVICE), *_TOLD_OF)
_TOLD: Final = Event.kind.in_(_KINDS) | ((Event.kind == "AlarmCleared") & Event.actor.startswith("account:"))
"""In a flood rules end thousands of alarms; only those that people end are news to them."""


@dataclass(slots=True)
class Changed:
    """What to read again. ``cut`` are device keys whose live connections end; ``cleared`` are alarms ended by hand."""

    devices: set[int] = field(default_factory=set)
    assets: set[int] = field(default_factory=set)
    alarm_types: set[int] = field(default_factory=set)
    cleared: set[int] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    attributes: set[tuple[str, int]] = field(default_factory=set)
    types: bool = False
    mappings: bool = False
    limits: bool = False

    def __bool__(self) -> bool:
        found = self.devices or self.assets or self.alarm_types or self.cleared or self.cut or self.attributes
        return bool(found or self.types or self.mappings or self.limits)

    def note(self, kind: str, payload: dict[str, Any]) -> None:
        """Take note of one event."""
        if kind in _DEVICE:
            self.devices.add(payload["device_id"])
            if "asset_id" in payload:
                self.assets.add(payload["asset_id"])
            if kind in _CUTS and payload.get("cuts", True):
                self.cut.add(payload["key"])
        elif kind == "AssetChanged":
            self.assets.add(payload["asset_id"])
        elif kind == "RuleSaved":
            self.alarm_types.add(payload["alarm_type_id"])
        elif kind == "AttributeChanged":
            self.attributes.add((payload["level"], payload["subject_id"]))
        elif kind == "TypeChanged":
            self.types = True
        elif kind == "MappingChanged":
            self.mappings = True
        elif kind == "IntakeLimitChanged":
            self.limits = True
        else:
            self.cleared.add(payload["alarm_id"])


class Ear:
    """Follows the event table from where it stood at ``start``."""

    def __init__(self) -> None:
        self._floor = 0
        self._seen: set[int] = set()
        self._looks: deque[tuple[float, int]] = deque()

    def start(self, session: Session, clock_s: float) -> None:
        """Begin after the newest event; call it before reading what the events are about."""
        newest = session.scalar(select(func.coalesce(func.max(Event.id), 0))) or 0
        # What is under way now may still get a lower number than this; going back covers it.
        self._floor = max(0, newest - 10_000)
        self._seen = set(self._ids(session))
        self._looks = deque([(clock_s, newest)])

    def look(self, session: Session, clock_s: float) -> tuple[Changed, list[int]]:
        """Return what changed since the last look, with its event numbers for ``heard``; ``clock_s`` is monotonic."""
        query = select(Event.id, Event.kind, Event.payload).where(Event.id > self._floor, _TOLD).order_by(Event.id)
        changed = Changed()
        news = []
        for number, kind, payload in session.execute(query):
            if number not in self._seen:
                changed.note(kind, payload)
                news.append(number)
        newest = session.scalar(select(func.coalesce(func.max(Event.id), 0))) or 0
        self._looks.append((clock_s, newest))
        return changed, news

    def heard(self, news: Iterable[int], clock_s: float) -> None:
        """Take note that changes were acted upon; until then every look returns them again."""
        self._seen.update(news)
        while len(self._looks) > 1 and self._looks[0][0] < clock_s - OVERLAP_S:
            self._floor = max(self._floor, self._looks.popleft()[1])
        self._seen = {number for number in self._seen if number > self._floor}

    def _ids(self, session: Session) -> Iterable[int]:
        return session.scalars(select(Event.id).where(Event.id > self._floor, _TOLD))
