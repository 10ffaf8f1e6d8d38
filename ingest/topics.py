"""What a topic means and who may use it: the MQTT contract, for the decoder, both brokers and their rights.

A device uses its own subtree and nothing else. The lists of subtopics below are the one place that says so:
the embedded broker asks them, and Mosquitto's access file is written from them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

ROOT: Final = "fw/v1"
SPARKPLUG_ROOT: Final = "spBv1.0"

DEVICE_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
"""1 to 64 letters, digits, dots, hyphens and underscores, the first a letter or digit.

No slash, plus, hash or dollar, which mean something in topics, and no colon or blank, which mean something in
Mosquitto's files. A key cannot begin with an underscore, so the accounts of the platform may.
"""
COMMAND_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

DEVICE_PUBLISHES: Final = (
    "telemetry", "attributes", "alarm", "status", "command/+/reply", "gateway/telemetry", "raw",
)  # fmt: skip
DEVICE_SUBSCRIBES: Final = ("alarm/ack", "command/+")
SPARKPLUG_PUBLISHES: Final = (
    "+/NBIRTH/{device}", "+/NDATA/{device}", "+/NDEATH/{device}",
    "+/DBIRTH/{device}/+", "+/DDATA/{device}/+", "+/DDEATH/{device}/+",
)  # fmt: skip
SPARKPLUG_SUBSCRIBES: Final = ("+/NCMD/{device}", "+/DCMD/{device}/+", "STATE/+")

_NODE_DEPTH: Final = 4  # spBv1.0 / group / verb / node
_UNDERSTOOD: Final = 1_048_576


class Kind(IntEnum):
    """What a message is about. ``UNKNOWN`` topics are kept as rejected."""

    UNKNOWN = 0
    TELEMETRY = 1
    ATTRIBUTES = 2
    ALARM = 3
    STATUS = 4
    REPLY = 5
    GATEWAY = 6
    SPARKPLUG = 7
    RAW = 8
    LINE = 9
    CSV = 10


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic understood. ``device`` is empty where the topic names none that could exist.

    ``command_id`` is set for a ``REPLY``. ``fault`` says why the kind is ``UNKNOWN``.
    """

    name: str
    kind: Kind
    device: str = ""
    command_id: str = ""
    fault: str = ""


_KINDS: Final[dict[tuple[str, ...], Kind]] = {
    ("telemetry",): Kind.TELEMETRY,
    ("attributes",): Kind.ATTRIBUTES,
    ("alarm",): Kind.ALARM,
    ("status",): Kind.STATUS,
    ("gateway", "telemetry"): Kind.GATEWAY,
    ("raw",): Kind.RAW,
    # Of the HTTP intake alone: no device may publish here, so these stand in none of the lists above.
    ("lines", "ns"): Kind.LINE,
    ("lines", "us"): Kind.LINE,
    ("lines", "ms"): Kind.LINE,
    ("lines", "s"): Kind.LINE,
    ("csv",): Kind.CSV,
}
_REPLY_LEVELS: Final = 3  # command / {id} / reply


def is_device_key(key: str) -> bool:
    """Return whether a device may be called this."""
    return DEVICE_KEY.fullmatch(key) is not None


def parse(name: str) -> Topic:
    """Return the meaning of a topic name; a name outside the contract is ``Kind.UNKNOWN`` with its fault."""
    if name.startswith(f"{SPARKPLUG_ROOT}/"):
        return _sparkplug(name)
    if not name.startswith(f"{ROOT}/"):
        return Topic(name, Kind.UNKNOWN, fault="unknown_topic")
    device, *rest = name[len(ROOT) + 1 :].split("/")
    if not is_device_key(device):
        return Topic(name, Kind.UNKNOWN, fault="bad_device_key")
    kind = _KINDS.get(tuple(rest))
    if kind is not None:
        return Topic(name, kind, device)
    if len(rest) == _REPLY_LEVELS and rest[0] == "command" and rest[2] == "reply" and COMMAND_ID.fullmatch(rest[1]):
        return Topic(name, Kind.REPLY, device, command_id=rest[1])
    return Topic(name, Kind.UNKNOWN, device, fault="unknown_topic")


def _sparkplug(name: str) -> Topic:
    levels = name.split("/")
    if levels[1] == "STATE":
        return Topic(name, Kind.SPARKPLUG)
    if len(levels) not in (_NODE_DEPTH, _NODE_DEPTH + 1) or not all(levels):
        return Topic(name, Kind.UNKNOWN, fault="unknown_topic")
    if not is_device_key(levels[3]):
        return Topic(name, Kind.UNKNOWN, fault="bad_device_key")
    return Topic(name, Kind.SPARKPLUG, levels[3])


@lru_cache(maxsize=65_536)
def may_publish(device: str, name: str) -> bool:
    """Return whether a device may publish to a topic, or leave a last will there."""
    return any(matches(pattern, name) for pattern in patterns(device, DEVICE_PUBLISHES, SPARKPLUG_PUBLISHES))


def may_subscribe(device: str, topic_filter: str) -> bool:
    """Return whether a device may subscribe to a filter.

    A filter is allowed when it is one of its patterns, or names one topic such a pattern matches; any other
    wildcard would reach beyond.
    """
    allowed = patterns(device, DEVICE_SUBSCRIBES, SPARKPLUG_SUBSCRIBES)
    if "+" in topic_filter or "#" in topic_filter:
        return topic_filter in allowed
    return any(matches(pattern, topic_filter) for pattern in allowed)


def patterns(device: str, own: Sequence[str], sparkplug: Sequence[str]) -> list[str]:
    """Return topic patterns with the device's key, or a broker's placeholder for it, filled in."""
    return [f"{ROOT}/{device}/{subtopic}" for subtopic in own] + [
        f"{SPARKPLUG_ROOT}/{pattern.format(device=device)}" for pattern in sparkplug
    ]


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern of plain levels and ``+`` matches a topic name; ``+`` takes no empty level."""
    levels, names = pattern.split("/"), name.split("/")
    return len(levels) == len(names) and all(
        level == named or (level == "+" and named not in ("", "+", "#"))
        for level, named in zip(levels, names, strict=True)
    )


class Understood(dict[str, Topic]):
    """Topics understood so far. Topics repeat, so each is parsed once; the memory of them is bounded.

    ``understood[name]`` always answers, and ``understood.get`` is the quick way for names already met.
    """

    def __init__(self, limit: int = _UNDERSTOOD) -> None:
        super().__init__()
        self._limit = limit

    def __missing__(self, name: str) -> Topic:
        # Forgetting all at the bound costs one parse each; a queue of ages would cost every message.
        if len(self) >= self._limit:
            self.clear()
        topic = self[name] = parse(name)
        return topic
