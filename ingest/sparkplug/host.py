"""What a host application says: that it is there, and that a node shall be born again."""

from dataclasses import dataclass
from typing import Final

import msgspec

from ingest import topics
from ingest.publisher import Outgoing
from ingest.sparkplug import payload
from ingest.sparkplug.scalars import Type

REBIRTH: Final = "Node Control/Rebirth"


TRUSTED_AHEAD_MS: Final = 86_400_000
"""No clock is believed that goes further ahead than this."""


@dataclass(frozen=True, slots=True)
class Host:
    """This host application; ``since_ms`` is when its connection began, and tells old words from new ones."""

    identity: str
    since_ms: int

    @property
    def topic(self) -> str:
        """Where it says whether it is there."""
        return state_topic(self.identity)

    def state(self, *, is_online: bool) -> Outgoing:
        """Return what to say, retained; the last will of the connection is the same with False."""
        said = msgspec.json.encode({"online": is_online, "timestamp": self.since_ms})
        return Outgoing(self.topic, said, qos=1, retain=True)


class Statement:
    """What one worker says of the host application, over all its connections.

    However many workers read, one of them speaks for the host, and only its connection has a last will. A birth and the
    will of its connection bear one time, and no earlier one than any that was heard: an edge node passes over what is
    older than what it knows, so a will older than the birth would go unheard, and a birth older than a will too.
    """

    def __init__(self, identity: str, *, is_spoken_here: bool) -> None:
        self.topic = state_topic(identity)
        self.is_spoken_here = is_spoken_here
        self._identity = identity
        self._heard_ms = 0

    def begin(self, now_ms: int) -> Host | None:
        """Return who speaks on a connection that begins now, None where another worker speaks."""
        return Host(self._identity, max(now_ms, self._heard_ms + 1)) if self.is_spoken_here else None

    def hear(self, said: bytes, now_ms: int) -> int | None:
        """Take note of what was said on the topic; return the time of a denial, 0 where it has none, else None."""
        try:
            state = msgspec.json.decode(said)
        except msgspec.DecodeError:
            return 0
        known = state if isinstance(state, dict) else {}
        at_ms = known.get("timestamp")
        at_ms = at_ms if isinstance(at_ms, int) and 0 <= at_ms <= now_ms + TRUSTED_AHEAD_MS else 0
        self._heard_ms = max(self._heard_ms, at_ms)
        return None if known.get("online") is True else at_ms


def state_topic(identity: str) -> str:
    """Return where a host application says whether it is there."""
    return f"{topics.SPARKPLUG_ROOT}/STATE/{identity}"


def rebirth(group: str, node: str, now_ms: int) -> Outgoing:
    """Return the command by which a node publishes all its births anew. Sparkplug sends commands with QoS 0."""
    asked = payload.written([(REBIRTH, Type.BOOLEAN, "boolean_value", True)], ts_ms=now_ms)
    return Outgoing(f"{topics.SPARKPLUG_ROOT}/{group}/NCMD/{node}", asked, qos=0)
