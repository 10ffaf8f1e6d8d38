"""The units that payloads come in, and how a number goes from one to another of its kind.

A conversion is ``value * scale + offset``, worked out once when a mapping or a metric is read and never on the
data path. The
table holds what machines of the field send, under the names they use, SenML's symbols (RFC 8428, RFC 8798) among
them. A library for arithmetic with units would bring an expression language into each process for a list this short.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from telemetry.readings import Float64s, Mask


class UnknownUnit(ValueError):
    """A unit is not in the table, or the two of a pair are not of one kind."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of a kind: ``value * scale + offset`` is the number in the kind's first unit."""

    kind: str
    scale: Fraction
    offset: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Conversion:
    """``value * scale + offset``."""

    scale: float = 1.0
    offset: float = 0.0

    def of(self, value: float) -> float:
        """Return a number in the other unit."""
        return value * self.scale + self.offset

    def explains(self, sent: Float64s, value: Float64s) -> Mask:
        """Return which numbers are what others become by this conversion, but for rounding.

        A metric may have been sent in another unit when a reading came; what was sent then is not in this one.
        """
        found: Mask = np.isclose(sent * self.scale + self.offset, value, rtol=1e-9, atol=1e-9)
        return found


# Kind → (names, how many of the kind's first unit one of it is); names are told apart by case: mW is not MW.
_TABLE: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "length": (
        ("m", "1"), ("mm", "1/1000"), ("cm", "1/100"), ("km", "1000"), ("µm um μm", "1/1000000"),
        ("in inch", "254/10000"), ("ft", "3048/10000"),
    ),
    "area": (("m² m2", "1"), ("cm² cm2", "1/10000"), ("mm² mm2", "1/1000000")),
    "volume": (
        ("m³ m3", "1"), ("L l", "1/1000"), ("mL ml", "1/1000000"), ("gal", "3785411784/1000000000000"),
    ),
    "mass": (("kg", "1"), ("g", "1/1000"), ("mg", "1/1000000"), ("t", "1000"), ("lb", "45359237/100000000")),
    "time": (("s", "1"), ("ms", "1/1000"), ("µs us μs", "1/1000000"), ("min", "60"), ("h", "3600"), ("d", "86400")),
    "speed": (
        ("m/s", "1"), ("mm/s", "1/1000"), ("km/h", "10/36"), ("mph", "44704/100000"), ("in/s", "254/10000"),
        ("m/min", "1/60"), ("kn", "1852/3600"),
    ),
    "acceleration": (("m/s² m/s2", "1"), ("g0 gn", "980665/100000"), ("mg0", "980665/100000000")),
    "force": (("N", "1"), ("kN", "1000"), ("lbf", "44482216152605/10000000000000")),
    "torque": (("N·m Nm N*m", "1"), ("kN·m kNm", "1000")),
    "pressure": (
        ("Pa", "1"), ("hPa", "100"), ("kPa", "1000"), ("MPa", "1000000"), ("bar", "100000"), ("mbar", "100"),
        ("psi", "6894757293168/1000000000"), ("mmHg", "133322387415/1000000000"), ("atm", "101325"),
        ("inHg", "3386389/1000"), ("mmH2O", "980665/100000"),
    ),
    "energy": (
        ("J", "1"), ("kJ", "1000"), ("MJ", "1000000"), ("GJ", "1000000000"), ("Wh", "3600"), ("kWh", "3600000"),
        ("MWh", "3600000000"), ("Wmin", "60"), ("mWh", "36/10"), ("kcal", "4184"),
    ),
    "power": (
        ("W", "1"), ("mW", "1/1000"), ("kW", "1000"), ("MW", "1000000"), ("hp", "7457/10"), ("PS", "73549875/100000"),
    ),
    "apparent power": (("VA", "1"), ("kVA", "1000"), ("MVA", "1000000")),
    "reactive power": (("var VAR", "1"), ("kvar kVAR", "1000"), ("Mvar MVAR", "1000000")),
    "reactive energy": (("varh", "1"), ("kvarh kVArh", "1000"), ("vars", "1/3600")),
    "voltage": (("V", "1"), ("mV", "1/1000"), ("kV", "1000"), ("µV uV μV", "1/1000000")),
    "current": (("A", "1"), ("mA", "1/1000"), ("kA", "1000"), ("µA uA μA", "1/1000000")),
    "charge": (("C", "1"), ("Ah", "3600"), ("mAh", "36/10")),
    "resistance": (("Ω Ohm ohm", "1"), ("kΩ kOhm", "1000"), ("MΩ MOhm", "1000000"), ("mΩ mOhm", "1/1000")),
    "frequency": (
        ("Hz 1/s", "1"), ("kHz", "1000"), ("MHz", "1000000"), ("GHz", "1000000000"), ("rpm r/min 1/min", "1/60"),
    ),
    "flow": (
        ("m³/s m3/s", "1"), ("m³/h m3/h", "1/3600"), ("L/s l/s", "1/1000"), ("L/min l/min", "1/60000"),
        ("L/h l/h", "1/3600000"), ("gpm", "3785411784/60000000000000"), ("CFM cfm", "28316846592/60000000000000"),
    ),
    "share": (("1 /", "1"), ("% %RH %EL", "1/100"), ("‰", "1/1000"), ("ppm", "1/1000000"), ("ppb", "1/1000000000")),
    "angle": (("rad", "1"), ("° deg", f"{math.pi:.15f}/180")),
    "data": (
        ("B", "1"), ("kB", "1000"), ("KiB", "1024"), ("MB", "1000000"), ("MiB", "1048576"), ("GB", "1000000000"),
        ("bit", "1/8"),
    ),
    "rate of data": (("bit/s", "1"), ("B/s", "8"), ("Mbit/s", "1000000")),
    "concentration": (
        ("kg/m³ kg/m3", "1"), ("g/m³ g/m3 mg/L mg/l", "1/1000"), ("mg/m³ mg/m3", "1/1000000"),
        ("µg/m³ ug/m3 μg/m3", "1/1000000000"),
    ),
    "conductivity": (("S/m", "1"), ("mS/cm", "1/10"), ("µS/cm uS/cm μS/cm", "1/10000")),
    "light": (("lx", "1"), ("klx", "1000")),
    "level": (("dB", "1"),),
    "power level": (("dBm dBmW", "1"), ("dBW", "1")),
}  # fmt: skip
_LEVELS: Final = {"dBW": "30"}
_TEMPERATURES: Final = (
    ("K", "1", "0"), ("°C degC Cel ℃ C°", "1", "27315/100"), ("°F degF ℉ F°", "5/9", "45967/180"),
)  # fmt: skip


