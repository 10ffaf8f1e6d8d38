"""When people are reminded of an alarm, who is called next, and when it is announced again (SEMANTICS 1.6, A17).

Pure. Everything counts from the last announcement, in server time. Reminders and steps end with the acknowledgement;
re-alarm does not care about it. What was missed while nothing ran is caught up: of several reminders the last one is
given, of several steps each, because each calls somebody else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final


@dataclass(frozen=True, slots=True)
class Step:
    """Whom an alarm goes to so long after it was announced: whoever of a role is on shift, or one person."""

    after: timedelta
    role: str | None = None
    account_id: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """How a company follows up its alarms. ``repeat`` or ``realarm`` None: never."""

    repeat: timedelta | None = None
    repeats: int = 0
    realarm: timedelta | None = None
    realarms: int = 0
    steps: Sequence[Step] = ()


DEFAULT: Final = Policy(
    repeat=timedelta(minutes=15),
    repeats=3,
    steps=(Step(timedelta(), "dispatcher"), Step(timedelta(minutes=60), "manager")),
)
"""What holds where no policy fits: three reminders a quarter of an hour apart, then the manager."""


@dataclass(frozen=True, slots=True)
class Followed:
    """How far the follow-up of one alarm has come since it was announced."""

    announced_at: datetime
    is_acknowledged: bool
    reminders: int = 0
    escalated: int = 0
    realarms: int = 0


@dataclass(frozen=True, slots=True)
class Due:
    """What is to happen now, and when to look again (None: nothing is left to do).

    ``reminder`` is the number of the reminder to give, ``steps`` are numbers of steps, ``rearms`` says that the alarm
    loses its acknowledgement and is announced again; then nothing else happens.
    """

    reminder: int | None = None
    steps: Sequence[int] = ()
    rearms: bool = False
    next_at: datetime | None = None


def due(followed: Followed, policy: Policy, now: datetime) -> Due:
    """Return what the follow-up of an active alarm asks for at an instant."""
    rearm_at = None
    if policy.realarm is not None and followed.realarms < policy.realarms:
        rearm_at = followed.announced_at + policy.realarm
        if rearm_at <= now:
            return Due(rearms=True, next_at=now)
    if followed.is_acknowledged:
        return Due(next_at=rearm_at)
    given, upcoming = followed.reminders, [] if rearm_at is None else [rearm_at]
    if policy.repeat is not None and followed.reminders < policy.repeats:
        passed = int((now - followed.announced_at) / policy.repeat)
        given = max(min(passed, policy.repeats), followed.reminders)
        if given < policy.repeats:
            upcoming.append(followed.announced_at + (given + 1) * policy.repeat)
    # The first step is whom the announcement itself went to, where it has no delay.
    steps = []
    for number, step in enumerate(policy.steps):
        at = followed.announced_at + step.after
        if number < followed.escalated or step.after <= timedelta():
            continue
        if at <= now:
            steps.append(number)
        else:
            upcoming.append(at)
    reminder = given if given > followed.reminders else None
    return Due(reminder=reminder, steps=tuple(steps), next_at=min(upcoming, default=None))
