"""What happens to mappings and to the intake itself, as others hear of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MappingChanged:
    """A payload mapping was added, changed, switched or rolled back; ingest reads all of them again."""

    mapping_id: int


@dataclass(frozen=True, slots=True)
class IntakeFellBehind:
    """Messages wait longer to be stored than they may: ``lag_s`` seconds when it was noticed."""

    lag_s: int


@dataclass(frozen=True, slots=True)
class IntakeCaughtUp:
    """Messages no longer wait too long to be stored."""


@dataclass(frozen=True, slots=True)
class IntakeLimitChanged:
    """Somebody said how much a device, or each device on machines of a type, may send; one of the two is given."""

    device_id: int | None = None
    asset_type_id: int | None = None
