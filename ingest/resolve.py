"""What a decoded batch stands for: its readings under their series, its reports under their devices, its rejects.

For the pipeline. Decides who may speak, what a metric can hold, and what rules may use; a message, or a child's
part of a gateway's message, is used whole or not at all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from assets.command_post import Answer
from ingest.batch import Batch
from ingest.decoded import AlarmReport, Decoded, Int32s, Reason, Rejected, Source
from ingest.device_alarms import Report
from ingest.intake import NOBODY
from ingest.registry import REFUSED, Known, Refusal, Registry
from ingest.rejected import Reject
from ingest.sparkplug.follow import Followed
from kernel import clock
from telemetry import quality
from telemetry.readings import Flag, Flags, Float64s, Int64s, Mask, Readings, Texts
from telemetry.series import Pair


@dataclass(slots=True, eq=False)
class Resolved:
    """A batch resolved: the readings to store, and what is to be written beside them.

    ``part``: where, among the readings, each part begins (int64[p]); ``part_device``: whose it is, and
    ``part_message`` in which message (int32[p]). ``for_rules``:
    which readings rules use, None for all. ``words`` are (message, device id) of what was said besides readings and
    alarms. ``alone``: who speaks in ``statuses`` for itself and not for the devices behind it. ``skews`` are (device
    id, ms) of clocks that were not believed. ``fresh_assets``: assets that got a series.
    ``standing``: (device id, code) → raised, what mapped messages said last; ``echoes``: devices that said nothing new;
    ``newcomers``: devices nobody knows that a mapping proposes, each with the topic it was found in.
    ``over``: (device id, how many) messages over its limit; ``over_kept``: those of them that are kept;
    ``over_told``: all of them, where the sender is to be told.
    ``followed``: where the batch leaves Sparkplug's nodes, if it speaks of any.
    ``answers`` are (message, device key, answer to a command); ``strays`` those of them that answer none.
    """

    batch: Batch
    now: datetime
    readings: Readings
    part: Int64s
    part_device: Int64s
    part_message: Int32s
    for_rules: Mask | None = None
    reports: list[Report] = field(default_factory=list)
    statuses: dict[int, bool] = field(default_factory=dict)
    alone: set[int] = field(default_factory=set)
    attributes: dict[int, dict[str, object]] = field(default_factory=dict)
    words: list[tuple[int, int]] = field(default_factory=list)
    skews: list[tuple[int, int]] = field(default_factory=list)
    answers: list[tuple[int, str, Answer]] = field(default_factory=list)
    strays: list[Rejected] = field(default_factory=list)
    rejects: list[Rejected] = field(default_factory=list)
    fresh_assets: set[int] = field(default_factory=set)
    standing: dict[tuple[int, str], bool] = field(default_factory=dict)
    echoes: list[int] = field(default_factory=list)
    newcomers: dict[Source, str] = field(default_factory=dict)
    followed: Followed | None = None
    over: list[tuple[int, int]] = field(default_factory=list)
    over_kept: list[Reject] = field(default_factory=list)
    over_told: list[Rejected] = field(default_factory=list)

    @property
    def is_more_than_readings(self) -> bool:
        """Whether anything is to be written besides readings and what rules make of them."""
        said = self.reports or self.statuses or self.attributes or self.answers or self.followed
        return bool(said or self.rejects or self.over_kept)

    @property
    def taken(self) -> list[tuple[int, int]]:
        """The (message, device id) of answers that were to a command; known once the batch is written."""
        strays = {one.message for one in self.strays}
        return [(message, answer.device_id) for message, _, answer in self.answers if message not in strays]

    def stray(self, positions: Sequence[int]) -> None:
        """Set the answers at some positions aside: they answer no command of their device."""
        self.strays = [
            Rejected(message, Reason.UNKNOWN_COMMAND, f"no command {answer.token} was sent to {key}", key)
            for message, key, answer in (self.answers[position] for position in positions)
        ]

    def join(self, followed: Followed) -> None:
        """Take over what Sparkplug's nodes said besides readings."""
        self.followed = followed
        self.statuses |= followed.told
        self.alone |= followed.alone
        self.words += followed.words
        self.echoes += followed.known


