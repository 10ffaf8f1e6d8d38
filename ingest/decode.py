"""A batch of messages in, columns of readings and small reports out.

Every message ends as readings, as a report, or as rejected with a reason; a bad one never harms its
neighbours. The usual payload costs no Python loop: messages are decoded, looked up and flattened a column at
a time, in the form their topic used last. Only what fails there is looked at on its own, in ``ingest.forms``.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np

from ingest import csvrows, forms, lines, reported, reports, strict
from ingest.batch import Batch
from ingest.decoded import Decoded, Reason, Source
from ingest.forms import Element, Scalar
from ingest.gathered import Gathered
from ingest.mapper import Found, Mapper, MappingRefused
from ingest.moulds import ABSENT, NO_CAST, Instant, Mould
from ingest.shapes import BAD_SHAPE, BARE, OTHER, OVERSIZE, REPORT, WRAPPED, Lanes, Shapes
from ingest.sparkplug import payload as sparkplug
from ingest.strict import Refused
from ingest.topics import Kind, Topic, Understood, is_device_key
from telemetry.readings import Int64s, Mask

MAX_PAYLOAD: Final = 256 * 1024


class _Wrapped(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    values: dict[str, Scalar]
    ts: Instant = ABSENT


_read_wrapped = msgspec.json.Decoder(_Wrapped).decode
_read_bare = msgspec.json.Decoder(dict[str, Scalar]).decode
_UNREADABLE: Final = _Wrapped({})
_REFUSALS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Decoder:
    """Reads batches, one at a time. It remembers topics, forms and names, all of it bounded."""

    def __init__(self, mapper: Mapper | None = None) -> None:
        self._mapper = mapper
        self._topics = Understood()
        self._lanes = Lanes(self._topics)
        self._shapes = Shapes()

    def decode(self, batch: Batch) -> Decoded:
        """Return what a batch says. Raises nothing for whatever a message may hold."""
        self._shapes = self._shapes.with_room()
        work = _Work(batch, self._topics, self._lanes, self._shapes, self._mapper)
        lanes = np.array([*map(self._lanes.__getitem__, batch.topics)], np.int8)
        if len(batch) and max(map(len, batch.payloads)) > MAX_PAYLOAD:
            lanes[[len(payload) > MAX_PAYLOAD for payload in batch.payloads]] = OVERSIZE
        slow = [
            *work.wrapped(np.flatnonzero(lanes == WRAPPED)),
            *work.bare(np.flatnonzero(lanes == BARE)),
            *np.flatnonzero(lanes == OTHER).tolist(),
        ]
        for message in slow:
            work.telemetry(message)
        for message in np.flatnonzero(lanes == REPORT).tolist():
            work.report(message)
        for message in np.flatnonzero(lanes == OVERSIZE).tolist():
            work.oversize(message)
        return work.decoded()


class _Work:
    """One batch on its way: measurements (a message may hold several) gathered until they become columns."""

    def __init__(
        self, batch: Batch, topics: Understood, lanes: Lanes, shapes: Shapes, mapper: Mapper | None = None
    ) -> None:
        self._batch = batch
        self._mapper = mapper
        self._topics = topics
        self._lanes = lanes
        self._shapes = shapes
        self._gathered = Gathered(batch, topics, shapes)
        self._alarms: list[Any] = []
        self._attributes: list[Any] = []
        self._statuses: list[Any] = []
        self._replies: list[Any] = []
        self._sparkplug: list[sparkplug.Said] = []
        self._left = 0

    def wrapped(self, messages: Int64s) -> list[int]:
        """Read messages of the form ``{"ts": …, "values": {…}}``; return those that need a closer look."""
        moulds = self._shapes.moulds
        casts = moulds.casts(self._labels(messages))
        slow: list[int] = []
        rest = [messages[casts == NO_CAST]]
        for mould, places, shapes in moulds.groups(casts):
            odd, misfits = self._cast(mould, messages[places], shapes)
            slow += odd
            rest.append(misfits)
        return slow + self._unmoulded(np.concatenate(rest))

    def _cast(self, mould: Mould, messages: Int64s, shapes: Int64s) -> tuple[list[int], Int64s]:
        """Read messages that should fit a mould; return those that need a closer look, and those that do not fit."""
        payloads = self._payloads(messages)
        read, failed = _each(mould.read, payloads, None)
        misfits = messages[failed]
        if failed:
            self._shapes.moulds.misfit(self._labels(misfits))
            messages, shapes = np.delete(messages, failed), np.delete(shapes, failed)
            payloads, read = self._payloads(messages), [record for record in read if record is not None]
        length = np.full(len(read), len(mould.metrics))
        ts = np.array([record.ts for record in read], np.int64)
        odd = self._keep(messages, payloads, shapes, ts, mould.values(read), length=length, marks=_marks(ts))
        return odd, misfits

    def _unmoulded(self, messages: Int64s) -> list[int]:
        """Read messages of that form as dictionaries, and learn moulds from them."""
        payloads = self._payloads(messages)
        read, _ = _each(_read_wrapped, payloads, _UNREADABLE)
        ts = np.array([item.ts for item in read], np.int64)
        values = [*map(attrgetter("values"), read)]
        slow = self._bulk(messages, payloads, values, ts, _marks(ts))
        moulds, known = self._shapes.moulds, self._shapes.of
        for topic, said in zip(self._labels(messages), values, strict=True):
            metrics = tuple(said)
            if topic not in moulds and (shape := known.get((topic, metrics), BAD_SHAPE)) != BAD_SHAPE:
                moulds.learn(topic, metrics, shape)
        return slow

    def bare(self, messages: Int64s) -> list[int]:
        """Read messages that are nothing but values; return those that need a closer look."""
        payloads = self._payloads(messages)
        read, _ = _each(_read_bare, payloads, {})
        ts = np.full(len(read), ABSENT)
        return self._bulk(messages, payloads, read, ts, np.zeros(len(read), np.int64))

    def telemetry(self, message: int) -> None:
        """Read one telemetry message whatever its form, and remember the form."""
        name, payload = self._batch.topics[message], self._batch.payloads[message]
        device = self._topics[name].device
        try:
            value = strict.read(payload)
            parts = [*forms.elements(value, device)]
        except Refused as refusal:
            self._gathered.reject(message, refusal.reason, refusal.detail)
            return
        self._gathered.take(message, name, Source(device), parts)
        if value.__class__ is list:
            self._lanes[name] = OTHER
        else:
            self._lanes[name] = WRAPPED if "values" in value else BARE

    def report(self, message: int) -> None:
        """Read one message that is no telemetry of its sender."""
        topic, payload = self._topics[self._batch.topics[message]], self._batch.payloads[message]
        try:
            match topic.kind:
                case Kind.ALARM:
                    self._alarms.append(
                        reports.alarm(message, topic, payload, partial(self._gathered.believe, message))
                    )
                case Kind.ATTRIBUTES:
                    self._attributes.append(reports.attributes(message, topic, payload))
                case Kind.STATUS:
                    is_replayed = message in self._batch.retained
                    self._statuses.append(reports.status(message, topic, payload, is_replayed=is_replayed))
                case Kind.REPLY:
                    self._replies.append(reports.reply(message, topic, payload))
                case Kind.GATEWAY:
                    self._gateway(message, topic, payload)
                case Kind.LINE:
                    self._row(message, topic, *lines.read(payload, topic.name.rpartition("/")[2], topic.device))
                case Kind.CSV:
                    self._row(message, topic, *csvrows.read(payload, topic.device))
                case Kind.SPARKPLUG:
                    self._sparkplug.append(sparkplug.read(message, topic.name, payload))
                case _:
                    self._foreign(message, topic, payload)
        except Refused as refusal:
            self._gathered.reject(message, refusal.reason, refusal.detail)

    def _foreign(self, message: int, topic: Topic, payload: bytes) -> None:
        """Read a message in a format of somebody else, where a mapping says what it means."""
        received_ms = int(self._batch.received_ms[message])
        found = None
        if self._mapper is not None:
            try:
                if topic.kind is Kind.RAW:
                    found = self._mapper.of_device(topic.device, topic.name, payload, received_ms)
                elif topic.fault == Reason.UNKNOWN_TOPIC:
                    found = self._mapper.of_topic(topic.name, payload, received_ms)
            except MappingRefused as refusal:
                self._gathered.reject(message, refusal.reason, refusal.detail, unit_id=refusal.unit_id)
                return
        if found is None:
            self._gathered.reject(message, Reason(topic.fault or Reason.NO_DECODER), topic.name[: strict.SAID])
        elif not found.said:
            self._left += 1
        elif message in self._batch.retained and found.has_no_time:
            self._gathered.reject(message, Reason.REPLAYED, "kept by the broker, without a time", unit_id=found.unit_id)
        else:
            self._mapped(message, topic, payload, found)

    def _mapped(self, message: int, topic: Topic, payload: bytes, found: Found) -> None:
        is_replayed = message in self._batch.retained
        for said in found.said:
            source = found.source(said.device)
            self._gathered.take(message, f"{source.within}{topic.name}/{said.device}", source, said.elements)
            believe = partial(self._gathered.believe, message)
            self._alarms += reported.alarms(message, payload, said, source, believe)
            self._statuses += reported.status(message, said, source, is_replayed=is_replayed)

    def oversize(self, message: int) -> None:
        """Set a large message aside, unless it is of a kind that may be so large."""
        is_sparkplug = self._topics[self._batch.topics[message]].kind is Kind.SPARKPLUG
        limit = sparkplug.MAX_PAYLOAD if is_sparkplug else MAX_PAYLOAD
        if len(self._batch.payloads[message]) <= limit:
            self.report(message)
        else:
            self._gathered.reject(message, Reason.OVERSIZE, f"larger than {limit} bytes")

    def decoded(self) -> Decoded:
        """Return everything read, readings in order of reception."""
        return Decoded(
            self._shapes.names,
            *self._gathered.columns(),
            alarms=self._alarms,
            attributes=self._attributes,
            statuses=self._statuses,
            replies=self._replies,
            sparkplug=sorted(self._sparkplug, key=attrgetter("message")),
            left=self._left,
            rejected=sorted(self._gathered.rejected, key=attrgetter("message")),
        )

    def _payloads(self, messages: Int64s) -> list[bytes]:
        if len(messages) == len(self._batch):
            return self._batch.payloads
        return [*map(self._batch.payloads.__getitem__, messages.tolist())]

    def _labels(self, messages: Int64s) -> list[str]:
        if len(messages) == len(self._batch):
            return self._batch.topics
        return [*map(self._batch.topics.__getitem__, messages.tolist())]

    def _bulk(
        self,
        messages: Int64s,
        payloads: list[bytes],
        values: list[dict[str, Scalar]],
        ts: Int64s,
        marks: Int64s,
    ) -> list[int]:
        """Take one measurement a message. ``marks``: quotation marks a payload has besides those of its values."""
        if not payloads:
            return []
        labels = self._labels(messages)
        metrics = [*map(tuple, values)]
        found = [*map(self._shapes.of.get, zip(labels, metrics, strict=True))]
        for row in _positions(found, None):
            source = Source(self._topics[labels[row]].device)
            known = self._shapes.of.get((labels[row], metrics[row]))
            found[row] = self._shapes.learn(labels[row], source, metrics[row]) if known is None else known
        shapes = np.array(found, np.int64)
        flat = [*chain.from_iterable(map(dict.values, values))]
        length = np.array([*map(len, values)])
        return self._keep(messages, payloads, shapes, ts, flat, length=length, marks=marks)

    def _keep(
        self,
        messages: Int64s,
        payloads: list[bytes],
        shapes: Int64s,
        ts: Int64s,
        flat: list[Scalar],
        *,
        length: Int64s,
        marks: Int64s,
    ) -> list[int]:
        """Take measurements, one a message and ``length`` values each, but for those that need a closer look."""
        good = (shapes != BAD_SHAPE) & _quoted_once(payloads, marks, length, flat)
        if not good.all():
            stays = np.repeat(good, length).tolist()
            flat = [item for item, is_good in zip(flat, stays, strict=True) if is_good]
        self._gathered.column(messages[good], shapes[good], ts[good], flat)
        rest: list[int] = messages[~good].tolist()
        return rest

    def _gateway(self, message: int, topic: Topic, payload: bytes) -> None:
        children = strict.read(payload)
        if children.__class__ is not dict:
            raise Refused(Reason.BAD_FORM, "expected an object of devices")
        if not children:
            raise Refused(Reason.EMPTY, "there are no devices")
        for child, value in children.items():
            if not is_device_key(child):
                self._gathered.reject(message, Reason.BAD_DEVICE_KEY, f"“{child[: strict.SAID]}”", device=topic.device)
                continue
            try:
                parts = [*forms.elements(value, child)]
            except Refused as refusal:
                self._gathered.reject(message, refusal.reason, refusal.detail, device=child)
                continue
            self._gathered.take(message, f"{topic.name}/{child}", Source(child, topic.device), parts)

    def _row(self, message: int, topic: Topic, device: str, part: Element) -> None:
        """Take a line or a row: of its sender, or of a device behind it."""
        if not is_device_key(device):
            raise Refused(Reason.BAD_DEVICE_KEY, f"“{device[: strict.SAID]}”")
        source = Source(device, "" if device == topic.device else topic.device)
        self._gathered.take(message, f"{topic.name}/{device}", source, [part])


def _each(read: Callable[[bytes], Any], payloads: Iterable[bytes], otherwise: object) -> tuple[list[Any], list[int]]:
    """Return what each payload reads as, ``otherwise`` where it cannot be read, and where that is."""
    items: list[Any] = []
    failed: list[int] = []
    append, rest = items.append, iter(payloads)
    while True:
        try:
            for item in map(read, rest):
                append(item)
        except _REFUSALS:
            failed.append(len(items))
            append(otherwise)
        else:
            return items, failed


def _marks(ts: Int64s) -> Int64s:
    """Return the quotation marks around ``values`` and, where it is given, ``ts``."""
    marks: Int64s = 2 + 2 * (ts != ABSENT)
    return marks


def _positions(items: Sequence[object], wanted: object) -> list[int]:
    return [row for row, item in enumerate(items) if item is wanted] if wanted in items else []


def _quoted_once(payloads: list[bytes], marks: Int64s, length: Int64s, flat: list[Scalar]) -> Mask:
    """Return which payloads have no more quotation marks than they need.

    That is ``marks``, two for each of the ``length`` names, and two for each of the values, ``flat``, that is a
    text. None has fewer, so one sum over the batch proves all; a key given twice, or an escaped mark, breaks it.
    """
    marks = np.where(length > 0, marks + 2 * length, 0)  # what could not be read needs none
    if str in set(map(type, flat)):
        is_text = np.fromiter((item.__class__ is str for item in flat), np.bool_, len(flat))
        owner = np.repeat(np.arange(len(length)), length)
        marks = marks + 2 * np.bincount(owner[is_text], minlength=len(length))
    if b"".join(payloads).count(b'"') == int(marks.sum()):
        return np.ones(len(payloads), np.bool_)
    counted = np.array([payload.count(b'"') for payload in payloads])
    once: Mask = counted == marks
    return once
