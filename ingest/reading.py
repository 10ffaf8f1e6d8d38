"""A mapping applied: one message of somebody else's format in, what devices said out.

Pure, and bounded: every step is paid from the message's budget, so a mapping that loops or grows ends with a reason
and harms nobody else. A message gives all it has or nothing, like any other.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import translate
from typing import Any, Final, get_args
from zoneinfo import ZoneInfo

from ingest import forms, frames, mapping, paths, senml, strict
from ingest.amounts import Kept, number_of, word
from ingest.decoded import Reason
from ingest.forms import TIME_BOUND, Element, Scalar
from ingest.mapping import Definition
from ingest.paths import Budget, Path, Template, said
from ingest.strict import Refused
from ingest.topics import is_device_key

MOST_READINGS: Final = 5_000
"""What one message may give."""
_LONGEST_CODE: Final = 80
_LONGEST_MESSAGE: Final = 2000
_WELL: Final = frozenset({"", "false", "0", "off", "no", "none", "ok", "normal"})
_UNTIDY: Final = re.compile(r"[^A-Za-z0-9._-]+")
_SEVERITIES: Final = frozenset(get_args(mapping.Severity))
_DEEPEST: Final = 6


@dataclass(frozen=True, slots=True)
class Fault:
    """What a message says of an alarm."""

    code: str
    severity: str
    is_raised: bool
    message: str
    ts_ms: int | None


@dataclass(slots=True)
class Said:
    """What a message says of one device."""

    device: str
    elements: list[Element] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    is_online: bool | None = None


class Reader:
    """Reads the messages of one definition; made once a version."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self._pattern = mapping.pattern(definition.topic) if definition.topic else None
        self._when = _path(definition.when)
        self._each = [(paths.path(each.path), each.name) for each in definition.each]
        self._device = paths.template(definition.device)
        self._time = _Time(definition.time) if definition.time else None
        self._metrics = [_Metric(place, metric) for place, metric in enumerate(definition.metrics)]
        self._frame = _Frame(definition.frame) if definition.frame else None
        self._alarms = [_Alarm(place, alarm) for place, alarm in enumerate(definition.alarms)]
        self._status = definition.status and (
            paths.path(definition.status.path),
            {*map(word, definition.status.online)},
            {*map(word, definition.status.offline)},
        )

    def takes(self, topic: str) -> bool:
        """Return whether this topic is one of the mapping's."""
        return self._pattern is not None and self._pattern.fullmatch(topic) is not None

    def read(self, topic: str, payload: bytes, received_ms: int, *, sender: str = "") -> list[Said] | None:
        """Return what a message says by device, None where ``when`` does not hold.

        ``sender`` is the device for the decoder of a type, whose topic names it.

        Raises:
            Refused: it says nothing usable, with the place in the mapping and what is wrong there.
        """
        budget = Budget(len(payload))
        names = self._names(topic)
        document = self._document(payload, received_ms)
        if self._when is not None and not _is_so(self._when.find(document, budget)):
            return None
        by_device: dict[str, Said] = {}
        entries = 0
        for item, named in self._entries(document, names, budget):
            entries += 1
            key = sender or self._key(named, item, document, budget)
            self._take(by_device.setdefault(key, Said(key)), item, document, named, budget)
        if not entries:
            raise Refused(Reason.EMPTY, "there is no entry in it")
        told = [one for one in by_device.values() if one.elements or one.faults or one.is_online is not None]
        if not told:
            raise Refused(Reason.PATH_MISSING, f"nothing was found at {self._looked_at()}")
        return told

    # What it is made of ------------------------------------------------------------------------------------------

    def _names(self, topic: str) -> dict[str, str]:
        found = self._pattern.fullmatch(topic) if self._pattern else None
        return found.groupdict() if found else {}

    def _document(self, payload: bytes, received_ms: int) -> Any:  # noqa: ANN401 - JSON is any of its types
        match self.definition.format:
            case "json":
                return strict.read(payload)
            case "senml":
                return senml.resolve(strict.read(payload), received_ms)
            case "text":
                return _of_text(payload)
            case _:
                return payload

    def _entries(
        self,
        document: Any,  # noqa: ANN401 - JSON
        names: dict[str, str],
        budget: Budget,
        depth: int = 0,
    ) -> Iterator[tuple[Any, dict[str, str]]]:
        budget.pay(1)
        if depth == len(self._each):
            yield document, names
            return
        path, name = self._each[depth]
        found = path.find(document, budget)
        if found is None:
            raise Refused(Reason.PATH_MISSING, f"entry {depth + 1}: “{path.text}” leads to nothing")
        if isinstance(found, dict):
            pairs: Iterable[tuple[str, Any]] = found.items()
        else:
            pairs = ((str(place), item) for place, item in enumerate(found if isinstance(found, list) else [found]))
        for key, item in pairs:
            yield from self._entries(item, {**names, name: key}, budget, depth + 1)

    def _key(self, names: dict[str, str], item: Any, document: Any, budget: Budget) -> str:  # noqa: ANN401 - JSON
        key = self._device.filled(names, item, budget)
        if key is None and item is not document:
            key = self._device.filled(names, document, budget)
        if not key:
            raise Refused(Reason.PATH_MISSING, f"device: “{self._device.text}” leads to nothing")
        if self.definition.tidy:
            key = _UNTIDY.sub("-", key).lstrip(".-_")[:64].rstrip("-")
        if not is_device_key(key):
            raise Refused(Reason.BAD_DEVICE_KEY, f"device: “{key[: strict.SAID]}” cannot be the key of a device")
        return key

    def _take(self, told: Said, item: Any, document: Any, names: dict[str, str], budget: Budget) -> None:  # noqa: ANN401
        values: dict[str, Scalar] = {}
        if self._frame is not None:
            found = self._frame.values(item, budget)
            values |= found
            item = {**item, "frame": found} if isinstance(item, dict) else {"frame": found}
        for metric in self._metrics:
            for name, value in metric.values(item, names, budget):
                if name in values:
                    raise Refused(Reason.DUPLICATE_KEY, f"{metric.place}: “{name}” is given twice")
                values[name] = value
        instant = self._time.of(item, document, budget) if self._time else None
        if values:
            if sum(len(one.values) for one in told.elements) + len(values) > MOST_READINGS:
                raise Refused(Reason.BUDGET_SPENT, f"it gives more than {MOST_READINGS} readings")
            told.elements.append(Element(instant, values))
        for alarm in self._alarms:
            told.faults.extend(alarm.faults(item, names, instant, budget))
        if self._status:
            path, online, offline = self._status
            state = word(path.find(item, budget))
            told.is_online = True if state in online else False if state in offline else told.is_online

    def _looked_at(self) -> str:
        texts = [metric.path.text for metric in self._metrics] + [alarm.path.text for alarm in self._alarms]
        if self._status:
            texts.append(self._status[0].text)
        return ", ".join(f"“{text}”" for text in texts[:5]) + (" and others" if len(texts) > 5 else "")  # noqa: PLR2004


