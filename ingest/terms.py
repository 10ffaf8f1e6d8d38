"""What the intake asks of an external broker, and what it counts of what comes from there."""

from dataclasses import dataclass
from typing import Final

from ingest import topics
from ingest.batch import IntakeCounters

FILTERS: Final = (
    *(f"{topics.ROOT}/+/{subtopic}" for subtopic in topics.DEVICE_PUBLISHES),
    *(f"{topics.SPARKPLUG_ROOT}/{pattern.format(device='+')}" for pattern in topics.SPARKPLUG_PUBLISHES),
)
DROPS: Final = "$SYS/broker/publish/messages/dropped"
"""Where Mosquitto counts what it threw away; every other broker is silent there."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What we ask of the broker.

    ``receive_maximum``: how many unacknowledged messages it may have in flight to us; the broker's own limit
    must be as high (Mosquitto: ``max_inflight_messages``), or a batch larger than it waits forever for more.
    ``more``: filters beside those of the contract, which may change (``Consumer.follow``), and which the broker may
    refuse without harm to the others; ``retired``: such as our session may still hold and must not.
    ``group``: share the load with other intakes of this name (``$share``). ``session_s``: how long the broker
    keeps our session, and with it the messages, after we are gone. ``host_id``: under which name to tell Sparkplug's
    edge nodes, retained, whether we are there; empty: not to tell. ``speaks``: whether this intake says so, from the
    first connection on, and no other of the group (``Consumer.speak``).
    """

    client_id: str = "fixwright-ingest"
    filters: tuple[str, ...] = FILTERS
    more: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    group: str | None = None
    receive_maximum: int = 20_000
    session_s: int = 7 * 86_400
    keep_alive_s: int = 30
    max_packet: int = 16 * 2**20
    topic_aliases: int = 0
    watches_drops: bool = True
    host_id: str = ""
    speaks: bool = True


@dataclass(slots=True)
class ConsumerCounters(IntakeCounters):
    """What passed through the consumer since it started."""

    connects: int = 0
    is_connected: bool = False
    sessions_lost: int = 0
    """Reconnects at which the broker no longer knew our session: what it held for us is gone."""
    dropped_by_broker: int = 0
    """Messages the broker threw away since it started, by its own count."""
    hears_drops: bool = False
    """Whether the broker ever told that number."""
    last_error: str = ""
