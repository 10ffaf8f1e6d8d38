"""The forms a telemetry payload may take, read one at a time.

The contract: ``{"ts": …, "values": {…}}``, the same without ``ts``, the bare values, or an array of those. At
the top of an object ``ts``, ``values`` and ``device`` are words of the contract, so no metric is called so. A
``device`` that is the sender's own key is allowed and says nothing; any other is refused (ING-6).
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ingest.decoded import Reason
from ingest.strict import SAID, Refused
from kernel.i18n import noop
from telemetry.readings import MAX_TEXT

RESERVED: Final = frozenset({"ts", "values", "device"})
MAX_METRIC: Final = 80
TIME_BOUND: Final = 2**62
"""Device times lie within ± this many milliseconds; what they may mean is decided elsewhere."""

Scalar = int | float | bool | str


class Element(NamedTuple):
    """Values a device measured at one instant. ``ts_ms`` is None where it gave no time."""

    ts_ms: int | None
    values: dict[str, Scalar]


def elements(value: Any, device: str) -> Iterator[Element]:  # noqa: ANN401 - JSON is any of its types
    """Return what a telemetry payload of ``device`` holds.

    Raises:
        Refused: it has none of the four forms, or one of its parts is bad; nothing of it may then be used.
    """
    if value.__class__ is not list:
        yield _element(value, device)
        return
    if not value:
        raise Refused(Reason.EMPTY, "the array is empty")
    for item in value:
        yield _element(item, device)


def is_metric(name: str) -> bool:
    """Return whether a metric may be called this.

    1 to 80 printable characters, no blank at either end, and none of the contract's own words.
    """
    return 0 < len(name) <= MAX_METRIC and name.isprintable() and name == name.strip() and name not in RESERVED


def ts_ms(value: object) -> int:
    """Return a device time.

    Raises:
        Refused: it is no integer.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not -TIME_BOUND < value < TIME_BOUND:
        raise Refused(Reason.BAD_TS, f"ts must be an integer of milliseconds since 1970, not {_said(value)}")
    return value


def own_device(value: object, device: str) -> None:
    """Accept the sender's own key.

    Raises:
        Refused: the body names another device.
    """
    if value != device:
        raise Refused(Reason.FOREIGN_DEVICE, f"the body names {_said(value)}, the connection is {device}")


def _element(item: Any, device: str) -> Element:  # noqa: ANN401 - JSON is any of its types
    if item.__class__ is not dict:
        raise Refused(Reason.BAD_FORM, f"expected an object, found {_said(item)}")
    if "device" in item:
        own_device(item["device"], device)
    if "values" not in item:
        if "ts" in item:
            raise Refused(Reason.BAD_FORM, "beside ts the values belong into an object called values")
        bare = {name: value for name, value in item.items() if name != "device"}
        return Element(None, _checked(bare))
    for name in item:
        if name not in RESERVED:
            raise Refused(Reason.UNKNOWN_FIELD, f"“{name[:SAID]}” is neither ts nor values")
    instant = ts_ms(item["ts"]) if "ts" in item else None
    if item["values"].__class__ is not dict:
        raise Refused(Reason.BAD_FORM, f"values must be an object, not {_said(item['values'])}")
    return Element(instant, _checked(item["values"]))


def _checked(values: dict[str, Any]) -> dict[str, Scalar]:
    if not values:
        raise Refused(Reason.EMPTY, noop("there are no values"))
    for name, value in values.items():
        if not is_metric(name):
            raise Refused(Reason.BAD_METRIC, noop("{said} is no name for a metric"), said=_said(name))
        if value.__class__ in (dict, list):
            raise Refused(Reason.NESTED_VALUE, f"“{name}” holds {_said(value)}")
        if value is None:
            raise Refused(Reason.NULL_VALUE, f"“{name}” is null")
        if value.__class__ is str and len(value) > MAX_TEXT:
            raise Refused(
                Reason.BAD_TEXT, noop("“{name}” is a text longer than {most} characters"), name=name, most=MAX_TEXT
            )
        if value.__class__ is int and not _fits(value):
            raise Refused(Reason.NOT_FINITE, noop("“{name}” is too large for a number"), name=name)
    return values


def _fits(value: int) -> bool:
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _said(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)[:SAID]
