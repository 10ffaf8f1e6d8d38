"""The language of payload mappings: what a message of somebody else's format means, as data (ING-12).

A mapping says which topics it reads, where in a payload the device, the time, the metrics and the alarms stand, and
how numbers become those of the unit wanted. It is read and checked here once; ``ingest.reading`` applies it. Paths
are JMESPath (``ingest.paths``); where a text is made up, ``{name}`` stands for a level of the topic or the key of an
entry, and ``{=path}`` for what a path leads to.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ingest import frames, paths, topics
from kernel.i18n import noop
from rules.faults import DefinitionRefused, Problem, found_by
from telemetry import units

LONGEST_TOPIC: Final = 200
WEBHOOKS: Final = "webhook/"
"""Messages that came by HTTP stand under this, and no broker carries them."""
MOST_ROWS: Final = 200
_LEVEL_NAME: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,39})\}", re.ASCII)
_RESERVED_TREES: Final = (topics.ROOT.split("/", 1)[0], topics.SPARKPLUG_ROOT, "$share", "$SYS")

Text = Annotated[str, Field(max_length=paths.LONGEST)]
Scalar = bool | Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True, allow_inf_nan=False)] | str
Severity = Literal["critical", "major", "minor", "warning", "info"]
Scale = Annotated[float, Field(allow_inf_nan=False)]
Bytes = Literal["ABCD", "CDAB", "BADC", "DCBA"]
"""The order of bytes as makers of Modbus devices write it: ABCD is big-endian, DCBA little-endian."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Each(_Part):
    """Go through a list, or the entries of an object; ``name`` is what templates call an entry's key or place."""

    path: Text = "@"
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,39}$")] = "key"


class Time(_Part):
    """Where the time stands. Without one, the time of receipt counts.

    ``base`` is added to it where it is given. An ``iso`` time without an offset is of ``zone``.
    """

    path: Text
    form: Literal["ms", "s", "iso"] = "ms"
    base: Text = ""
    zone: str = "UTC"


class Amount(_Part):
    """How a value becomes the one that is kept: by its word, or as ``value * scale + offset``, then in another unit.

    ``values`` turns what is sent into what is kept, e.g. ``{"ON": true, "OFF": false}``.
    """

    kind: Literal["any", "number", "boolean", "text"] = "any"
    values: dict[str, Scalar] = Field(default_factory=dict, max_length=MOST_ROWS)
    unit: str = ""
    to: str = ""
    scale: Scale = 1.0
    offset: Scale = 0.0


class Metric(Amount):
    """One metric, or with ``spread`` every value of an object, however deep: ``{key}`` is then its place in it."""

    name: Text = ""
    path: Text
    spread: bool = False
    skip: tuple[Text, ...] = Field(default=(), max_length=MOST_ROWS)
    unit_path: Text = ""
    required: bool = False


class FrameField(Amount):
    """One value of a byte frame; see ``ingest.frames.Field``."""

    name: Text
    at: Annotated[int, Field(ge=-frames.MAX_FRAME, lt=frames.MAX_FRAME)]
    type: frames.Kind = "uint16"
    order: Bytes = "ABCD"
    bit: Annotated[int, Field(ge=0, le=63)] | None = None
    bits: Annotated[int, Field(ge=1, le=64)] = 1
    size: Annotated[int, Field(ge=0, le=255)] = 0
    absent: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(default=(), max_length=8)
    """Raw numbers that mean "not measured", e.g. 0x7FFF."""
    optional: bool = False
    """A frame that ends before it is in order."""

    @property
    def field(self) -> frames.Field:
        """Where it stands, as ``ingest.frames`` has it."""
        order: frames.Order = "big" if self.order in {"ABCD", "CDAB"} else "little"
        words: frames.Order = "big" if self.order in {"ABCD", "BADC"} else "little"
        return frames.Field(self.at, self.type, order, words, self.bit, self.bits, self.size)


class Frame(_Part):
    """Bytes within a payload, or the payload itself where ``path`` is empty; its fields are metrics by themselves."""

    path: Text = ""
    encoding: frames.Encoding = "bytes"
    length: Annotated[int, Field(ge=1, le=frames.MAX_FRAME)] | None = None
    fields: tuple[FrameField, ...] = Field(min_length=1, max_length=MOST_ROWS)


class Alarm(_Part):
    """A field that says whether something is wrong. A message without the field says nothing about it.

    Raised where the value is one of ``raised``, or with none given where it is neither false, 0, nor empty; cleared
    where it is one of ``cleared``, or with none given anything else.
    """

    path: Text
    code: Annotated[Text, Field(min_length=1)]
    severity: Severity | Annotated[str, Field(pattern=r"^\{.*\}$", max_length=paths.LONGEST)] = "major"
    severities: dict[str, Severity] = Field(default_factory=dict, max_length=MOST_ROWS)
    message: Text = ""
    raised: tuple[Scalar, ...] = Field(default=(), max_length=MOST_ROWS)
    cleared: tuple[Scalar, ...] = Field(default=(), max_length=MOST_ROWS)


