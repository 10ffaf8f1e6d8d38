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
class AlarmFoundLate:
    """Readings that came late show an alarm that is over; it is recorded, and nobody is called."""

    alarm_id: int


@dataclass(frozen=True, slots=True)
class AlarmAmended:
    """Readings that came late show that an alarm began, was raised or ended at another time."""

    alarm_id: int


@dataclass(frozen=True, slots=True)
class AlarmQuestioned:
    """Readings that came late no longer support an alarm, or support it again."""

    alarm_id: int
    is_supported: bool


@dataclass(frozen=True, slots=True)
class AlarmAcknowledged:
    """A person has taken note of an alarm."""

    alarm_id: int


@dataclass(frozen=True, slots=True)
class AlarmReminded:
    """Nobody has acknowledged an announced alarm; people are reminded, for the ``number``-th time."""

    alarm_id: int
    number: int


@dataclass(frozen=True, slots=True)
class AlarmEscalated:
    """An alarm goes to the next of its escalation: to a role on shift, or to one person."""

    alarm_id: int
    step: int
    role: str | None
    account_id: int | None


@dataclass(frozen=True, slots=True)
class AlarmAssigned:
    """An alarm was given to somebody, or with None to nobody."""

    alarm_id: int
    account_id: int | None


@dataclass(frozen=True, slots=True)
class AlarmReset:
    """A latched alarm that had cleared was reset."""

    alarm_id: int


@dataclass(frozen=True, slots=True)
class AlarmHoldBegan:
    """From now on alarms are recorded and not announced: ``kind`` is *shelved*, *suppressed* or *out_of_service*."""

    hold_id: int
    kind: str


@dataclass(frozen=True, slots=True)
class AlarmHoldEnded:
    """What kept alarms from being announced has ended; those that stand and nothing else holds are announced."""

    hold_id: int
    kind: str


@dataclass(frozen=True, slots=True)
class AlarmHoldDue:
    """Somebody is to look whether it is still right that alarms are out of service."""

    hold_id: int


@dataclass(frozen=True, slots=True)
class AlarmFloodBegan:
    """More alarms reach a desk than anybody can read; its people hear of the flood and not of each."""

    unit_id: int
    alarms: int


@dataclass(frozen=True, slots=True)
class RuleSaved:
    """An alarm type, one of its versions or an override changed; evaluators reload it."""

    alarm_type_id: int


@dataclass(frozen=True, slots=True)
class LimitForeseen:
    """The trend of a watched metric reaches its limit within the lead that people asked for."""

    watch_id: int
    asset_id: int


@dataclass(frozen=True, slots=True)
class AlarmActionDue:
    """An alarm set off an action within the product."""

    run_id: int


@dataclass(frozen=True, slots=True)
class AlarmWebhookDue:
    """An alarm is to be posted to an address outside."""

    run_id: int