class _Time:
    """Where and in which form the time stands."""

    def __init__(self, time: mapping.Time) -> None:
        self._path, self._base = paths.path(time.path), _path(time.base)
        self._form, self._zone = time.form, ZoneInfo(time.zone or "UTC")

    def of(self, item: Any, document: Any, budget: Budget) -> int | None:  # noqa: ANN401 - JSON
        """Return the time in milliseconds, None where there is none; looked for in the entry, then in the message."""
        found = self._path.find(item, budget)
        if found is None and item is not document:
            found = self._path.find(document, budget)
        if found is None:
            return None
        base = 0
        if self._base is not None:
            first = self._base.find(item, budget)
            base = self._ms(self._base.find(document, budget) if first is None else first) or 0
        instant = base + (self._ms(found) or 0)
        if not -TIME_BOUND < instant < TIME_BOUND:
            raise Refused(Reason.BAD_TS, f"time: {said(found)} is no time")
        return instant

    def _ms(self, value: Any) -> int | None:  # noqa: ANN401 - JSON
        if value is None:
            return None
        try:
            if self._form == "iso":
                moment = datetime.fromisoformat(value)
                return round((moment if moment.tzinfo else moment.replace(tzinfo=self._zone)).timestamp() * 1000)
            number = float(number_of(value))
            return round(number if self._form == "ms" else number * 1000)
        except (TypeError, ValueError, OverflowError):
            form = {"iso": "a date and time", "s": "seconds since 1970", "ms": "milliseconds since 1970"}[self._form]
            raise Refused(Reason.BAD_TS, f"time: {said(value)} is not {form}") from None


