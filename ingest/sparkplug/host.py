"""What a host application says: that it is there, and that a node shall be born again."""

from dataclasses import dataclass
from typing import Final

import msgspec

from ingest import topics
from ingest.publisher import Outgoing
from ingest.sparkplug import payload
from ingest.sparkplug.scalars import Type

REBIRTH: Final = "Node Control/Rebirth"


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


def state_topic(identity: str) -> str:
    """Return where a host application says whether it is there."""
    return f"{topics.SPARKPLUG_ROOT}/STATE/{identity}"


def denies(said: bytes) -> bool:
    """Return whether a state says that its host is away."""
    try:
        state = msgspec.json.decode(said)
    except msgspec.DecodeError:
        return True
    return not (isinstance(state, dict) and state.get("online") is True)


def rebirth(group: str, node: str, now_ms: int) -> Outgoing:
    """Return the command by which a node publishes all its births anew. Sparkplug sends commands with QoS 0."""
    asked = payload.written([(REBIRTH, Type.BOOLEAN, "boolean_value", True)], ts_ms=now_ms)
    return Outgoing(f"{topics.SPARKPLUG_ROOT}/{group}/NCMD/{node}", asked, qos=0)
