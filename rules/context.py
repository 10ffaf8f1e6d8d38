"""What a rule on one asset needs to know of it beside its readings: its zone, its devices.

Looked up when an instance is made (``rules.standing``); when any of it changes, the instance is made anew.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rules.conditions import AlarmDefinition


@dataclass(frozen=True, slots=True)
class Device:
    """One device of the asset: names for its series, and the metrics that it speaks for."""

    series: tuple[str, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """All of it. Instances that share one share what is compiled of them."""

    zone: str = "UTC"
    devices: tuple[Device, ...] = ()


NOWHERE: Final = Context()


def watched_names(definition: AlarmDefinition, context: Context) -> tuple[str, ...]:
    """Return the metrics an instance watches in order, with names for the series of which it only asks if they come."""
    return (*definition.metrics(), *_series(context))


def name_of(series: int) -> str:
    """Return the name of a series that is watched only for whether anything comes; no metric is called so."""
    return f"#{series}"


def series_of(name: str) -> int:
    """Return the series that ``name_of`` named."""
    return int(name.removeprefix("#"))


def _series(context: Context) -> Iterator[str]:
    for device in context.devices:
        yield from device.series