class _Metric(Kept):
    """One row of metrics."""

    def __init__(self, place: int, metric: mapping.Metric) -> None:
        super().__init__(f"metric {place + 1}", metric)
        self.path = paths.path(metric.path)
        self._name: Template = paths.template(metric.name or "{key}")
        self._unit = _path(metric.unit_path)
        self._spreads, self._is_required = metric.spread, metric.required
        self._skip = re.compile("|".join(map(translate, metric.skip)) or r"(?!)")

    def values(self, item: Any, names: Mapping[str, str], budget: Budget) -> Iterator[tuple[str, Scalar]]:  # noqa: ANN401
        """Return what the row gives, by the names of the metrics."""
        found = self.path.find(item, budget)
        if found is None:
            if self._is_required:
                raise Refused(Reason.PATH_MISSING, f"{self.place}: “{self.path.text}” leads to nothing")
            return
        unit = word(self._unit.find(item, budget)) or None if self._unit else None
        if not self._spreads:
            name = self._named(names, item, budget)
            kept = self.of(found, name, unit)
            if kept is not None:
                yield name, kept
            return
        if not isinstance(found, dict):
            raise Refused(Reason.BAD_VALUE, f"{self.place}: expected an object to spread, found {said(found)}")
        for key, value in self._flat(found, "", budget, 0):
            name = self._named({**names, "key": key}, item, budget)
            kept = self.of(value, name, unit)
            if kept is not None:
                yield name, kept

    def _flat(self, value: dict[str, Any], before: str, budget: Budget, depth: int) -> Iterator[tuple[str, Any]]:
        for key, inner in value.items():
            budget.pay(1)
            place = f"{before}{key}"
            if self._skip.match(place):
                continue
            if isinstance(inner, dict):
                if depth < _DEEPEST:
                    yield from self._flat(inner, f"{place}.", budget, depth + 1)
            elif not isinstance(inner, list):
                yield place, inner

    def _named(self, names: Mapping[str, str], item: Any, budget: Budget) -> str:  # noqa: ANN401 - JSON
        name = (self._name.filled(names, item, budget) or "").strip()
        if not forms.is_metric(name):
            raise Refused(Reason.BAD_METRIC, f"{self.place}: “{name[: strict.SAID]}” is no name for a metric")
        return name


