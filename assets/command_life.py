"""What becomes of a command: the decisions, without a database.

*queued* → *sent* → *delivered* → *done*, or *failed*, *timed_out*, *expired*, *cancelled* on the way. A command that
nobody answers is done when it is delivered, as far as that can be known. Whatever has ended stays as it ended; an
answer that comes too late is kept beside it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

OPEN: Final = ("queued", "sent", "delivered")
ENDED: Final = ("done", "failed", "timed_out", "expired", "cancelled")
KINDS: Final = ("one_way", "reply", "kept")
LEASE: Final = timedelta(seconds=30)
"""How long a sending process has before another one, or itself after a restart, sends the command again."""
PAUSE: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Situation:
    """A command and its device at an instant. ``reconnected_at``: since when the device is connected as it is."""

    kind: str
    waits: bool
    state: str
    timeout_s: int
    expires_at: datetime
    next_at: datetime
    sent_at: datetime | None
    is_online: bool
    reconnected_at: datetime | None


def due(at: Situation, now: datetime) -> str | None:
    """Return what is to happen to a command now: *send*, or the state it ends in, or None for nothing yet."""
    if at.state == "queued":
        return _waiting(at, now)
    if at.state not in OPEN:
        return None
    if at.kind != "kept":
        return "timed_out" if at.sent_at and now >= at.sent_at + timedelta(seconds=at.timeout_s) else None
    if now >= at.expires_at:
        return "timed_out"
    # It may have been lost with the connection it was sent on: a device that came back since is asked again.
    if not at.is_online or at.sent_at is None or at.reconnected_at is None:
        return None
    return "send" if at.reconnected_at > at.sent_at and now >= at.next_at else None


def _waiting(at: Situation, now: datetime) -> str | None:
    if now >= at.expires_at:
        return "expired"
    if at.is_online:
        return "send" if now >= at.next_at else None
    return None if at.waits else "failed"


def answered(state: str, *, is_error: bool) -> str:
    """Return the state of a command after its answer; one that has ended stays as it ended."""
    if state not in OPEN:
        return state
    return "failed" if is_error else "done"


def acknowledged(kind: str, state: str, *, by_device: bool) -> str:
    """Return the state of a command that the broker, or the device itself, has taken over."""
    if state not in OPEN:
        return state
    if kind == "one_way":
        return "done"
    return "delivered" if by_device else "sent"
