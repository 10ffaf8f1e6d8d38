"""Readings as CSV, one row at a time: ``ts,metric,value`` in any order, or one column a metric.

A column ``device`` says whose readings a row holds. ``ts`` is whole milliseconds since 1970 or ISO 8601; a time
without an offset is of the zone that was stated, and refused where none was. A local time that clocks skipped when they
were put forward is read with the offset before (02:30 becomes 03:30), one that they showed twice is the first. A row
travels with its header, so that it can be understood, kept and tried again on its own.
"""

import csv
import io
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from ingest.decoded import Reason
from ingest.forms import Element, Scalar, elements
from ingest.strict import SAID, Refused
from kernel.errors import Invalid

_DEVICE, _TS, _METRIC, _VALUE = "device", "ts", "metric", "value"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_NOT_FINITE: Final = frozenset({"nan", "inf", "+inf", "-inf", "infinity", "-infinity"})
_BOOLEANS: Final = {"true": True, "false": False}


def split(body: bytes, zone: str) -> Iterator[tuple[int, bytes]]:
    """Yield the line, from 1, at which each row begins, and the row as a message of its own.

    Raises:
        Invalid: the zone or the header cannot be used, or the file is not UTF-8; nothing of it was read.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid("The file is not UTF-8: byte {n}.", field="body", n=error.start) from None
    return pieces(iter(text.splitlines(keepends=True)), zone)


def pieces(lines: Iterator[str], zone: str) -> Iterator[tuple[int, bytes]]:
    """Yield the rows of a file whose lines come one by one, as ``split`` does; no more than a row is held.

    Raises:
        Invalid: the zone or the header cannot be used, or what follows is no CSV; then nothing more is read.
    """
    if zone:
        zone_of(zone)
    header = next(lines, "").strip()
    _columns(header)
    return _rows(lines, zone, header)


def _rows(lines: Iterator[str], zone: str, header: str) -> Iterator[tuple[int, bytes]]:
    held: list[str] = []

    def noted() -> Iterator[str]:
        for line in lines:
            held.append(line)
            yield line

    reader = csv.reader(noted(), delimiter=_separator(header))
    begin = 2
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise Invalid("The file is no CSV: {why}", field="body", why=error) from None
        if any(cell.strip() for cell in row):
            yield begin, f"{zone}\n{header}\n{''.join(held)}".encode()
        begin += len(held)
        held.clear()


def read(payload: bytes, sender: str) -> tuple[str, Element]:
    """Return whose readings a row holds, and the readings.

    Raises:
        Refused: the row does not fit its header, or a value cannot be kept; nothing of it may then be used.
    """
    try:
        zone, header, row = payload.decode().split("\n", 2)
        columns = _columns(header)
        cells = next(csv.reader(io.StringIO(row, newline=""), delimiter=_separator(header)))
    except (UnicodeDecodeError, ValueError, StopIteration, csv.Error, Invalid):
        raise Refused(Reason.BAD_FORM, "expected a zone, a header and a row") from None
    if len(cells) != len(columns):
        raise Refused(Reason.BAD_FORM, f"the header has {len(columns)} columns, the row {len(cells)}")
    named = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    device, ts = named.pop(_DEVICE, ""), named.pop(_TS)
    if _METRIC in named:
        named = {named[_METRIC]: named[_VALUE]}
    said: dict[str, object] = {"values": {name: _value(cell, name) for name, cell in named.items() if cell}}
    if ts:
        said["ts"] = _ms(ts, zone)
    [element] = elements(said, sender)
    return device or sender, element


@lru_cache(256)
def _columns(header: str) -> tuple[str, ...]:
    columns = tuple(name.strip() for name in next(csv.reader([header], delimiter=_separator(header)), []))
    if _TS not in columns or len(set(columns)) != len(columns) or len(set(columns) - {_TS, _DEVICE}) == 0:
        raise Invalid("The first line must read ts,metric,value, or ts and a column for each metric.", field="body")
    if _METRIC in columns and set(columns) - {_TS, _DEVICE} != {_METRIC, _VALUE}:
        raise Invalid("The first line must read ts,metric,value, or ts and a column for each metric.", field="body")
    return columns


def _separator(header: str) -> str:
    return ";" if ";" in header and "," not in header else ","


@lru_cache(64)
def zone_of(name: str) -> tzinfo:
    """Return a time zone of IANA's.

    Raises:
        Invalid: there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # not found is a KeyError, a path that leads out a ValueError
        raise Invalid("There is no time zone {zone}.", field="zone", zone=name[:SAID]) from error


def _value(text: str, name: str) -> Scalar:
    if _NUMBER.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise Refused(Reason.NOT_FINITE, f"“{name[:SAID]}” is too large for a number")
        return int(text) if text.lstrip("+-").isdigit() else number
    if text.lower() in _NOT_FINITE:
        raise Refused(Reason.NOT_FINITE, f"“{name[:SAID]}” is {text}")
    return _BOOLEANS.get(text.lower(), text)


def _ms(text: str, zone: str) -> int:
    if _MS.fullmatch(text):
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(Reason.BAD_TS, f"“{text[:SAID]}” is no time: milliseconds since 1970, or ISO 8601") from None
    if at.tzinfo is None:
        if not zone:
            raise Refused(Reason.BAD_TS, f"“{text[:SAID]}” has no offset, and no zone was stated")
        at = at.replace(tzinfo=zone_of(zone))
    return (at - _EPOCH) // timedelta(milliseconds=1)
