"""Sparkplug messages of a batch, followed from where their nodes stood: their readings join those of all others.

For the pipeline, between reading a batch and resolving it, in the thread that makes batches durable. Where a node
stands after a batch is taken over only by ``settle``, once the batch is committed; a batch that failed leaves no
trace, and one that comes again is known by its bytes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from ingest import status
from ingest.batch import Batch
from ingest.decoded import Decoded, Reason, Rejected, Source
from ingest.publisher import Outgoing
from ingest.registry import Known, Refusal, Registry
from ingest.sparkplug import host, kept, keys, scalars, session, strangers
from ingest.sparkplug.kept import Held
from ingest.sparkplug.payload import Metric, Said, Verb
from ingest.sparkplug.rows import Newest, Row, Rows
from ingest.sparkplug.session import OWN, Step, Verdict
from ingest.sparkplug.strangers import Stranger
from ingest.strict import Refused
from kernel import clock
from telemetry.readings import Flag

_QUALITIES: Final = {0: Flag.BAD, 500: Flag.UNCERTAIN}
"""What the property Quality says of a value that is not good (Sparkplug 3.0, §6.4.13)."""


@dataclass(slots=True, eq=False)
class Followed:
    """What the Sparkplug messages of a batch come to.

    ``decoded`` has their readings and rejects. ``changed``: by device id of the node, as it was held and as it will
    be. ``told``: device id → is it there now; those in ``alone`` do not speak for the devices behind them. ``words``
    are (message, device id) of what was said besides readings, ``known`` device ids, once for each message that was
    known already.
    """

    decoded: Decoded
    changed: dict[int, tuple[Held, Held]] = field(default_factory=dict)
    told: dict[int, bool] = field(default_factory=dict)
    alone: set[int] = field(default_factory=set)
    words: list[tuple[int, int]] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    asked: list[Outgoing] = field(default_factory=list)
    strangers: dict[str, Stranger] = field(default_factory=dict)


class Follower:
    """The edge nodes of one ingest process. For one thread at a time."""

    def __init__(self, registry: Registry, newest: Newest) -> None:
        self._registry = registry
        self._held: dict[int, Held] = {}
        self._awaiting: set[int] = set()
        self._rows = Rows(registry, newest)

    def load(self, db: Session) -> None:
        """Read where all nodes stand."""
        self._held = kept.load(db)
        self._awaiting = {number for number, held in self._held.items() if held.node.is_awaiting}

    def catch_up(self, db: Session, messages: Iterable[Said]) -> None:
        """Read anew where those nodes stand, of all that messages come from, which others have followed meanwhile."""
        speakers = [self._registry.speaker(Source(name)) for name in {said.node for said in messages}]
        ids = [one.id for one in speakers if isinstance(one, Known)]
        stored = kept.marks(db, ids)
        outrun = [one for one in ids if stored.get(one, 0) != (self._held[one].mark if one in self._held else 0)]
        if not outrun:
            return
        found = kept.load(db, outrun)
        for number in outrun:
            self._hold(number, found.get(number) or Held())

    def follow(self, batch: Batch, decoded: Decoded, *, is_replay: bool = False) -> Followed:
        """Return what the messages of a batch come to; with ``is_replay`` they are readings and move no session."""
        work = _Work(self._registry, self._held, batch, decoded, is_replay=is_replay)
        for said in decoded.sparkplug:
            work.take(said)
        work.close()
        merged, rejects = self._rows.joined(batch, decoded, work.rows)
        found = work.followed
        found.decoded = replace(
            merged, rejected=sorted([*decoded.rejected, *work.rejects, *rejects], key=lambda each: each.message)
        )
        return found

    def write(self, db: Session, followed: Followed, *, now: datetime) -> None:
        """Write where nodes stand, and let strangers ask to be let in."""
        kept.write(db, followed.changed)
        strangers.let_ask(db, followed.strangers.values(), now=now)

    def settle(self, followed: Followed) -> None:
        """Go on from where a batch left its nodes: it is committed."""
        for number, (_, after) in followed.changed.items():
            self._hold(number, after)

    def _hold(self, number: int, held: Held) -> None:
        self._held[number] = held
        (self._awaiting.add if held.node.is_awaiting else self._awaiting.discard)(number)

    def missed(self, now: datetime) -> dict[int, tuple[Held, Held]]:
        """Return the nodes whose devices were awaited in vain, as they are held and as they will be."""
        found = {}
        for number in self._awaiting:
            held = self._held[number]
            node = session.overdue(held.node, clock.to_ms(now))
            if node is not None:
                found[number] = (held, Held(node, held.recent, kept.drawn()))
        return found

    def give_up(self, db: Session, missed: Mapping[int, tuple[Held, Held]], *, now: datetime) -> None:
        """Write that devices which were awaited in vain are away, unless another process follows their node now."""
        stored = kept.load(db, missed)
        mine = {number: missed[number] for number, held in stored.items() if held.mark == missed[number][0].mark}
        told = {}
        for number, (before, after) in mine.items():
            key = self._registry.key_of(number)
            for name, birth in after.node.births.items():
                if key is not None and before.node.birth(name).life is not birth.life:
                    device = self._registry.speaker(keys.source(key, name))
                    if isinstance(device, Known):
                        told[device.id] = False
        kept.write(db, mine)
        status.tell(db, told, now=now)

    def given_up(self, missed: Mapping[int, tuple[Held, Held]]) -> None:
        """Go on without the devices that were awaited in vain: it is committed."""
        for number, (_, after) in missed.items():
            self._held[number] = after
            self._awaiting.discard(number)


class _Work:
    """One batch: nodes stepping, and what comes of it gathered."""

    def __init__(
        self,
        registry: Registry,
        held: Mapping[int, Held],
        batch: Batch,
        decoded: Decoded,
        *,
        is_replay: bool,
    ) -> None:
        self.rows: list[Row] = []
        self.rejects: list[Rejected] = []
        self.followed = Followed(decoded)
        self._registry = registry
        self._held = held
        self._batch = batch
        self._names = decoded.names
        self._is_replay = is_replay
        self._fresh: dict[int, dict[int, int]] = {}

    def take(self, said: Said) -> None:
        """Follow one message."""
        if said.message in self._batch.retained:
            self._reject(said, Reason.REPLAYED, "kept by the broker: births and data are news or nothing")
            return
        speaker = self._registry.speaker(Source(said.node))
        if isinstance(speaker, Refusal):
            self._reject(said, speaker.reason, speaker.detail)
            if speaker.reason is Reason.UNKNOWN_DEVICE and said.verb is Verb.NBIRTH:
                self._meet(said, None)
            return
        step = self._step(said, speaker.id)
        if step.is_asking:
            now_ms = int(self._batch.received_ms[said.message])
            self.followed.asked.append(host.rebirth(said.group, said.node, now_ms))
        if step.verdict is Verdict.ASIDE:
            self._reject(said, step.reason, step.detail)
        elif step.verdict is Verdict.KNOWN:
            self.followed.known.append(speaker.id)
        else:
            self._tell(said, step.told)
            self._read(said, step)

    def _step(self, said: Said, node_id: int) -> Step:
        changed = self.followed.changed
        held = self._held.get(node_id) or Held()
        before = changed[node_id][1] if node_id in changed else held
        if self._is_replay:
            return session.again(before.node, said)
        received_ms = int(self._batch.received_ms[said.message])
        fresh = self._fresh.setdefault(node_id, {})
        is_repeated = said.digest in held.recent or said.digest in fresh
        step = session.step(before.node, said, received_ms, is_repeated=is_repeated)
        if step.verdict is not Verdict.KNOWN:
            fresh[said.digest] = received_ms
            changed[node_id] = (held, Held(step.node, held.recent))
        return step

    def close(self) -> None:
        """Note, once a node, which messages were taken, and mark where that left it."""
        for node_id, (before, after) in self.followed.changed.items():
            after.recent, after.mark = kept.with_fresh(before.recent, self._fresh[node_id]), kept.drawn()

    def _tell(self, said: Said, told: Mapping[str, bool]) -> None:
        for name, is_online in told.items():
            device = self._registry.speaker(keys.source(said.node, name))
            if isinstance(device, Refusal):
                continue
            self.followed.told[device.id] = is_online
            if name == OWN and is_online:
                self.followed.alone.add(device.id)
            else:
                self.followed.alone.discard(device.id)

    def _read(self, said: Said, step: Step) -> None:
        source = keys.source(said.node, said.device)
        before = len(self.rows)
        faults = self._metrics(said, step, source)
        for reason, detail in faults.items():
            self._reject(said, reason, detail, device=source.device)
        owner = self._registry.speaker(source)
        if isinstance(owner, Refusal):
            if said.verb is Verb.DBIRTH and owner.reason is Reason.UNKNOWN_CHILD:
                self._meet(said, said.node)
            if len(self.rows) == before and not faults:
                self._reject(said, owner.reason, owner.detail, device=source.device)
        elif len(self.rows) == before and not faults:
            self.followed.words.append((said.message, owner.id))

    def _metrics(self, said: Said, step: Step, source: Source) -> dict[Reason, str]:
        """Gather the readings of a message; return what was found wrong, once a reason."""
        faults: dict[Reason, str] = {}
        number = self._names.source(source)
        types = step.node.birth(said.device).types
        for name, datatype, metric in step.metrics:
            if metric.value is None or not scalars.is_measured(name):
                continue
            ts_ms = said.ts_ms if metric.ts_ms is None else metric.ts_ms
            flags = _flags(metric)
            try:
                for each, value in scalars.scalars(name, datatype, metric.value, lambda one: types.get(one, 0)):
                    self.rows.append((said.message, self._names.pair(number, each), ts_ms, value, flags))
            except Refused as refusal:
                faults.setdefault(refusal.reason, refusal.detail)
        return faults

    def _meet(self, said: Said, gateway: str | None) -> None:
        source = keys.source(said.node, said.device)
        name = said.device or said.node
        metrics = [metric.name for metric in said.metrics if scalars.is_measured(metric.name)]
        self.followed.strangers[source.device] = Stranger(source.device, name, said.group, gateway, metrics)

    def _reject(self, said: Said, reason: Reason, detail: str, *, device: str | None = None) -> None:
        self.rejects.append(Rejected(said.message, reason, detail, said.node if device is None else device))


def _flags(metric: Metric) -> int:
    flags = Flag.HISTORICAL if metric.is_historical else Flag(0)
    if metric.quality is not None:
        flags |= _QUALITIES.get(metric.quality, Flag(0))
    return int(flags)