class _Frame:
    """The bytes of a message, field by field."""

    def __init__(self, frame: mapping.Frame) -> None:
        self._path, self._encoding, self._length = _path(frame.path), frame.encoding, frame.length
        self._fields = [
            (one, one.field, Kept(f"field {place + 1} of the frame", one)) for place, one in enumerate(frame.fields)
        ]

    def values(self, item: Any, budget: Budget) -> dict[str, Scalar]:  # noqa: ANN401 - JSON or bytes
        """Return what the frame holds; nothing where its path leads to nothing."""
        given = item if self._path is None else self._path.find(item, budget)
        if given is None:
            return {}
        if not isinstance(given, bytes | str):
            raise Refused(Reason.BAD_FRAME, f"frame: expected bytes written as text, found {said(given)}")
        try:
            raw = frames.bytes_of(given, self._encoding)
        except frames.BadFrame as error:
            raise Refused(Reason.BAD_FRAME, f"frame: {error}") from None
        if self._length is not None and len(raw) != self._length:
            raise Refused(Reason.BAD_FRAME, f"frame: it has {len(raw)} bytes, expected {self._length}")
        found: dict[str, Scalar] = {}
        for one, where, kept in self._fields:
            budget.pay(1)
            value = self._raw(raw, one, where, kept.place)
            final = None if value is None else kept.of(value, one.name)
            if final is not None:
                found[one.name] = final
        return found

    @staticmethod
    def _raw(raw: bytes, one: mapping.FrameField, where: frames.Field, place: str) -> float | str | None:
        """Return what a field holds, None where the device says that it measured nothing."""
        if one.optional and len(raw) < (where.at + where.length if where.at >= 0 else -where.at):
            return None
        try:
            value = frames.read(raw, where)
        except frames.BadFrame as error:
            raise Refused(Reason.BAD_FRAME, f"{place} “{one.name}”: {error}") from None
        is_absent = value in one.absent or (isinstance(value, float) and not math.isfinite(value))
        return None if is_absent else value


class _Alarm:
    """One row of alarms."""

    def __init__(self, place: int, alarm: mapping.Alarm) -> None:
        self._place = f"alarm {place + 1}"
        self.path = paths.path(alarm.path)
        self._code, self._message = paths.template(alarm.code), paths.template(alarm.message)
        self._severity, self._severities = paths.template(alarm.severity), alarm.severities
        self._raised, self._cleared = {*map(word, alarm.raised)}, {*map(word, alarm.cleared)}

    def faults(self, item: Any, names: Mapping[str, str], ts_ms: int | None, budget: Budget) -> Iterator[Fault]:  # noqa: ANN401
        """Return what the message says of the alarm, nothing where it does not speak of it."""
        found = self.path.find(item, budget)
        is_raised = None if found is None else self._verdict(found)
        if is_raised is None:
            return
        code = (self._code.filled(names, item, budget) or "").strip()
        if not 0 < len(code) <= _LONGEST_CODE or not code.isprintable():
            raise Refused(Reason.BAD_ALARM, f"{self._place}: “{code[: strict.SAID]}” is no code")
        severity = ""
        if is_raised:
            told = self._severity.filled(names, item, budget) or ""
            severity = self._severities.get(told, told)
            if severity not in _SEVERITIES:
                raise Refused(Reason.BAD_ALARM, f"{self._place}: “{told[: strict.SAID]}” is no severity")
        message = (self._message.filled(names, item, budget) or "")[:_LONGEST_MESSAGE]
        yield Fault(code, severity, is_raised, message, ts_ms)

    def _verdict(self, found: Any) -> bool | None:  # noqa: ANN401 - JSON
        if isinstance(found, dict | list):
            return bool(found) if not self._raised else None
        told = word(found)
        if not self._raised:
            if self._cleared:
                return told not in self._cleared
            return told.lower() not in _WELL
        if told in self._raised:
            return True
        return False if not self._cleared or told in self._cleared else None


def _path(text: str) -> Path | None:
    return paths.path(text) if text else None


def _is_so(value: object) -> bool:
    return value is not None and value is not False and value not in ("", [], {})


def _of_text(payload: bytes) -> Any:  # noqa: ANN401 - JSON, or the text itself
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError as error:
        raise Refused(Reason.NOT_UTF8, f"byte {error.start} is not UTF-8") from None
    if "\0" in text:
        raise Refused(Reason.BAD_TEXT, "a text holds the character NUL")
    try:
        value = json.loads(text) if text[:1] in {"{", "["} else _scalar(text)
    except (ValueError, RecursionError):
        return text
    return strict.read(payload) if isinstance(value, dict | list) else value


def _scalar(text: str) -> Scalar:
    if text in {"true", "false"}:
        return text == "true"
    try:
        number: Scalar = number_of(text)
    except ValueError:
        return text
    return number
