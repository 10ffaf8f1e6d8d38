"""What a batch of messages said, once understood: readings as columns, reports as small records, rejects.

The types between the decoder and the pipeline. Whether a device exists, may send a metric or has a gateway is
the pipeline's to decide: readings carry the number of a (source, metric) pair, and the caller keeps an array
that turns pairs into series.
"""

import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from telemetry.readings import Flags, Float64s, Int64s, Texts

if TYPE_CHECKING:
    from ingest.sparkplug.payload import Said

Int32s = NDArray[np.int32]


class Reason(StrEnum):
    """Why a message was set aside. The words are stored, so they never change."""

    UNKNOWN_TOPIC = "unknown_topic"
    BAD_DEVICE_KEY = "bad_device_key"
    OVERSIZE = "oversize"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_FINITE = "not_finite"
    TOO_DEEP = "too_deep"
    DUPLICATE_KEY = "duplicate_key"
    BAD_FORM = "bad_form"
    EMPTY = "empty"
    NESTED_VALUE = "nested_value"
    NULL_VALUE = "null_value"
    BAD_TS = "bad_ts"
    BAD_METRIC = "bad_metric"
    BAD_TEXT = "bad_text"
    UNKNOWN_FIELD = "unknown_field"
    FOREIGN_DEVICE = "foreign_device"
    REPLAYED = "replayed"
    BAD_ALARM = "bad_alarm"
    BAD_STATUS = "bad_status"
    UNKNOWN_DEVICE = "unknown_device"
    REVOKED_DEVICE = "revoked_device"
    UNKNOWN_CHILD = "unknown_child"
    UNKNOWN_COMMAND = "unknown_command"
    WRONG_TYPE = "wrong_type"
    NOT_DECODED = "not_decoded"
    PATH_MISSING = "path_missing"
    BAD_VALUE = "bad_value"
    BAD_FRAME = "bad_frame"
    UNKNOWN_UNIT = "unknown_unit"
    BUDGET_SPENT = "budget_spent"
    NO_DECODER = "no_decoder"
    FOREIGN_MAPPING = "foreign_mapping"
    OVER_LIMIT = "over_limit"
    NOT_BORN = "not_born"
    OUT_OF_SEQUENCE = "out_of_sequence"
    UNKNOWN_ALIAS = "unknown_alias"
    HISTORICAL = "historical"
    WORKED_OUT = "worked_out"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message, or one child's part of a gateway's message, that gave nothing.

    ``message`` is its index in the batch. ``device`` is the key it would have counted for, empty if none.
    ``detail`` tells a person what is wrong where, in English. ``unit_id`` is the org unit of the mapping that read it,
    whose people see it where the device is unknown; 0 for messages of the contract.
    """

    message: int
    reason: Reason
    detail: str
    device: str
    unit_id: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """Whose readings these are, and through which gateway they came (empty: its own connection).

    ``within`` is set where a mapping found the device in somebody else's message: the path of the org unit whose
    devices that mapping may speak for, ``admits`` whether it proposes those it does not know, as behind ``bridge``.
    """

    device: str
    gateway: str = ""
    within: str = ""
    admits: bool = False
    bridge: str = ""

    @property
    def unit_id(self) -> int:
        """The org unit of the mapping, 0 where there is none."""
        return int(self.within.rstrip("/").rpartition("/")[2] or 0)


@dataclass(frozen=True, slots=True)
class AlarmReport:
    """An alarm as a device sent it. ``device_ts_ms`` is set where its clock was not believed.

    ``mapped`` is set where a mapping found it in a message: a state that is said again and again, of which only
    changes count. ``is_beside`` says that the message is counted for the device by something else it holds.
    """

    message: int
    device: str
    seq: int
    code: str
    severity: str
    is_raised: bool
    text: str
    ts_ms: int
    device_ts_ms: int | None
    mapped: Source | None = None
    is_beside: bool = False


@dataclass(frozen=True, slots=True)
class AttributesReport:
    """What a device says about itself: a JSON object, at most 16 levels deep."""

    message: int
    device: str
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A device, or its last will, says whether it is online. ``is_replayed``: kept by the broker, not news."""

    message: int
    device: str
    is_online: bool
    is_replayed: bool
    mapped: Source | None = None
    is_beside: bool = False


@dataclass(frozen=True, slots=True)
class CommandReply:
    """A device's answer to a command: a JSON object."""

    message: int
    device: str
    command_id: str
    body: dict[str, Any]


class SeriesNames:
    """Numbers for what readings are named by: sources, and (source, metric) pairs. Both only grow.

    ``sources[n]`` is a ``Source``; ``pairs[n]`` is (number of the source, metric). A caller keeps an array
    beside ``pairs`` with what each stands for, extends it when the list has grown, and starts afresh when a
    batch comes with another ``SeriesNames``. New numbers may be given by two threads, as one batch is read while the
    one before it is finished.
    """

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self.pairs: list[tuple[int, str]] = []
        self._source_of: dict[Source, int] = {}
        self._pair_of: dict[tuple[int, str], int] = {}
        self._giving = threading.Lock()

    def source(self, source: Source) -> int:
        """Return the number of a source, a new one if need be."""
        number = self._source_of.get(source)
        return self._new_source(source) if number is None else number

    def pair(self, source: int, metric: str) -> int:
        """Return the number of a metric of a source, a new one if need be."""
        key = (source, metric)
        number = self._pair_of.get(key)
        return self._new_pair(key) if number is None else number

    def _new_source(self, source: Source) -> int:
        with self._giving:
            if source not in self._source_of:
                self.sources.append(source)
                self._source_of[source] = len(self.sources) - 1
            return self._source_of[source]

    def _new_pair(self, key: tuple[int, str]) -> int:
        with self._giving:
            if key not in self._pair_of:
                self.pairs.append(key)
                self._pair_of[key] = len(self.pairs) - 1
            return self._pair_of[key]


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A batch understood. The first six are columns of one length, one row a reading, in order of reception.

    ``message``: int32, index in the batch. ``pair``: int32, index into ``names.pairs``. ``ts_ms``, ``value``,
    ``flags`` and ``text`` are as in ``telemetry.readings.Readings``. ``skewed`` (int64) are the rows whose
    device clock was not believed (they bear ``Flag.CLOCK``), ``device_ts_ms`` the times it gave.
    ``sparkplug`` are messages whose meaning depends on those before them; ``ingest.sparkplug.follow`` adds their
    readings. ``left`` counts messages that a mapping was told to leave alone.
    """

    names: SeriesNames
    message: Int32s
    pair: Int32s
    ts_ms: Int64s
    value: Float64s
    flags: Flags
    text: Texts | None
    skewed: Int64s
    device_ts_ms: Int64s
    alarms: list[AlarmReport] = field(default_factory=list)
    attributes: list[AttributesReport] = field(default_factory=list)
    statuses: list[StatusReport] = field(default_factory=list)
    replies: list[CommandReply] = field(default_factory=list)
    sparkplug: "list[Said]" = field(default_factory=list)
    left: int = 0
    rejected: list[Rejected] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.pair)
