"""A mapping tried on a sample message, before anything depends on it: what it would give, or what is wrong where."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ingest import frames, mapping, reading
from ingest.decode import MAX_PAYLOAD
from ingest.decoded import Reason
from ingest.mapping import Definition
from ingest.reading import Said
from ingest.strict import Refused
from kernel.errors import Invalid

SENDER: Final = "sample-device"
"""Stands for the device in the trial of a type's decoder."""
Form = Literal["text", "hex"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A message to try a mapping on; ``form`` says how ``payload`` is written down."""

    topic: str
    payload: str
    form: Form = "text"

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Sample":
        """Return a sample as a version keeps it."""
        return cls(value.get("topic", ""), value.get("payload", ""), value.get("form", "text"))

    def dump(self) -> dict[str, str]:
        """Return what a version keeps."""
        return {"topic": self.topic, "payload": self.payload, "form": self.form}

    @property
    def raw(self) -> bytes:
        """The bytes as they would be received.

        Raises:
            Refused: they are not written down as ``form`` says.
        """
        if self.form == "text":
            return self.payload.encode(errors="replace")
        try:
            return frames.bytes_of(self.payload, "hex")
        except frames.BadFrame as error:
            raise Refused(Reason.BAD_FRAME, f"the sample: {error}") from None


@dataclass(frozen=True, slots=True)
class Trial:
    """What a sample gave. ``refusal`` is set where it would have been set aside; ``is_left`` where ``when`` says no."""

    said: tuple[Said, ...] = ()
    refusal: Refused | None = None
    is_left: bool = False

    @property
    def is_good(self) -> bool:
        """Whether the mapping understood the sample."""
        return self.refusal is None and not self.is_left


def run(definition: Definition, sample: Sample, *, now_ms: int) -> Trial:
    """Return what a mapping makes of a sample; touches nothing."""
    reader = reading.Reader(definition)
    topic = sample.topic.strip()
    if definition.topic and not reader.takes(topic):
        return Trial(
            refusal=Refused(Reason.UNKNOWN_TOPIC, f"the topic “{topic[:120]}” does not fit {definition.topic}")
        )
    try:
        raw = sample.raw
        if len(raw) > MAX_PAYLOAD:
            raise Refused(Reason.OVERSIZE, f"larger than {MAX_PAYLOAD} bytes")  # noqa: TRY301 - one answer for all
        told = reader.read(topic, raw, now_ms, sender="" if definition.topic else SENDER)
    except Refused as refusal:
        return Trial(refusal=refusal)
    return Trial(is_left=True) if told is None else Trial(tuple(told))


def demand(value: Mapping[str, Any], sample: Sample, *, now_ms: int) -> Definition:
    """Return a definition that understood its sample: what every version must have done before it is kept.

    Raises:
        DefinitionRefused: it breaks the grammar.
        Invalid: the sample is missing, or the definition makes nothing of it.
    """
    definition = mapping.parse(value)
    if not sample.payload.strip():
        raise Invalid("Try it on a message first: paste one as the system sends it.", field="sample")
    trial = run(definition, sample, now_ms=now_ms)
    if trial.refusal is not None:
        raise Invalid("The sample is not understood: {reason}", field="sample", reason=trial.refusal.detail)
    if trial.is_left:
        raise Invalid("The condition does not hold for the sample, so it proves nothing.", field="sample")
    return definition
