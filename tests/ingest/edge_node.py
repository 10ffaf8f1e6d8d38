"""An edge node as its maker would write it: it counts its messages, knows its aliases, and speaks Sparkplug B."""

from dataclasses import dataclass, field
from typing import Any

from ingest.sparkplug.payload import Scalar
from ingest.sparkplug.scalars import Type
from ingest.sparkplug.schema import Payload

Message = tuple[str, bytes]

_FIELDS: dict[int, str] = {
    Type.FLOAT: "float_value",
    Type.DOUBLE: "double_value",
    Type.BOOLEAN: "boolean_value",
    Type.STRING: "string_value",
    Type.TEXT: "string_value",
    Type.UUID: "string_value",
    Type.BYTES: "bytes_value",
    Type.FILE: "bytes_value",
}
_SMALL = {1, 2, 3, 5, 6, 7}


@dataclass
class M:
    """A metric to send. In data messages leave out the name and give the alias, or the other way round."""

    name: str = ""
    value: Any = None
    type: int = Type.DOUBLE
    alias: int | None = None
    ts: int | None = None
    historical: bool = False
    quality: int | None = None
    typed: bool = True


def put(metric: Any, said: M) -> None:
    given = {"name": said.name or None, "alias": said.alias, "timestamp": said.ts}
    given |= {"datatype": said.type if said.typed else None, "is_historical": said.historical or None}
    for told, value in given.items():
        if value is not None:
            setattr(metric, told, value)
    if said.quality is not None:
        metric.properties.keys.append("Quality")
        metric.properties.values.add(type=3, int_value=said.quality)
    give(metric, said)


def give(metric: Any, said: M) -> None:
    """Set the value in the field of its type; for templates and tables the value sets it itself."""
    if said.value is None:
        metric.is_null = True
    elif callable(said.value):
        said.value(metric)
    elif said.type in _SMALL:
        metric.int_value = said.value & 0xFFFFFFFF
    elif said.type in _FIELDS or said.type >= Type.INT8_ARRAY:
        setattr(metric, _FIELDS.get(said.type, "bytes_value"), said.value)
    else:
        metric.long_value = said.value & (2**64 - 1)


def encoded(metrics: tuple[M, ...], *, ts: int | None, seq: int | None) -> bytes:
    payload = Payload()
    if ts is not None:
        payload.timestamp = ts
    if seq is not None:
        payload.seq = seq
    for said in metrics:
        put(payload.metrics.add(), said)
    data: bytes = payload.SerializeToString()
    return data


@dataclass
class EdgeNode:
    """One edge node; ``at`` is its clock, in ms. Each message takes the next sequence number."""

    name: str = "edge"
    group: str = "plant"
    at: int = 1_795_314_590_000
    session: int = 0
    seq: int = 255
    births: dict[str, tuple[M, ...]] = field(default_factory=dict)

    def birth(self, *metrics: M) -> Message:
        self.seq = 255
        self.births[""] = metrics
        return self._say("NBIRTH", "", (M("bdSeq", self.session, Type.INT64), *metrics))

    def death(self, session: int | None = None) -> Message:
        said = M("bdSeq", self.session if session is None else session, Type.INT64)
        return f"spBv1.0/{self.group}/NDEATH/{self.name}", encoded((said,), ts=self.at, seq=None)

    def data(self, *metrics: M) -> Message:
        return self._say("NDATA", "", metrics)

    def device_birth(self, device: str, *metrics: M) -> Message:
        self.births[device] = metrics
        return self._say("DBIRTH", device, metrics)

    def device_data(self, device: str, *metrics: M) -> Message:
        return self._say("DDATA", device, metrics)

    def device_death(self, device: str) -> Message:
        return self._say("DDEATH", device, ())

    def born_again(self) -> list[Message]:
        births = dict(self.births)
        again = [self.birth(*births.pop(""))]
        return again + [self.device_birth(device, *metrics) for device, metrics in births.items()]

    def skip(self) -> None:
        """Lose a message."""
        self.seq = (self.seq + 1) % 256

    def _say(self, verb: str, device: str, metrics: tuple[M, ...]) -> Message:
        self.seq = (self.seq + 1) % 256
        self.at += 1
        topic = f"spBv1.0/{self.group}/{verb}/{self.name}" + (f"/{device}" if device else "")
        return topic, encoded(metrics, ts=self.at, seq=self.seq)


def temperature(value: Scalar | None, alias: int = 1, **more: Any) -> M:
    """Return a data metric under its alias alone, without a type, as the specification asks."""
    return M("", value, Type.DOUBLE, alias, typed=False, **more)
