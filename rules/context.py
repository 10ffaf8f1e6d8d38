"""What a rule on one asset needs to know of it beside its readings: its zone, its attributes, its devices.

Looked up when an instance is made (``rules.standing``); when any of it changes, the instance is made anew.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rules.conditions import AlarmDefinition


@dataclass(frozen=True, slots=True)
class Found:
    """The value of an attribute, as JSON text, and the level that supplied it."""

    name: str
    value: str
    level: str


@dataclass(frozen=True, slots=True)
class Device:
    """One device of the asset: names for its series, and the metrics that it speaks for."""

    series: tuple[str, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """All of it. Instances that share one share what is compiled of them."""

    zone: str = "UTC"
    attributes: tuple[Found, ...] = ()
    devices: tuple[Device, ...] = ()

    def find(self, name: str) -> Found | None:
        """Return an attribute that was found."""
        return next((one for one in self.attributes if one.name == name), None)


NOWHERE: Final = Context()


def watched_names(definition: AlarmDefinition, context: Context) -> tuple[str, ...]:
    """Return the metrics an instance watches in order, with names for the series of which it only asks if they come."""
    return (*definition.metrics(), *_series(context))


def name_of(series: int) -> str:
    """Return the name of a series that is watched only for whether anything comes; no metric is called so."""
    return f"#{series}"


def _series(context: Context) -> Iterator[str]:
    for device in context.devices:
        yield from device.series
