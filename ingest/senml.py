"""SenML packs (RFC 8428) made plain: each record by itself, with its whole name, its own time and its value.

A pack spares bytes: base fields hold until the next one, times are often relative to now. What comes out says it all:
``{"name": "urn:dev:ow:10e2073a01080063:voltage", "base": "urn:…63:", "n": "voltage", "unit": "V", "time": 1276020076.0,
"value": 120.1}``, the form that mappings read.
"""

import base64
import binascii
from typing import Any, Final

from ingest.decoded import Reason
from ingest.strict import SAID, Refused

_RELATIVE_BELOW: Final = 2**28
"""Times below this are seconds from now (RFC 8428, 4.5.3)."""
_BASES: Final = {"bn": str, "bt": float, "bu": str, "bv": float, "bs": float}
_MUST_KNOW: Final = "_"
"""A label that ends so must be understood, or the pack refused (4.4)."""


def resolve(pack: Any, received_ms: int) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON is any of its types
    """Return the records of a pack, resolved; ``time`` is None where the pack gives none.

    Raises:
        Refused: it is no SenML.
    """
    if not isinstance(pack, list):
        raise Refused(Reason.BAD_FORM, "a SenML pack is a list of records")
    base: dict[str, Any] = {}
    resolved = []
    for place, record in enumerate(pack):
        if not isinstance(record, dict):
            raise Refused(Reason.BAD_FORM, f"record {place}: expected an object")
        _check(record, place)
        base |= {label: record[label] for label in _BASES if label in record}
        if one := _one(record, base, received_ms, place):
            resolved.append(one)
    return resolved


def _check(record: dict[str, Any], place: int) -> None:
    for label, value in record.items():
        if label.endswith(_MUST_KNOW):
            raise Refused(Reason.UNKNOWN_FIELD, f"record {place}: “{label[:SAID]}” must be understood and is not known")
        wanted = _BASES.get(label) or {"n": str, "u": str, "t": float, "v": float, "s": float, "vs": str, "vd": str,
                                       "vb": bool}.get(label)  # fmt: skip
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if wanted is not None and not (is_number if wanted is float else isinstance(value, wanted)):
            raise Refused(Reason.BAD_FORM, f"record {place}: “{label}” has a value of the wrong type")


def _one(record: dict[str, Any], base: dict[str, Any], received_ms: int, place: int) -> dict[str, Any] | None:
    value = _value(record, base, place)
    total = record["s"] + base.get("bs", 0) if "s" in record else base.get("bs")
    if value is None and total is None:
        return None
    name = base.get("bn", "") + record.get("n", "")
    if not name:
        raise Refused(Reason.BAD_FORM, f"record {place}: it has no name")
    time = None
    if "t" in record or "bt" in base:
        time = base.get("bt", 0) + record.get("t", 0)
        time = received_ms / 1000 + time if time < _RELATIVE_BELOW else time
    return {
        "name": name,
        "base": base.get("bn", ""),
        "n": record.get("n", ""),
        "unit": record.get("u", base.get("bu")),
        "time": time,
        "value": value,
        "sum": total,
    }


def _value(record: dict[str, Any], base: dict[str, Any], place: int) -> Any:  # noqa: ANN401 - number, text or boolean
    given = [label for label in ("v", "vs", "vb", "vd") if label in record]
    if len(given) > 1:
        raise Refused(Reason.BAD_FORM, f"record {place}: it has more than one value")
    if not given:
        return base.get("bv")
    if given == ["v"]:
        return record["v"] + base.get("bv", 0)
    if given == ["vd"]:
        text = record["vd"]
        try:
            return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()
        except (binascii.Error, ValueError):
            raise Refused(Reason.BAD_FORM, f"record {place}: “vd” is not base64") from None
    return record[given[0]]