class Status(_Part):
    """A field that says whether the device can be reached."""

    path: Text = "@"
    online: tuple[Scalar, ...] = Field(default=("online", "Online", "true", True), min_length=1, max_length=MOST_ROWS)
    offline: tuple[Scalar, ...] = Field(
        default=("offline", "Offline", "false", False), min_length=1, max_length=MOST_ROWS
    )


class Definition(_Part):
    """A mapping. Without a ``topic`` it is the decoder of a device type and reads ``fw/v1/{device}/raw``."""

    schema_: Literal[1] = Field(1, alias="schema")
    topic: Annotated[str, Field(max_length=LONGEST_TOPIC)] = ""
    format: Literal["json", "text", "senml", "frame"] = "json"
    when: Text = ""
    otherwise: Literal["pass", "ignore"] = "pass"
    each: tuple[Each, ...] = Field(default=(), max_length=3)
    device: Text = ""
    tidy: bool = False
    time: Time | None = None
    frame: Frame | None = None
    metrics: tuple[Metric, ...] = Field(default=(), max_length=MOST_ROWS)
    alarms: tuple[Alarm, ...] = Field(default=(), max_length=MOST_ROWS)
    status: Status | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.metrics or self.alarms or self.status or self.frame):
            raise ValueError(noop("It gives neither metrics nor alarms nor a state."))
        if self.format == "frame" and (self.frame is None or self.frame.path):
            raise ValueError(noop("A payload of bytes needs the description of its frame, without a path."))
        return self


def parse(value: Mapping[str, Any]) -> Definition:
    """Return a definition.

    Raises:
        DefinitionRefused: it breaks the grammar; every fault found is named with its place.
    """
    try:
        definition = Definition.model_validate(value)
    except ValidationError as error:
        raise DefinitionRefused(found_by(error)) from error
    problems = [*_problems(definition)]
    if problems:
        raise DefinitionRefused(problems)
    return definition


def dump(definition: Definition) -> dict[str, Any]:
    """Return a definition as JSON holds it, without what is as it would be anyway."""
    return {"schema": 1, **definition.model_dump(mode="json", by_alias=True, exclude_defaults=True)}


# Topics --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def pattern(topic: str) -> re.Pattern[str]:
    """Return what the topics of a mapping match; the names of its levels are groups."""
    levels = []
    for level in topic.split("/"):
        if level == "#":
            levels.append(".*")
            continue
        end, written = 0, ""
        for found in _LEVEL_NAME.finditer(level):
            written += re.escape(level[end : found.start()]) + f"(?P<{found[1]}>[^/+#]+?)"
            end = found.end()
        written += re.escape(level[end:]) if level != "+" else "[^/+#]+"
        levels.append(written)
    return re.compile("/".join(levels), re.DOTALL)


def topic_filter(topic: str) -> str:
    """Return the MQTT filter that brings a mapping's messages, and perhaps some more."""
    return "/".join("+" if "{" in level else level for level in topic.split("/"))


def names_in(topic: str) -> set[str]:
    """Return the names that a topic gives."""
    return set(_LEVEL_NAME.findall(topic))


def may_meet(one: str, other: str) -> bool:
    """Return whether some topic could match both filters."""
    ours, theirs = one.split("/"), other.split("/")
    for mine, yours in zip(ours, theirs, strict=False):
        if "#" in {mine, yours}:
            return True
        if mine != yours and "+" not in {mine, yours}:
            return False
    # A trailing # stands for no level, too.
    rest = ours[len(theirs) :] or theirs[len(ours) :]
    return not rest or rest == ["#"]


# Checks --------------------------------------------------------------------------------------------------------


def _problems(definition: Definition) -> Iterable[Problem]:
    if definition.topic:
        yield from _topic_problems(definition.topic)
        if not definition.device:
            yield Problem("device", noop("Say where the device's key stands, e.g. {device} for a level of the topic."))
    elif definition.device:
        yield Problem("device", noop("The decoder of a type speaks for the device that sends; leave this empty."))
    yield from _text_problems(definition)
    yield from _amount_problems(definition)
    yield from _frame_problems(definition)
    if definition.time is not None and not _is_zone(definition.time.zone):
        yield Problem("time.zone", noop("There is no time zone of this name."))


def _text_problems(definition: Definition) -> Iterable[Problem]:
    for number, metric in enumerate(definition.metrics):
        if not metric.name and not metric.spread:
            yield Problem(f"metrics.{number}.name", noop("This is missing."))
    known = names_in(definition.topic) | {each.name for each in definition.each} | {"key"}
    for place, text in _templates(definition):
        yield from _template_problems(place, text, known)
    for place, text in _paths(definition):
        try:
            paths.path(text)
        except paths.BadPath as error:
            yield Problem(place, noop("This is no path: {reason}"), {"reason": str(error)})


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name or "UTC")
    except (ValueError, OSError, KeyError):
        return False
    return True


