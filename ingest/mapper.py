"""The mappings in force, in the memory of one ingest process: which one reads a message, and what came of it.

For the decoder, message by message, and only for messages outside of the contract: a batch without them never comes
here. A mapping that spends its budget again and again is paused for a while, its messages set aside at once, so that
nobody's readings wait for it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from assets import types
from assets.models import AssetType, Device
from ingest import mapping as language
from ingest.decoded import Reason, Source
from ingest.models import Mapping, MappingUse, MappingVersion
from ingest.reading import Reader, Said
from ingest.strict import SAID, Refused
from kernel import clock, log
from people.models import OrgUnit
from rules.faults import DefinitionRefused

STRIKES: Final = 3
PAUSE_MS: Final = 60_000
_REMEMBERED: Final = 65_536

_log = log.of(__name__)


@dataclass(slots=True, eq=False)
class Live:
    """A mapping as ingest needs it. ``within`` is the path of the org unit whose devices it speaks for."""

    id: int
    name: str
    within: str
    admits: bool
    bridge: str
    unit_id: int
    reader: Reader
    strikes: int = 0
    struck_ms: int = 0
    paused_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a message said, and by which mapping; nothing where the mapping leaves such messages alone."""

    live: Live
    said: list[Said] = field(default_factory=list)

    @property
    def has_no_time(self) -> bool:
        """Whether a part of it was measured nobody knows when."""
        instants = [one.ts_ms for said in self.said for one in said.elements]
        instants += [one.ts_ms for said in self.said for one in said.faults]
        return None in instants

    @property
    def unit_id(self) -> int:
        """The org unit of the mapping."""
        return self.live.unit_id

    def source(self, device: str) -> Source:
        """Return whose readings a device's are. The decoder of a type speaks for the device that sends, nobody else."""
        if not self.live.reader.definition.topic:
            return Source(device)
        return Source(device, within=self.live.within, admits=self.live.admits, bridge=self.live.bridge)


class MappingRefused(Refused):
    """A mapping makes nothing of a message; ``unit_id`` is the org unit whose people are to know."""

    def __init__(self, reason: Reason, detail: str, unit_id: int) -> None:
        super().__init__(reason, detail)
        self.unit_id = unit_id


@dataclass(frozen=True, slots=True)
class _Table:
    """All mappings at one time, put in place of the one before as a whole."""

    live: list[Live] = field(default_factory=list)
    by_type: dict[int, Live] = field(default_factory=dict)
    of_topic: dict[str, tuple[Live, ...]] = field(default_factory=dict)
    granted: dict[str, list[str]] = field(default_factory=dict)
    written: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Use:
    taken: int = 0
    refused: int = 0
    last_ms: int = 0
    last_refused_ms: int = 0
    refusal: str = ""


