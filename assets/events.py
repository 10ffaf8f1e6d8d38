"""What happens to assets and devices, as others hear of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceRegistered:
    """A device may connect."""

    device_id: int


@dataclass(frozen=True, slots=True)
class DeviceRevoked:
    """A device's credentials are void; its live connection is cut."""

    device_id: int
    key: str


@dataclass(frozen=True, slots=True)
class DeviceBound:
    """A device measures an asset from now on; ingest and rules reload it."""

    device_id: int
    asset_id: int


@dataclass(frozen=True, slots=True)
class DeviceStateChanged:
    """A device came online, or went offline or out of reach, and has held that state for long enough to be told."""

    device_id: int
    is_online: bool


@dataclass(frozen=True, slots=True)
class AssetChanged:
    """An asset was registered or changed."""

    asset_id: int


@dataclass(frozen=True, slots=True)
class TypeChanged:
    """A type of asset or one of its metrics was added or changed; evaluators reload it."""

    asset_type_id: int


@dataclass(frozen=True, slots=True)
class DeviceCredentialsChanged:
    """What lets a device in changed; its connections are cut, unless what they were opened with still holds."""

    device_id: int
    key: str
    cuts: bool = True


@dataclass(frozen=True, slots=True)
class DeviceUnbound:
    """A device measures this asset no longer; ingest and rules reload it."""

    device_id: int
    asset_id: int


@dataclass(frozen=True, slots=True)
class DeviceApplied:
    """A device that is not known here asks to be let in, for the first time or after a person reopened its case."""

    application_id: int
    key: str


@dataclass(frozen=True, slots=True)
class DeviceApproved:
    """A person let a device in; it is registered from now on."""

    application_id: int
    device_id: int


@dataclass(frozen=True, slots=True)
class DeviceDeclined:
    """A person sent a device away."""

    application_id: int
    key: str


@dataclass(frozen=True, slots=True)
class CommandMoved:
    """A command to a device was written, sent, answered or given up; ``state`` is the one it is in now."""

    device_id: int
    command_id: int
    state: str


@dataclass(frozen=True, slots=True)
class DesiredSettingsChanged:
    """Somebody wants a device set otherwise."""

    device_id: int
    version: int


@dataclass(frozen=True, slots=True)
class AttributeChanged:
    """An attribute was set or taken away; ``level`` says what ``subject_id`` is."""

    level: str
    subject_id: int
    name: str