def _topic_problems(topic: str) -> Iterable[Problem]:
    levels = topic.split("/")
    names = _LEVEL_NAME.findall(topic)
    if not topic or topic[0] == "$" or not all(levels) or not topic.isprintable():
        yield Problem("topic", noop("A topic is made of levels with slashes between them, none of them empty."))
    elif levels[0] in _RESERVED_TREES:
        yield Problem("topic", noop("Topics under {tree}/ have a meaning of their own."), {"tree": levels[0]})
    elif levels[0] == "#" or (all(map(_is_open, levels)) and "#" in levels) or all(map(_is_open, levels)):
        yield Problem("topic", noop("This would take every topic there is; name at least one level."))
    elif "#" in levels[:-1] or any(_is_crooked(level) for level in levels):
        yield Problem("topic", noop("+ stands for one whole level, # for all that follow at the end."))
    elif len(names) != len(set(names)):
        yield Problem("topic", noop("A name stands in it twice."))


def _is_open(level: str) -> bool:
    return level in {"+", "#"} or not _LEVEL_NAME.sub("", level)


def _is_crooked(level: str) -> bool:
    rest = _LEVEL_NAME.sub("", level)
    return "}{" in level or (level not in {"+", "#"} and any(sign in rest for sign in "+#{}"))


def _template_problems(place: str, text: str, known: set[str]) -> Iterable[Problem]:
    try:
        unknown = paths.template(text).names - known
    except paths.BadPath as error:
        yield Problem(place, noop("This is no text with names in braces: {reason}"), {"reason": str(error)})
        return
    for name in sorted(unknown):
        yield Problem(place, noop("Neither the topic nor an entry is called “{name}”."), {"name": name})


def _templates(definition: Definition) -> Iterable[tuple[str, str]]:
    yield "device", definition.device
    for place, metric in enumerate(definition.metrics):
        yield f"metrics.{place}.name", metric.name
    for place, alarm in enumerate(definition.alarms):
        yield f"alarms.{place}.code", alarm.code
        yield f"alarms.{place}.message", alarm.message
        yield f"alarms.{place}.severity", alarm.severity


def _paths(definition: Definition) -> Iterable[tuple[str, str]]:
    optional = [("when", definition.when)]
    for place, each in enumerate(definition.each):
        yield f"each.{place}.path", each.path
    if definition.time is not None:
        yield "time.path", definition.time.path
        optional.append(("time.base", definition.time.base))
    if definition.frame is not None:
        optional.append(("frame.path", definition.frame.path))
    for place, metric in enumerate(definition.metrics):
        yield f"metrics.{place}.path", metric.path
        optional.append((f"metrics.{place}.unit_path", metric.unit_path))
    for place, alarm in enumerate(definition.alarms):
        yield f"alarms.{place}.path", alarm.path
    if definition.status is not None:
        yield "status.path", definition.status.path
    yield from ((place, text) for place, text in optional if text)


def _amount_problems(definition: Definition) -> Iterable[Problem]:
    rows: list[tuple[str, Amount, bool]] = [
        (f"metrics.{place}", metric, bool(metric.unit_path)) for place, metric in enumerate(definition.metrics)
    ]
    if definition.frame is not None:
        rows += [(f"frame.fields.{place}", field, False) for place, field in enumerate(definition.frame.fields)]
    for place, amount, finds_unit in rows:
        if amount.to and not (amount.unit or finds_unit):
            yield Problem(f"{place}.unit", noop("Say which unit it comes in, too."))
        if amount.unit and not amount.to:
            yield Problem(f"{place}.to", noop("Say which unit it shall be kept in, too."))
        try:
            units.conversion(amount.unit or amount.to, amount.to) if amount.to else None
        except units.UnknownUnit as error:
            yield Problem(f"{place}.unit", noop("These units do not fit: {reason}"), {"reason": str(error)})


def _frame_problems(definition: Definition) -> Iterable[Problem]:
    for place, one in enumerate(definition.frame.fields if definition.frame else ()):
        where = f"frame.fields.{place}"
        size = one.field.length
        if not one.name:
            yield Problem(f"{where}.name", noop("This is missing."))
        if one.type == "text" and not one.size:
            yield Problem(f"{where}.size", noop("A text needs its number of bytes."))
        if one.bit is not None:
            if not one.type.startswith(("uint", "int")):
                yield Problem(f"{where}.bit", noop("Only whole numbers have bits."))
            elif one.bit + one.bits > 8 * size:
                yield Problem(f"{where}.bit", noop("There are only {n} bits."), {"n": 8 * size})
        length = definition.frame.length if definition.frame else None
        if one.at < 0 and -one.at < size:
            yield Problem(f"{where}.at", noop("It would reach beyond the end."))
        if length is not None and one.at + size > length:
            yield Problem(f"{where}.at", noop("It would reach beyond the end."))
