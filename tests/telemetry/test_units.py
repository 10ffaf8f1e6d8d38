"""Units: there and back again is the same, and what does not fit is refused by name."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry import units
from telemetry.units import UNITS, UnknownUnit

PAIRS = sorted((one, other) for one in UNITS for other in UNITS if UNITS[one].kind == UNITS[other].kind)
numbers = st.floats(min_value=-1e9, max_value=1e9, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (212, "°F", "°C", 100),
        (0, "°C", "K", 273.15),
        (-40, "degF", "Cel", -40),
        (14.5038, "psi", "bar", 1.0000),
        (1, "kWh", "MJ", 3.6),
        (60, "Wmin", "Wh", 1),
        (1500, "rpm", "Hz", 25),
        (36, "km/h", "m/s", 10),
        (180, "deg", "rad", math.pi),
        (55, "%RH", "1", 0.55),
        (1, "m³/h", "L/min", 1000 / 60),
        (2, "dBW", "dBm", 32),
        (25.4, "mm", "in", 1),
    ],
)
def test_a_number_goes_from_one_unit_to_another(value: float, source: str, target: str, expected: float) -> None:
    assert units.conversion(source, target).of(value) == pytest.approx(expected, rel=1e-5)


@given(st.sampled_from(PAIRS), numbers)
def test_there_and_back_again_is_the_same_number(pair: tuple[str, str], value: float) -> None:
    source, target = pair
    there = units.conversion(source, target).of(value)
    offset = abs(units.conversion(source, target).offset) * abs(units.conversion(target, source).scale)
    assert units.conversion(target, source).of(there) == pytest.approx(value, rel=1e-9, abs=1e-9 * (1 + offset))


@given(st.sampled_from(PAIRS), numbers, numbers)
def test_a_conversion_keeps_what_is_larger_larger(pair: tuple[str, str], one: float, other: float) -> None:
    by = units.conversion(*pair)
    assert by.scale > 0
    assert (one <= other) <= (by.of(one) <= by.of(other))


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [("furlong", "m", "furlong"), ("m", "parsec", "parsec"), ("bar", "°C", "pressure"), ("mw", "W", "mw")],
)
def test_what_is_unknown_or_of_another_kind_is_refused_by_name(source: str, target: str, said: str) -> None:
    with pytest.raises(UnknownUnit, match=said):
        units.conversion(source, target)
