"""InfluxDB line protocol, one line at a time: what it measures, and by what name we know that.

``measurement[,tag=value…] field=value[,field=value…] [timestamp]``, as Telegraf and many gateways send it. A field
is called ``measurement.field``, and ``measurement`` alone where the field is ``value``. The tag ``device`` says
whose reading it is; every other tag tells series apart and therefore becomes part of the name:
``cpu.usage{core=3}``. No maintained parser exists for Python, only writers; this one is strict and small.
"""

import re
from collections.abc import Iterator
from typing import Final

from ingest.decoded import Reason
from ingest.forms import Element, Scalar, elements
from ingest.strict import SAID, Refused

PRECISIONS: Final = {"ns": 1_000_000, "us": 1_000, "ms": 1, "s": -1_000}
"""Unit of timestamps → how many of it make a millisecond; negative: how many milliseconds make one."""
DEVICE_TAG: Final = "device"

_NAME = r"(?:\\[,= ]|[^,= ])+"
_VALUE = r'(?:"(?:\\.|[^"\\])*"|[^", ]+)'
_LINE: Final = re.compile(
    rf"(?P<measurement>(?:\\[, ]|[^, ])+)(?P<tags>(?:,{_NAME}={_NAME})*)"
    rf" +(?P<fields>{_NAME}={_VALUE}(?:,{_NAME}={_VALUE})*)(?: +(?P<ts>[^ ]+))? *",
    re.DOTALL,
)
_PAIR: Final = re.compile(rf"(?P<name>{_NAME})=(?P<value>{_VALUE})", re.DOTALL)
_TAG: Final = re.compile(rf"(?P<name>{_NAME})=(?P<value>{_NAME})")
_ESCAPED: Final = re.compile(r"\\([,= ])")
_QUOTED: Final = re.compile(r'\\(["\\])')
_WHOLE: Final = re.compile(r"-?[0-9]{1,20}[iu]", re.ASCII)
_FRACTION: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_TIME: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_BOOLEANS: Final = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), False),
}


def split(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number, from 1, and the bytes of each line that says something: no blank line and no comment."""
    for number, line in enumerate(body.split(b"\n"), 1):
        said = line.strip(b" \t\r")
        if said and not said.startswith(b"#"):
            yield number, said


def read(payload: bytes, precision: str, sender: str) -> tuple[str, Element]:
    """Return whose readings a line holds, and the readings.

    Raises:
        Refused: it is no line of the protocol, or a value cannot be kept; nothing of it may then be used.
    """
    try:
        line = payload.decode()
    except UnicodeDecodeError as error:
        raise Refused(Reason.NOT_UTF8, f"byte {error.start} is not UTF-8") from None
    parts = _LINE.fullmatch(line)
    if parts is None:
        raise Refused(Reason.BAD_FORM, "expected measurement[,tag=value] field=value [timestamp]")
    device, measurement, suffix = _series(parts["measurement"], parts["tags"])
    values: dict[str, Scalar] = {}
    for field in _PAIR.finditer(parts["fields"]):
        name = _ESCAPED.sub(r"\1", field["name"])
        metric = f"{measurement}{suffix}" if name == "value" else f"{measurement}.{name}{suffix}"
        if metric in values:
            raise Refused(Reason.DUPLICATE_KEY, f"“{metric[:SAID]}” is given twice")
        values[metric] = _value(field["value"], metric)
    said: dict[str, object] = {"values": values}
    if parts["ts"] is not None:
        said["ts"] = _ms(parts["ts"], precision)
    [element] = elements(said, sender)
    return device or sender, element


def _series(measurement: str, tags: str) -> tuple[str | None, str, str]:
    device, others = None, []
    for tag in _TAG.finditer(tags):
        name, value = _ESCAPED.sub(r"\1", tag["name"]), _ESCAPED.sub(r"\1", tag["value"])
        if name == DEVICE_TAG:
            device = value
        else:
            others.append(f"{name}={value}")
    suffix = "{" + ",".join(sorted(others)) + "}" if others else ""
    return device, _ESCAPED.sub(r"\1", measurement), suffix


def _value(text: str, metric: str) -> Scalar:
    if text.startswith('"'):
        return _QUOTED.sub(r"\1", text[1:-1])
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _WHOLE.fullmatch(text):
        return int(text[:-1])
    if _FRACTION.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise Refused(Reason.NOT_FINITE, f"“{metric[:SAID]}” is too large for a number")
        return number
    if text.lstrip("+-").lower() in ("nan", "inf", "infinity"):
        raise Refused(Reason.NOT_FINITE, f"“{metric[:SAID]}” is {text}")
    raise Refused(Reason.BAD_FORM, f"“{text[:SAID]}” is no number, no boolean and no quoted text")


def _ms(text: str, precision: str) -> int:
    if not _TIME.fullmatch(text):
        raise Refused(Reason.BAD_TS, f"“{text[:SAID]}” is no whole number of {precision}")
    per_ms = PRECISIONS[precision]
    return int(text) // per_ms if per_ms > 0 else int(text) * -per_ms
