"""What devices say besides readings: alarms, attributes, online or offline, answers to commands.

Rare beside readings, so they are read one at a time and in the strict way.
"""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec

from ingest import forms, strict
from ingest.decoded import AlarmReport, AttributesReport, CommandReply, Reason, StatusReport
from ingest.strict import Refused
from ingest.topics import Topic

MAX_SEQ: Final = 2**53
"""Sequence numbers stay exact in every JSON reader."""

Severity = Literal["critical", "major", "minor", "warning", "info"]
Believe = Callable[[int | None], tuple[int, int | None]]
"""Turns a device time into (time to store, the device's own if it was not believed), in ms since 1970."""


class _Alarm(msgspec.Struct):
    code: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    state: Literal["raised", "cleared"]
    seq: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)] | None = None
    severity: Severity | None = None
    message: Annotated[str, msgspec.Meta(max_length=2000)] = ""


def alarm(message: int, topic: Topic, payload: bytes, believe: Believe) -> AlarmReport:
    """Return the alarm of a payload.

    Fields beyond the contract are left alone, and ``seq`` may be missing: an alarm is too dear to refuse. One
    without ``seq`` has a negative number and is not acknowledged to the device.

    Raises:
        Refused: a field of the contract is missing or wrong.
    """
    value = _object(payload, Reason.BAD_ALARM)
    if "device" in value:
        forms.own_device(value["device"], topic.device)
    instant = forms.ts_ms(value["ts"]) if "ts" in value else None
    try:
        said = msgspec.convert(value, _Alarm)
    except msgspec.ValidationError as error:
        raise Refused(Reason.BAD_ALARM, str(error)) from None
    if said.state == "raised" and said.severity is None:
        raise Refused(Reason.BAD_ALARM, "a raised alarm needs a severity")
    ts_ms, device_ts_ms = believe(instant)
    return AlarmReport(
        message,
        topic.device,
        unnumbered(payload, ts_ms) if said.seq is None else said.seq,
        said.code,
        said.severity or "",
        said.state == "raised",
        said.message,
        ts_ms,
        device_ts_ms,
    )


def unnumbered(payload: bytes, ts_ms: int) -> int:
    """Return a number for an alarm without one: negative, and the same for the same bytes at the same time.

    A redelivery is so recognised where the device gave a time. Where it gave none, the time is that of reception:
    a redelivery then counts once more, because to take two alarms for one would lose the second.
    """
    digest = hashlib.blake2b(payload + ts_ms.to_bytes(8, "big", signed=True), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "big") >> 1)


def attributes(message: int, topic: Topic, payload: bytes) -> AttributesReport:
    """Return the attributes of a payload.

    Raises:
        Refused: it is no JSON object, is empty, or names another device.
    """
    value = _object(payload, Reason.BAD_FORM)
    if "device" in value:
        forms.own_device(value["device"], topic.device)
    if not value:
        raise Refused(Reason.EMPTY, "there are no attributes")
    return AttributesReport(message, topic.device, value)


def status(message: int, topic: Topic, payload: bytes, *, is_replayed: bool) -> StatusReport:
    """Return the status of a payload.

    Raises:
        Refused: it is neither ``online`` nor ``offline``.
    """
    if payload not in (b"online", b"offline"):
        raise Refused(Reason.BAD_STATUS, f"expected online or offline, found {payload[:40]!r}")
    return StatusReport(message, topic.device, payload == b"online", is_replayed)


def reply(message: int, topic: Topic, payload: bytes) -> CommandReply:
    """Return the answer of a device to a command.

    Raises:
        Refused: it is no JSON object.
    """
    return CommandReply(message, topic.device, topic.command_id, _object(payload, Reason.BAD_FORM))


def _object(payload: bytes, otherwise: Reason) -> dict[str, Any]:
    value = strict.read(payload)
    if not isinstance(value, dict):
        raise Refused(otherwise, "expected an object")
    return value
