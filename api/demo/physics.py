"""How the demo's machines behave: a daily pattern, noise, wear, and faults that build up and are cured.

Pure: the same clock and seed give the same values, for a column of past instants as for the present one.
"""

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

DAY_MS: Final = 86_400_000
CURE_S: Final = 20.0
"""How long a machine takes to come back to normal once somebody works on it."""

Column = NDArray[np.float64]
Instants = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Signal:
    """One metric of a machine: its level, daily swing, noise (one sigma), wear a day, and the floor it keeps."""

    level: float
    swing: float = 0.0
    noise: float = 0.0
    wear_a_day: float = 0.0
    floor: float | None = None
    counts_an_hour: float = 0.0
    """For counters: how much is added each running hour."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a fault does to a machine: each metric it moves, by how much, and how fast it builds up."""

    name: str
    moves: dict[str, float]
    build_up_s: float = 45.0


@dataclass(slots=True)
class Machine:
    """A living machine: its signals, and the fault it has at the moment, if any."""

    key: str
    kind: str
    seed: int
    since_ms: int
    """When it went into service; counters and wear start here."""
    fault: Fault | None = None
    fault_from_ms: int = 0
    cured_from_ms: int | None = None
    noise: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.noise = np.random.default_rng(self.seed)

    def break_down(self, fault: Fault, now_ms: int) -> None:
        """Let a fault begin."""
        self.fault, self.fault_from_ms, self.cured_from_ms = fault, now_ms, None

    def cure(self, now_ms: int) -> None:
        """Let the fault fade; nothing happens to a healthy machine."""
        if self.fault and self.cured_from_ms is None:
            self.cured_from_ms = now_ms

    def read(self, now_ms: int) -> dict[str, float]:
        """Return what its sensors show now, rounded as a device would send it."""
        at = np.array([now_ms], dtype=np.int64)
        strength = self._strength(now_ms)
        moves = self.fault.moves if self.fault else {}
        return {
            metric: round(
                float(column(worn(signal, metric, self.seed), at, self.since_ms, self.noise)[0])
                + moves.get(metric, 0.0) * strength,
                2,
            )
            for metric, signal in SIGNALS[self.kind].items()
        }

    def _strength(self, now_ms: int) -> float:
        """Return how far the fault has built up, 0 to 1; a cured one fades and is forgotten."""
        if self.fault is None:
            return 0.0
        built = min(1.0, (now_ms - self.fault_from_ms) / 1000 / self.fault.build_up_s)
        if self.cured_from_ms is None:
            return built
        left = 1.0 - (now_ms - self.cured_from_ms) / 1000 / CURE_S
        if left <= 0:
            self.fault = self.cured_from_ms = None
            return 0.0
        return built * left


WORN: Final = frozenset({3, 21, 39})
"""Numbers of the machines whose bearings go."""


def worn(signal: Signal, metric: str, seed: int) -> Signal:
    """Return a signal as this machine shows it: the bearings of some wear much faster than others."""
    if metric != "vibration" or seed not in WORN:
        return signal
    return replace(signal, wear_a_day=9 * signal.wear_a_day)


def column(signal: Signal, at_ms: Instants, since_ms: int, noise: np.random.Generator) -> Column:
    """Return the healthy values of a signal at instants (milliseconds since 1970), as float64."""
    days = (at_ms - since_ms) / DAY_MS
    if signal.counts_an_hour:
        return np.floor(signal.level + np.maximum(days, 0) * 24 * signal.counts_an_hour)
    # The warmest and busiest hour is 14:00 UTC+8 for most of the fleet; what matters is that there is one.
    swing = signal.swing * np.sin(2 * np.pi * (at_ms % DAY_MS) / DAY_MS + 0.5)
    values = (
        signal.level + swing + signal.wear_a_day * np.maximum(days, 0) + noise.normal(0, 1, len(at_ms)) * signal.noise
    )
    return values if signal.floor is None else np.maximum(values, signal.floor)


SIGNALS: Final[dict[str, dict[str, Signal]]] = {
    "compressor": {
        "temperature": Signal(78, swing=3.5, noise=0.5, wear_a_day=0.01),
        "pressure": Signal(7.2, swing=0.15, noise=0.05),
        "vibration": Signal(2.2, swing=0.15, noise=0.12, wear_a_day=0.002, floor=0),
        "current": Signal(62, swing=5, noise=0.9, floor=0),
        "running_hours": Signal(8200, counts_an_hour=0.92),
    },
    "chiller": {
        "supply_temperature": Signal(7.0, swing=0.5, noise=0.08),
        "condenser_pressure": Signal(12.1, swing=0.7, noise=0.1),
        "power": Signal(86, swing=12, noise=1.5, floor=0),
    },
    "moulding": {
        "oil_temperature": Signal(46, swing=1.8, noise=0.3, wear_a_day=0.004),
        "clamp_pressure": Signal(148, noise=0.8),
        "cycle_time": Signal(21.4, noise=0.25, floor=5),
        "shots": Signal(412_000, counts_an_hour=155),
    },
    "pump": {
        "flow": Signal(118, swing=4, noise=1.2, floor=0),
        "pressure": Signal(4.2, swing=0.1, noise=0.04),
        "vibration": Signal(1.7, noise=0.1, wear_a_day=0.003, floor=0),
        "bearing_temperature": Signal(54, swing=2, noise=0.4),
    },
    "conveyor": {
        "speed": Signal(0.8, noise=0.01, floor=0),
        "motor_temperature": Signal(51, swing=3, noise=0.5),
        "current": Signal(13.8, swing=1, noise=0.3, floor=0),
    },
    "transformer": {
        "oil_temperature": Signal(60, swing=5, noise=0.3),
        "winding_temperature": Signal(77, swing=6, noise=0.4),
        "load": Signal(63, swing=14, noise=1.2, floor=0),
    },
}

FAULTS: Final[dict[str, tuple[Fault, ...]]] = {
    "compressor": (
        Fault("overheat", {"temperature": 27, "current": 9, "pressure": -0.4}, build_up_s=35),
        Fault("worn bearing", {"vibration": 6.5, "temperature": 5}),
    ),
    "chiller": (Fault("condenser fouled", {"condenser_pressure": 6.0, "supply_temperature": 5.5, "power": 21}),),
    "moulding": (Fault("oil cooler blocked", {"oil_temperature": 22, "cycle_time": 3.5}),),
    "pump": (
        Fault("worn bearing", {"vibration": 7.0, "bearing_temperature": 33}),
        Fault("cavitation", {"flow": -46, "pressure": -1.9, "vibration": 3.4}),
    ),
    "conveyor": (Fault("belt jammed", {"motor_temperature": 46, "current": 15, "speed": -0.45}),),
    "transformer": (Fault("cooling fan failed", {"oil_temperature": 34, "winding_temperature": 38}),),
}