class Mapper:
    """Reads messages by mappings. ``type_of`` tells the asset type behind a device's key, None where there is none.

    Read by the thread that decodes, changed by the one that makes batches durable.
    """

    def __init__(self, type_of: Callable[[str], int | None]) -> None:
        self._type_of = type_of
        self._lock = threading.Lock()
        self._uses: dict[int, _Use] = {}
        self._writing: dict[int, _Use] = {}
        self._table = _Table()

    # What there is ----------------------------------------------------------------------------------------------

    def load(self, session: Session) -> None:
        """Read the mappings in force; one that this version of the code cannot read is logged and left out."""
        by_topic: list[Live] = []
        by_type: dict[int, Live] = {}
        query = (
            select(Mapping, MappingVersion.definition, OrgUnit.path, Device.key)
            .join(
                MappingVersion,
                (MappingVersion.mapping_id == Mapping.id) & (MappingVersion.number == Mapping.version),
            )
            .join(OrgUnit, OrgUnit.id == Mapping.unit_id)
            .outerjoin(Device, (Device.id == Mapping.bridge_id) & Device.revoked_at.is_(None))
            .where(Mapping.is_enabled)
            .order_by(Mapping.id)
        )
        for row, definition, path, bridge in session.execute(query):
            try:
                reader = Reader(language.parse(definition))
            except DefinitionRefused as error:
                _log.error("a mapping cannot be read and is left out", mapping=row.id, reason=str(error))
                continue
            live = Live(row.id, row.name, path, row.admits, bridge or "", row.unit_id, reader)
            if row.asset_type_id is None:
                by_topic.append(live)
            else:
                by_type[row.asset_type_id] = live
        granted: dict[str, list[str]] = {}
        for live in by_topic:
            if live.bridge:
                granted.setdefault(live.bridge, []).append(live.reader.definition.topic)
        ever = session.scalars(select(MappingVersion.definition["topic"].astext).distinct())
        written = frozenset(language.topic_filter(topic) for topic in ever if topic)
        self._table = _Table(by_topic, _inherited(session, by_type), granted=granted, written=written)

    @property
    def filters(self) -> tuple[str, ...]:
        """The MQTT filters that bring what the mappings read. Web hooks do not come over MQTT."""
        found = dict.fromkeys(language.topic_filter(live.reader.definition.topic) for live in self._table.live)
        return tuple(one for one in found if not one.startswith(language.WEBHOOKS))

    @property
    def retired(self) -> tuple[str, ...]:
        """Filters that mappings had before, or have and are switched off."""
        return tuple(sorted(self._table.written - {*self.filters}))

    def may_publish(self, device: str, topic: str) -> bool:
        """Return whether a device's account is the bridge of a mapping that reads this topic."""
        granted = self._table.granted.get(device)
        return granted is not None and any(language.pattern(one).fullmatch(topic) for one in granted)

    # A message --------------------------------------------------------------------------------------------------

    def of_topic(self, topic: str, payload: bytes, received_ms: int) -> Found | None:
        """Return what a message outside of the contract says, None where no mapping reads its topic.

        Raises:
            MappingRefused: the mapping that reads it makes nothing of it.
        """
        table = self._table
        found = table.of_topic.get(topic)
        if found is None:
            if len(table.of_topic) >= _REMEMBERED:
                table.of_topic.clear()
            # What a webhook source posts is for mappings that name it, whatever a wildcard would match.
            is_posted = topic.startswith(language.WEBHOOKS)
            found = table.of_topic[topic] = tuple(
                live
                for live in table.live
                if live.reader.definition.topic.startswith(language.WEBHOOKS) == is_posted and live.reader.takes(topic)
            )
        if not found:
            return None
        left = None
        for live in found:
            told = self._read(live, topic, payload, received_ms)
            if told is not None:
                return Found(live, told)
            if live.reader.definition.otherwise == "ignore":
                left = live
        if left is not None:
            return Found(left)
        names = ", ".join(live.name for live in found)
        detail = f"{names[:SAID]}: the condition does not hold for this message"
        raise MappingRefused(Reason.UNKNOWN_TOPIC, detail, found[0].unit_id)

    def of_device(self, device: str, topic: str, payload: bytes, received_ms: int) -> Found:
        """Return what a device's raw bytes say, by the decoder of its asset's type.

        Raises:
            MappingRefused: there is no such decoder, or it makes nothing of them.
        """
        type_id = self._type_of(device)
        live = None if type_id is None else self._table.by_type.get(type_id)
        if live is None:
            why = "measures no asset" if type_id is None else "is of a type without a decoder"
            raise MappingRefused(Reason.NO_DECODER, f"{device} {why}", 0)
        told = self._read(live, topic, payload, received_ms, sender=device)
        return Found(live, told or [])

    def _read(self, live: Live, topic: str, payload: bytes, received_ms: int, *, sender: str = "") -> list[Said] | None:
        try:
            if received_ms < live.paused_until_ms:
                raise Refused(Reason.BUDGET_SPENT, "it is paused, because it spent its budget several times")  # noqa: TRY301 - counted as the others
            told = live.reader.read(topic, payload, received_ms, sender=sender)
        except Refused as refusal:
            self._struck(live, refusal, received_ms)
            detail = f"{live.name[:60]} · {refusal.detail}"
            self._count(live, received_ms, refusal=detail)
            raise MappingRefused(refusal.reason, detail, live.unit_id) from None
        if told is not None:
            self._count(live, received_ms)
        return told

    def _struck(self, live: Live, refusal: Refused, received_ms: int) -> None:
        if refusal.reason is Reason.BUDGET_SPENT and received_ms >= live.paused_until_ms:
            if received_ms - live.struck_ms > PAUSE_MS:
                live.strikes, live.struck_ms = 0, received_ms
            live.strikes += 1
            if live.strikes >= STRIKES:
                live.strikes, live.paused_until_ms = 0, received_ms + PAUSE_MS
                _log.warning("a mapping spends its budget and is paused", mapping=live.id)

    # How it is used ---------------------------------------------------------------------------------------------

    def _count(self, live: Live, received_ms: int, *, refusal: str = "") -> None:
        with self._lock:
            use = self._uses.setdefault(live.id, _Use())
            use.last_ms = received_ms
            if refusal:
                use.refused, use.refusal, use.last_refused_ms = use.refused + 1, refusal, received_ms
            else:
                use.taken += 1

    def __bool__(self) -> bool:
        return bool(self._uses or self._writing)

    def write(self, session: Session) -> None:
        """Write how mappings were used; it is forgotten by ``written``, after the commit."""
        with self._lock:
            uses, self._uses = self._uses, {}
        for identity, use in uses.items():
            before = self._writing.setdefault(identity, _Use())
            before.taken, before.refused = before.taken + use.taken, before.refused + use.refused
            before.last_ms = use.last_ms
            if use.refusal:
                before.refusal, before.last_refused_ms = use.refusal, use.last_refused_ms
        if self._writing:
            _add(session, self._writing)

    def written(self) -> None:
        """Forget what ``write`` wrote."""
        self._writing = {}


def _inherited(session: Session, by_type: dict[int, Live]) -> dict[int, Live]:
    """Return the decoder of every type: its own, or that of the nearest it inherits from."""
    if not by_type:
        return {}
    companies = set(session.scalars(select(AssetType.company_id).where(AssetType.id.in_(by_type))))
    found: dict[int, Live] = {}
    for company_id in companies:
        for type_id, line in types.lineage(session, company_id).items():
            live = next((by_type[one] for one in line if one in by_type), None)
            if live is not None:
                found[type_id] = live
    return found


def _add(session: Session, uses: dict[int, _Use]) -> None:
    statement = upsert(MappingUse)
    new = statement.excluded
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[MappingUse.mapping_id],
            set_={
                "taken": MappingUse.taken + new.taken,
                "refused": MappingUse.refused + new.refused,
                "last_at": new.last_at,
                "last_refused_at": func.coalesce(new.last_refused_at, MappingUse.last_refused_at),
                "last_refusal": func.coalesce(func.nullif(new.last_refusal, ""), MappingUse.last_refusal),
            },
        ),
        [_row(identity, use) for identity, use in sorted(uses.items())],
    )


def _row(identity: int, use: _Use) -> dict[str, object]:
    return {
        "mapping_id": identity,
        "taken": use.taken,
        "refused": use.refused,
        "last_at": _moment(use.last_ms),
        "last_refused_at": _moment(use.last_refused_ms),
        "last_refusal": use.refusal[:400],
    }


def _moment(ms: int) -> datetime | None:
    return clock.from_ms(ms) if ms else None