@dataclass(frozen=True, slots=True)
class Resolver:
    """Resolves batches against a registry.

    ``name`` gives pairs that were never stored their series.
    """

    registry: Registry
    name: Callable[[Sequence[Pair]], dict[Pair, int]]

    def resolve(self, batch: Batch, decoded: Decoded, now: datetime) -> Resolved:
        """Return what a batch stands for; may wait for the database where there are new series."""
        registry = self.registry
        unseen = registry.meet(decoded)
        if unseen:
            registry.give(self.name(unseen))
        rejects = list(decoded.rejected)
        decoded, sent = self._in_own_units(decoded)
        flags = self._quality(decoded)
        kept = self._usable(decoded, flags, rejects)
        resolved = self._readings(batch, decoded, sent, flags, kept, now)
        resolved.rejects = rejects
        resolved.fresh_assets = {asset for pair in unseen if (asset := registry.asset_of(pair[0])) is not None}
        self._words(decoded, resolved)
        resolved.skews = self._skews(batch, decoded)
        if any(reject.unit_id for reject in rejects):
            resolved.newcomers = self.newcomers(batch, decoded)
        resolved.echoes += [NOBODY] * decoded.left
        return resolved

    # Readings ---------------------------------------------------------------------------------------------------

    def _in_own_units(self, decoded: Decoded) -> tuple[Decoded, Float64s | None]:
        """Convert what devices send in another unit than its metric's; return what was sent beside it, NaN elsewhere.

        A number that does not fit into a float64 in its own unit stays as it was sent, and is bad.
        """
        registry, pair = self.registry, decoded.pair
        if not registry.has_conversions or not len(decoded):
            return decoded, None
        is_number = np.isfinite(decoded.value) & ~quality.has(decoded.flags, Flag.BOOLEAN)
        rows = np.flatnonzero(registry.is_converted[pair] & is_number)
        if not len(rows):
            return decoded, None
        with np.errstate(over="ignore"):
            converted = decoded.value[rows] * registry.scale[pair[rows]] + registry.offset[pair[rows]]
        flags, text = decoded.flags.copy(), decoded.text
        flags[rows[~np.isfinite(converted)]] |= np.uint8(Flag.BAD)
        rows, converted = rows[np.isfinite(converted)], converted[np.isfinite(converted)]
        # The digits of a number that float64 only approximates are those of the other unit.
        inexact = rows[quality.has(flags[rows], Flag.EXACT)]
        if len(inexact) and text is not None:
            flags[inexact] &= ~np.uint8(Flag.EXACT)
            gone = set(inexact.tolist())
            text = _some([None if row in gone else entry for row, entry in enumerate(text)])
        value, sent = decoded.value.copy(), np.full(len(decoded), np.nan)
        sent[rows], value[rows] = value[rows], converted
        return replace(decoded, value=value, flags=flags, text=text), sent

    def _readings(
        self,
        batch: Batch,
        decoded: Decoded,
        sent: Float64s | None,
        flags: Flags,
        kept: Int64s | None,
        now: datetime,
    ) -> Resolved:
        message, pair, text = decoded.message, decoded.pair, decoded.text
        ts_ms, value = decoded.ts_ms, decoded.value
        if kept is not None:
            message, pair, flags = message[kept], pair[kept], flags[kept]
            ts_ms, value = ts_ms[kept], value[kept]
            text = None if text is None else _some([text[row] for row in kept.tolist()])
            sent = None if sent is None else sent[kept]
        device = self.registry.device[pair]
        begins = np.ones(len(pair), np.bool_)
        begins[1:] = (message[1:] != message[:-1]) | (device[1:] != device[:-1])
        part = np.flatnonzero(begins)
        readings = Readings(self.registry.series[pair], ts_ms, value, text, flags, sent)
        for_rules = None
        if self.registry.has_limits or self.registry.has_conversions or decoded.sparkplug:
            for_rules = ~quality.has(flags, quality.UNUSED)
            if self.registry.asks_for_bad:
                for_rules |= self.registry.uses_bad[pair] & ~quality.has(flags, Flag.HISTORICAL)
        return Resolved(batch, now, readings, part, device[part], message[part], for_rules)

    def _quality(self, decoded: Decoded) -> Flags:
        if not self.registry.has_limits or not len(decoded):
            return decoded.flags
        impossible = self.registry.is_impossible(decoded.pair, decoded.value)
        return np.where(impossible, decoded.flags | np.uint8(Flag.BAD), decoded.flags)

    def _usable(self, decoded: Decoded, flags: Flags, rejects: list[Rejected]) -> Int64s | None:
        """Set aside the parts that may not be used; return the rows that stay, None for all."""
        bad = dict(self._refused(decoded)) | dict(self._wrong_texts(decoded, flags))
        if not bad:
            return None
        stays = np.ones(len(decoded), np.bool_)
        pairs = decoded.names.pairs
        blamed: dict[tuple[int, int], Rejected] = {}
        for row, why in bad.items():
            blamed.setdefault((why.message, pairs[decoded.pair[row]][0]), why)
        rejects.extend(blamed.values())
        for message, source in blamed:
            begin, end = np.searchsorted(decoded.message, (message, message + 1)).tolist()
            for row in range(begin, end):
                stays[row] &= pairs[decoded.pair[row]][0] != source
        return np.flatnonzero(stays)

    def newcomers(self, batch: Batch, decoded: Decoded) -> dict[Source, str]:
        """Return the devices nobody knows that a mapping found in a batch and proposes."""
        found = [(one.message, one.mapped) for one in decoded.alarms]
        found += [(one.message, one.mapped) for one in decoded.statuses]
        refused = np.flatnonzero(self.registry.series[decoded.pair] == REFUSED).tolist()
        found += [(int(decoded.message[row]), self.registry.source_of(int(decoded.pair[row]))) for row in refused]
        known = self.registry.device_by_key
        return {
            source: batch.topics[message]
            for message, source in found
            if source is not None and source.admits and known(source.device) is None
        }

    def _refused(self, decoded: Decoded) -> Iterator[tuple[int, Rejected]]:
        for row in np.flatnonzero(self.registry.series[decoded.pair] == REFUSED).tolist():
            pair = int(decoded.pair[row])
            why, source = self.registry.refusal(pair), self.registry.source_of(pair)
            yield row, _refused(int(decoded.message[row]), why, source)

    def _wrong_texts(self, decoded: Decoded, flags: Flags) -> Iterator[tuple[int, Rejected]]:
        if decoded.text is None:
            return
        for row, text in enumerate(decoded.text):
            if text is None or flags[row] & Flag.EXACT:
                continue
            pair = int(decoded.pair[row])
            metric = decoded.names.pairs[pair][1]
            if self.registry.is_numeric[pair]:
                detail = f"“{metric}” is a number and was sent as a text"
                yield row, Rejected(int(decoded.message[row]), Reason.WRONG_TYPE, detail, self.registry.named(pair))

    def _skews(self, batch: Batch, decoded: Decoded) -> list[tuple[int, int]]:
        found = []
        for row, said_ms in zip(decoded.skewed.tolist(), decoded.device_ts_ms.tolist(), strict=True):
            device_id = int(self.registry.device[decoded.pair[row]])
            if device_id:
                found.append((device_id, said_ms - int(batch.received_ms[decoded.message[row]])))
        return found

    # What was said besides --------------------------------------------------------------------------------------

    def _words(self, decoded: Decoded, resolved: Resolved) -> None:
        """Sort out alarms, statuses, attributes, and answers to what nobody asked."""
        self._alarms(decoded, resolved)
        self._statuses(decoded, resolved)
        for said in decoded.attributes:
            device = self._speaker(said.message, Source(said.device), resolved)
            if device is not None:
                resolved.attributes.setdefault(device.id, {}).update(said.attributes)
                resolved.words.append((said.message, device.id))
        for reply in decoded.replies:
            device = self._speaker(reply.message, Source(reply.device), resolved)
            if device is not None:
                answer = Answer(reply.command_id, device.id, reply.body)
                resolved.answers.append((reply.message, device.key, answer))

    def _alarms(self, decoded: Decoded, resolved: Resolved) -> None:
        for alarm in decoded.alarms:
            source = alarm.mapped or Source(alarm.device)
            device = self._speaker(alarm.message, source, resolved, is_beside=alarm.is_beside)
            if device is None:
                continue
            if alarm.mapped is None or self._is_news(device.id, alarm, resolved):
                resolved.reports.append(Report(alarm, device))
            elif not alarm.is_beside:
                resolved.echoes.append(device.id)

    def _statuses(self, decoded: Decoded, resolved: Resolved) -> None:
        for status in decoded.statuses:
            source = status.mapped or Source(status.device)
            device = self._speaker(status.message, source, resolved, is_beside=status.is_beside)
            if device is not None:
                resolved.statuses[device.id] = status.is_online
                if not status.is_beside:
                    resolved.words.append((status.message, device.id))

    def _speaker(self, message: int, source: Source, resolved: Resolved, *, is_beside: bool = False) -> Known | None:
        verdict = self.registry.speaker(source)
        if isinstance(verdict, Refusal):
            if not is_beside:
                resolved.rejects.append(_refused(message, verdict, source))
            return None
        return verdict

    def _is_news(self, device_id: int, alarm: AlarmReport, resolved: Resolved) -> bool:
        """Return whether a state that is said again and again has changed, and take note of it."""
        key = device_id, alarm.code
        before = resolved.standing.get(key, self.registry.standing.get(key))
        resolved.standing[key] = alarm.is_raised
        return before is not alarm.is_raised

    # Rejects ----------------------------------------------------------------------------------------------------

    def device_of(self, reject: Rejected) -> int:
        """Return the id under which a reject is counted."""
        device = self.registry.device_by_key(reject.device)
        return NOBODY if device is None else device.id

    def kept(self, batch: Batch, rejects: Sequence[Rejected]) -> list[tuple[int, Reject]]:
        """Return rejects with their bytes, by message; each message once for each reason."""
        once: dict[tuple[int, Reason], Rejected] = {}
        for reject in rejects:
            once.setdefault((reject.message, reject.reason), reject)
        return [(reject.message, self.whole(batch, reject)) for reject in once.values()]

    def whole(self, batch: Batch, reject: Rejected) -> Reject:
        """Return a reject with its bytes."""
        device = self.registry.device_by_key(reject.device)
        return Reject(
            topic=batch.topics[reject.message],
            payload=batch.payloads[reject.message],
            received_at=clock.from_ms(int(batch.received_ms[reject.message])),
            reason=str(reject.reason),
            detail=reject.detail,
            device_key=reject.device or None,
            unit_id=(reject.unit_id or None) if device is None else device.unit_id,
        )


def _refused(message: int, why: Refusal, source: Source) -> Rejected:
    """Return a reject for a source that may not speak; whoever owns a device it may not name is not told of it."""
    named = "" if why.reason is Reason.FOREIGN_MAPPING else source.device
    return Rejected(message, why.reason, why.detail, named, source.unit_id)


def _some(texts: Texts) -> Texts | None:
    return texts if any(text is not None for text in texts) else None
