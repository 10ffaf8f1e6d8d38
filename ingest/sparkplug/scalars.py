"""What a metric of a Sparkplug message measures, as scalars under names: for the columns that all readings share.

Pure. Integers of every width come as unsigned numbers and are turned back by their type. Members of templates and
cells of data sets become metrics of their own, ``pump/speed``; what cannot be a reading is refused with the reason.
"""

import math
import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Final

from ingest import forms
from ingest.decoded import Reason
from ingest.sparkplug.payload import Metric, Scalar, Table, Template, Value
from ingest.strict import SAID, Refused
from telemetry.readings import MAX_TEXT

MOST_MEMBERS: Final = 256
"""Readings that one metric may become: a table or an array larger than this is no measurement."""


class Type(IntEnum):
    """The data types of Sparkplug 3.0."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATE_TIME = 13
    TEXT = 14
    UUID = 15
    DATA_SET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19
    PROPERTY_SET = 20
    PROPERTY_SET_LIST = 21
    INT8_ARRAY = 22
    INT16_ARRAY = 23
    INT32_ARRAY = 24
    INT64_ARRAY = 25
    UINT8_ARRAY = 26
    UINT16_ARRAY = 27
    UINT32_ARRAY = 28
    UINT64_ARRAY = 29
    FLOAT_ARRAY = 30
    DOUBLE_ARRAY = 31
    BOOLEAN_ARRAY = 32
    STRING_ARRAY = 33
    DATE_TIME_ARRAY = 34


_BITS: Final = {1: 8, 2: 16, 3: 32, 4: 64, 5: 8, 6: 16, 7: 32, 8: 64, Type.DATE_TIME: 64}
_SIGNED: Final = frozenset(range(Type.INT8, Type.INT64 + 1))
_TEXTS: Final = frozenset({Type.STRING, Type.TEXT, Type.UUID})
_ELEMENTS: Final = dict(zip(range(Type.INT8_ARRAY, Type.DOUBLE_ARRAY + 1), "bhiqBHIQfd", strict=True)) | {
    int(Type.DATE_TIME_ARRAY): "q"
}
_CONTROLS: Final = ("Node Control/", "Device Control/")

TypeOf = Callable[[str], int]
"""Answers with the data type that the birth gave a name, 0 where it gave none."""


def is_measured(name: str) -> bool:
    """Return whether a metric is something measured, and neither the number of the session nor a control."""
    return name != "bdSeq" and not name.startswith(_CONTROLS)


def scalars(name: str, datatype: int, value: Value, type_of: TypeOf) -> Iterator[tuple[str, Scalar]]:
    """Give the readings of a metric, each with its name.

    Raises:
        Refused: it is of a kind that no reading can be, or does not fit its type; what came before it is good.
    """
    if isinstance(value, Template):
        yield from _members(name, value, type_of)
    elif isinstance(value, Table):
        yield from _cells(name, value)
    elif isinstance(value, bytes):
        yield from _elements(name, datatype, value)
    else:
        yield name, scalar(name, datatype, value)


def scalar(name: str, datatype: int, value: Scalar) -> Scalar:
    """Return a value as its data type means it; DateTime is a number of milliseconds since 1970.

    Raises:
        Refused: the name cannot be a metric's, or the value does not fit the type.
    """
    if not forms.is_metric(name):
        raise Refused(Reason.BAD_METRIC, f"“{name[:SAID]}” is no name for a metric")
    kind = value.__class__
    if datatype in _BITS and kind is int:
        return _integer(datatype, int(value))
    if datatype in {Type.FLOAT, Type.DOUBLE} and kind in {int, float}:
        if not math.isfinite(float(value)):
            raise Refused(Reason.NOT_FINITE, f"“{name}” is no finite number")
        return float(value)
    if datatype == Type.BOOLEAN and kind in {bool, int}:
        return bool(value)
    if datatype in _TEXTS and isinstance(value, str):
        if len(value) > MAX_TEXT or "\0" in value:
            raise Refused(Reason.BAD_TEXT, f"“{name}” holds NUL or more than {MAX_TEXT} characters")
        return value
    raise Refused(Reason.WRONG_TYPE, f"“{name}” is of type {datatype} and holds a {kind.__name__}")


def _integer(datatype: int, value: int) -> int:
    bits = _BITS[datatype]
    value &= (1 << bits) - 1
    return value - (1 << bits) if datatype in _SIGNED and value >> (bits - 1) else value


def _members(name: str, template: Template, type_of: TypeOf) -> Iterator[tuple[str, Scalar]]:
    if template.is_definition:
        return
    for member in template.members:
        if member.value is not None:
            full = f"{name}/{member.name}"
            yield from scalars(full, member.datatype or type_of(full), member.value, type_of)


def _cells(name: str, table: Table) -> Iterator[tuple[str, Scalar]]:
    if len(table.rows) * len(table.columns) > MOST_MEMBERS:
        raise Refused(Reason.NOT_DECODED, f"“{name[:SAID]}” is a table of more than {MOST_MEMBERS} cells")
    for number, row in enumerate(table.rows):
        place = name if len(table.rows) == 1 else f"{name}/{number}"
        for column, datatype, value in zip(table.columns, table.types, row, strict=False):
            if value is not None:
                yield f"{place}/{column}", scalar(f"{place}/{column}", datatype, value)


def _elements(name: str, datatype: int, value: bytes) -> Iterator[tuple[str, Scalar]]:
    items: list[Scalar]
    if datatype in _ELEMENTS:
        size = struct.calcsize(_ELEMENTS[datatype])
        if len(value) % size:
            raise Refused(Reason.WRONG_TYPE, f"“{name[:SAID]}” is an array of {len(value)} bytes, {size} each")
        count = len(value) // size
        _require_few(name, count)
        items = [*struct.unpack(f"<{count}{_ELEMENTS[datatype]}", value)]
        element = Type.DOUBLE if datatype in {Type.FLOAT_ARRAY, Type.DOUBLE_ARRAY} else Type.INT64
        if datatype == Type.UINT64_ARRAY:
            element = Type.UINT64
    elif datatype == Type.BOOLEAN_ARRAY:
        items, element = _bits(name, value), Type.BOOLEAN
    elif datatype == Type.STRING_ARRAY:
        items, element = _strings(name, value), Type.STRING
    else:
        raise Refused(Reason.NOT_DECODED, f"“{name[:SAID]}” is of type {datatype}: bytes are no reading")
    for number, item in enumerate(items):
        yield f"{name}/{number}", scalar(f"{name}/{number}", element, item)


def _bits(name: str, value: bytes) -> list[Scalar]:
    """Unpack booleans: their number in four bytes, then eight in each byte, the highest bit first."""
    count = int.from_bytes(value[:4], "little")
    _require_few(name, count)
    if len(value) != 4 + (count + 7) // 8:
        raise Refused(Reason.WRONG_TYPE, f"“{name[:SAID]}” is an array of {count} booleans in {len(value)} bytes")
    return [bool(value[4 + place // 8] >> (7 - place % 8) & 1) for place in range(count)]


def _strings(name: str, value: bytes) -> list[Scalar]:
    _require_few(name, value.count(b"\0"))
    try:
        return [*value.decode().split("\0")[:-1]]
    except UnicodeDecodeError:
        raise Refused(Reason.NOT_UTF8, f"“{name[:SAID]}” is not UTF-8") from None


def _require_few(name: str, count: int) -> None:
    if count > MOST_MEMBERS:
        raise Refused(Reason.NOT_DECODED, f"“{name[:SAID]}” is an array of more than {MOST_MEMBERS} values")


def defined(metrics: tuple[Metric, ...]) -> Iterator[tuple[str, int | None, int]]:
    """Give (name, alias, data type) of all that a birth defines, the members of its templates included."""
    for metric in metrics:
        yield metric.name, metric.alias, metric.datatype
        if isinstance(metric.value, Template):
            for name, _, datatype in defined(metric.value.members):
                yield f"{metric.name}/{name}", None, datatype
