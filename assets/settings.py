"""The settings a device should have, beside those it reports: what may be wanted, and where the two differ.

A device reports its settings among its attributes, in an object ``settings`` or at the top.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kernel.errors import Invalid

MOST: Final = 100
MAX_BYTES: Final = 16 * 1024
_LONGEST_NAME: Final = 80


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that is not as it should be; ``is_reported`` is False where the device says nothing of it."""

    name: str
    wanted: Any
    reported: Any
    is_reported: bool


def checked(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they may be wanted.

    Raises:
        Invalid: there are too many, or a name or value does not fit.
    """
    for name in wanted:
        if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            raise Invalid("A setting is named with 1 to 80 printable characters.", field="settings")
    if len(wanted) > MOST or len(msgspec.json.encode(wanted)) > MAX_BYTES:
        raise Invalid("At most 100 settings and 16 KiB fit.", field="settings")
    return dict(wanted)


def reported(name: str, attributes: Mapping[str, Any]) -> tuple[Any, bool]:
    """Return what a device reports a setting to be, and whether it reports it at all."""
    own = attributes.get("settings")
    if isinstance(own, Mapping) and name in own:
        return own[name], True
    return attributes.get(name), name in attributes


def difference(desired: Mapping[str, Any], attributes: Mapping[str, Any]) -> list[Difference]:
    """Return the settings that are not reported as wanted, by name."""
    found = []
    for name, wanted in sorted(desired.items()):
        value, is_reported = reported(name, attributes)
        if not is_reported or not _equal(value, wanted):
            found.append(Difference(name, wanted, value, is_reported))
    return found


def _equal(one: Any, other: Any) -> bool:  # noqa: ANN401 - anything JSON can hold
    """Return whether two JSON values are the same: 60 and 60.0 are, true and 1 are not."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
