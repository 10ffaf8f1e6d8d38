"""Readings as CSV, one row at a time: ``ts,metric,value`` in any order, or one column a metric.

A column ``device`` says whose readings a row holds; in a file of history a column ``asset`` may say it too, by the code
of what was measured. To devices that send CSV themselves, ``asset`` is a metric like any other. ``ts`` is whole
milliseconds since 1970 or ISO 8601; a time without an offset is of the zone that was stated, and refused where none
was. A local time that clocks skipped when they were put forward is read with the offset before (02:30 becomes 03:30),
one that they showed twice is the first. A row travels with its header, so that it can be understood, kept and tried
again on its own.
"""

import csv
import io
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from ingest.decoded import Reason
from ingest.forms import Element, Scalar, elements
from ingest.strict import SAID, Refused
from kernel.errors import Invalid
from kernel.i18n import noop

_DEVICE, _ASSET, _TS, _METRIC, _VALUE = "device", "asset", "ts", "metric", "value"
_OWNERS: Final = frozenset({_DEVICE})
_OWNERS_OF_HISTORY: Final = frozenset({_DEVICE, _ASSET})
"""Columns that say whose readings a row holds."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_NOT_FINITE: Final = frozenset({"nan", "inf", "+inf", "-inf", "infinity", "-infinity"})
_BOOLEANS: Final = {"true": True, "false": False}


class Old(NamedTuple):
    """A row of history: what it names, empty where it names nothing, and its readings."""

    device: str
    asset: str
    element: Element


def split(body: bytes, zone: str) -> Iterator[tuple[int, bytes]]:
    """Yield the line, from 1, at which each row begins, and the row as a message of its own.

    Raises:
        Invalid: the zone or the header cannot be used, or the file is not UTF-8; nothing of it was read.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid("The file is not UTF-8: byte {n}.", field="body", n=error.start) from None
    return _pieces(iter(text.splitlines(keepends=True)), zone, _OWNERS)


def pieces(lines: Iterator[str], zone: str) -> Iterator[tuple[int, bytes]]:
    """Yield the rows of a file of history whose lines come one by one, as ``split`` does; no more than a row is held.

    Raises:
        Invalid: the zone or the header cannot be used, or what follows is no CSV; then nothing more is read.
    """
    return _pieces(lines, zone, _OWNERS_OF_HISTORY)


def _pieces(lines: Iterator[str], zone: str, owners: frozenset[str]) -> Iterator[tuple[int, bytes]]:
    if zone:
        zone_of(zone)
    header = next(lines, "").strip()
    _columns(header, owners)
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
    named, element = _read(payload, _OWNERS)
    return named[_DEVICE] or sender, element


def read_old(payload: bytes) -> Old:
    """Return what a row of a file of history says.

    Raises:
        Refused: as ``read``.
    """
    named, element = _read(payload, _OWNERS_OF_HISTORY)
    return Old(named[_DEVICE], named[_ASSET], element)


def _read(payload: bytes, owners: frozenset[str]) -> tuple[dict[str, str], Element]:
    """Return whose readings a row holds, by the columns that may say so, and the readings."""
    try:
        zone, header, row = payload.decode().split("\n", 2)
        columns = _columns(header, owners)
        cells = next(csv.reader(io.StringIO(row, newline=""), delimiter=_separator(header)))
    except (UnicodeDecodeError, ValueError, StopIteration, csv.Error, Invalid):
        raise Refused(Reason.BAD_FORM, noop("expected a zone, a header and a row")) from None
    if len(cells) != len(columns):
        raise Refused(
            Reason.BAD_FORM,
            noop("the header has {columns} columns, the row {cells}"),
            columns=len(columns),
            cells=len(cells),
        )
    named = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    whose, ts = {owner: named.pop(owner, "") for owner in owners}, named.pop(_TS)
    if _METRIC in named:
        named = {named[_METRIC]: named[_VALUE]}
    said: dict[str, object] = {"values": {name: _value(cell, name) for name, cell in named.items() if cell}}
    if ts:
        said["ts"] = _ms(ts, zone)
    [element] = elements(said, "")
    return whose, element


@lru_cache(256)
def _columns(header: str, owners: frozenset[str]) -> tuple[str, ...]:
    columns = tuple(name.strip() for name in next(csv.reader([header], delimiter=_separator(header)), []))
    measured = set(columns) - owners - {_TS}
    if _TS not in columns or len(set(columns)) != len(columns) or not measured:
        raise Invalid("The first line must read ts,metric,value, or ts and a column for each metric.", field="body")
    if _METRIC in columns and measured != {_METRIC, _VALUE}:
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
            raise Refused(Reason.NOT_FINITE, noop("“{name}” is too large for a number"), name=name[:SAID])
        return int(text) if text.lstrip("+-").isdigit() else number
    if text.lower() in _NOT_FINITE:
        raise Refused(Reason.NOT_FINITE, noop("“{name}” is {text}"), name=name[:SAID], text=text)
    return _BOOLEANS.get(text.lower(), text)


def _ms(text: str, zone: str) -> int:
    if _MS.fullmatch(text):
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(
            Reason.BAD_TS, noop("“{text}” is no time: milliseconds since 1970, or ISO 8601"), text=text[:SAID]
        ) from None
    if at.tzinfo is None:
        if not zone:
            raise Refused(Reason.BAD_TS, noop("“{text}” has no offset, and no zone was stated"), text=text[:SAID])
        at = at.replace(tzinfo=zone_of(zone))
    return (at - _EPOCH) // timedelta(milliseconds=1)