def _fraction(text: str) -> Fraction:
    above, _, below = text.partition("/")
    return Fraction(above) / Fraction(below or "1")


def _known() -> dict[str, Unit]:
    known = {
        name: Unit(kind, _fraction(scale), _fraction(_LEVELS.get(name, "0")))
        for kind, rows in _TABLE.items()
        for names, scale in rows
        for name in names.split()
    }
    for names, scale, offset in _TEMPERATURES:
        known |= {name: Unit("temperature", _fraction(scale), _fraction(offset)) for name in names.split()}
    return known


UNITS: Final = _known()


def find(name: str) -> Unit:
    """Return a unit by one of its names.

    Raises:
        UnknownUnit: there is none of this name.
    """
    unit = UNITS.get(name.strip())
    if unit is None:
        raise UnknownUnit(f"“{name[:40]}” is no unit known here")
    return unit


def conversion(source: str, target: str) -> Conversion:
    """Return how a number goes from one unit to another.

    Exact until the last step, so that there and back again is the same number but for one rounding.

    Raises:
        UnknownUnit: one of them is unknown, or they measure different things.
    """
    given, wanted = find(source), find(target)
    if given.kind != wanted.kind:
        raise UnknownUnit(f"“{source}” is {given.kind} and “{target}” is {wanted.kind}")
    return Conversion(float(given.scale / wanted.scale), float((given.offset - wanted.offset) / wanted.scale))
