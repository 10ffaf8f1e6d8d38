"""What happens to alarms, as others hear of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AlarmRaised:
    """A new alarm: nothing of its kind was open on this thing."""

    alarm_id: int


@dataclass(frozen=True, slots=True)
class AlarmAnnounced:
    """People are to hear of an alarm. What is held is recorded with its own events and never announced.

    ``why``: it was *raised*, its *severity* rose, it was *rearmed* (it stood for too long), or it was *released*:
    what held it has ended and it still stands.
    """

    alarm_id: int
    why: str


@dataclass(frozen=True, slots=True)
class AlarmFlagged:
    """An alarm is a bad actor: ``flag`` is *chattering* or *stale*."""

    alarm_id: int
    flag: str


@dataclass(frozen=True, slots=True)
class AlarmRepeated:
    """A device reported an open alarm again, ``times`` times since the last such event."""

    alarm_id: int
    times: int


@dataclass(frozen=True, slots=True)
class AlarmSeverityChanged:
    """An open alarm became more or less severe."""

    alarm_id: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class AlarmCleared:
    """The condition is over; acknowledgement and order are untouched."""

    alarm_id: int


@dataclass(frozen=True, slots=True)
class AlarmAcknowledged:
    """A person has taken note of an alarm."""

    alarm_id: int


@dataclass(frozen=True, slots=True)
class RuleSaved:
    """An alarm type, one of its versions or an override changed; evaluators reload it."""

    alarm_type_id: int


@dataclass(frozen=True, slots=True)
class LimitForeseen:
    """The trend of a watched metric reaches its limit within the lead that people asked for."""

    watch_id: int
    asset_id: int
