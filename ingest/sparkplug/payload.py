"""One Sparkplug message read from its bytes: who speaks, what kind of message it is, and its metrics as they stand.

What a metric means is decided later, in ``ingest.sparkplug.scalars``: a data message names metrics by aliases and
leaves out their types, which only the birth of its sender tells.
"""

import hashlib
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from google.protobuf.message import DecodeError

from ingest.decoded import Reason
from ingest.sparkplug.schema import Payload
from ingest.strict import SAID, Refused

MAX_PAYLOAD: Final = 1024 * 1024
"""A birth lists everything its sender will ever say, so it may be larger than other messages."""
SEQUENCE: Final = 256
"""Sequence numbers and numbers of sessions are counted from 0 up to, and not including, this."""
SESSION: Final = "bdSeq"
"""The metric that tells which session of a node a birth begins and a death ends."""

_LONGEST_LEVEL: Final = 200
_NODE_LEVELS: Final = 4


class Verb(Enum):
    """What kind of message it is: of the node itself, or of a device behind it."""

    NBIRTH = "NBIRTH"
    NDATA = "NDATA"
    NDEATH = "NDEATH"
    DBIRTH = "DBIRTH"
    DDATA = "DDATA"
    DDEATH = "DDEATH"


@dataclass(frozen=True, slots=True)
class Table:
    """The value of a DataSet metric."""

    columns: tuple[str, ...]
    types: tuple[int, ...]
    rows: tuple[tuple["Scalar | None", ...], ...]


@dataclass(frozen=True, slots=True)
class Template:
    """The value of a Template metric: its members, or only their definition."""

    is_definition: bool
    members: "tuple[Metric, ...]"


Scalar = int | float | bool | str
Value = Scalar | bytes | Table | Template


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as it was sent. ``name`` is empty and ``datatype`` 0 where the message leaves them out.

    ``value`` is None for a metric that has none now. ``quality`` is the property of that name, as OPC counts it.
    """

    name: str
    alias: int | None
    datatype: int
    ts_ms: int | None
    value: Value | None
    is_historical: bool = False
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A message. ``message`` is its index in the batch, ``device`` is empty for the node itself.

    ``seq`` is None for deaths of nodes alone. ``digest`` tells the message from every other.
    """

    message: int
    verb: Verb
    group: str
    node: str
    device: str
    ts_ms: int | None
    seq: int | None
    metrics: tuple[Metric, ...]
    digest: int

    @property
    def session(self) -> int | None:
        """The number of the session that a birth or death of a node is about."""
        for metric in self.metrics:
            if metric.name == SESSION and metric.value.__class__ is int:
                return int(metric.value) % SEQUENCE
        return None


def read(message: int, topic: str, payload: bytes) -> Said:
    """Return what a message says.

    Raises:
        Refused: the topic is none of Sparkplug's, the payload is no payload, or it lacks what every one must have.
    """
    verb, group, node, device = _address(topic)
    try:
        sent = Payload.FromString(payload)
    except DecodeError:
        raise Refused(Reason.BAD_FORM, "expected a Sparkplug B payload") from None
    seq = int(sent.seq) if sent.HasField("seq") else None
    if verb is Verb.NDEATH:
        seq = None
    elif seq is None:
        raise Refused(Reason.BAD_FORM, "there is no sequence number")
    elif seq >= SEQUENCE:
        raise Refused(Reason.BAD_FORM, f"the sequence number is {seq}, beyond {SEQUENCE - 1}")
    ts_ms = int(sent.timestamp) if sent.HasField("timestamp") else None
    metrics = tuple(map(_metric, sent.metrics))
    return Said(message, verb, group, node, device, ts_ms, seq, metrics, _digest(topic, payload))


def written(metrics: list[tuple[str, int, str, Scalar]], *, ts_ms: int, seq: int | None = None) -> bytes:
    """Return a payload; a metric is (name, datatype, field of its value, value). Commands bear no ``seq``."""
    payload = Payload(timestamp=ts_ms, seq=seq)
    for name, datatype, field, value in metrics:
        metric = payload.metrics.add(name=name, timestamp=ts_ms, datatype=datatype)
        setattr(metric, field, value)
    encoded: bytes = payload.SerializeToString()
    return encoded


@lru_cache(maxsize=65_536)
def _address(topic: str) -> tuple[Verb, str, str, str]:
    levels = topic.split("/")
    verb = levels[2] if len(levels) >= _NODE_LEVELS else ""
    if verb not in Verb.__members__ or len(levels) != _NODE_LEVELS + (verb[0] == "D"):
        raise Refused(Reason.UNKNOWN_TOPIC, topic[:SAID])
    _, group, _, node, *rest = levels
    device = rest[0] if rest else ""
    for name in (group, device):
        if len(name) > _LONGEST_LEVEL or (name and not name.isprintable()):
            raise Refused(Reason.BAD_DEVICE_KEY, f"“{name[:SAID]}”")
    return Verb[verb], group, node, device


def _metric(sent: Any) -> Metric:  # noqa: ANN401 - a message of the schema
    return Metric(
        _text(sent.name),
        int(sent.alias) if sent.HasField("alias") else None,
        int(sent.datatype),
        int(sent.timestamp) if sent.HasField("timestamp") else None,
        None if sent.is_null else _value(sent),
        bool(sent.is_historical),
        _quality(sent.properties) if sent.HasField("properties") else None,
    )


def _value(sent: Any) -> Value | None:  # noqa: ANN401 - a message of the schema
    field = sent.WhichOneof("value")
    if field is None:
        return None
    value = getattr(sent, field)
    if field == "dataset_value":
        rows = tuple(tuple(map(_element, row.elements)) for row in value.rows)
        return Table(tuple(map(_text, value.columns)), tuple(map(int, value.types)), rows)
    if field == "template_value":
        return Template(bool(value.is_definition), tuple(map(_metric, value.metrics)))
    if field == "string_value":
        return _text(value)
    plain: Value = value
    return plain


def _element(sent: Any) -> Scalar | None:  # noqa: ANN401 - a message of the schema
    value = _value(sent)
    return value if isinstance(value, int | float | str) else None


def _quality(properties: Any) -> int | None:  # noqa: ANN401 - a message of the schema
    for key, value in zip(properties.keys, properties.values, strict=False):
        if key in {"Quality", "quality"} and value.WhichOneof("value") in {"int_value", "long_value"}:
            return int(value.int_value or value.long_value)
    return None


def _text(value: str | bytes) -> str:
    """Return a text; protobuf hands out the bytes of one that is not UTF-8.

    Raises:
        Refused: it is not UTF-8.
    """
    if isinstance(value, bytes):
        raise Refused(Reason.NOT_UTF8, f"{value[:40]!r} is not UTF-8")
    return value


def _digest(topic: str, payload: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(b"\0".join((topic.encode(), payload)), digest_size=8).digest())
