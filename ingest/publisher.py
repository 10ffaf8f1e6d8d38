"""What the platform says to devices, and how: for the pipeline, and for those who send commands.

The consumer of an external broker and the embedded broker both publish; callers need not know which it is.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from ingest import topics
from kernel.errors import Invalid

MAX_COMMAND_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to send. ``qos`` is 0 or 1."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Publisher(Protocol):
    """Something connected that can send to devices."""

    def publish(self, message: Outgoing) -> asyncio.Future[None]:
        """Send a message; call it on the event loop of the edge.

        The future is done when the receiving side has taken over (QoS 1) or the bytes are written (QoS 0).
        Nobody needs to await it. It fails with ``kernel.errors.Unavailable`` when there is no connection or it
        breaks before the answer; the message may then have arrived or not.
        """


def alarm_acknowledgement(device: str, seq: int) -> Outgoing:
    """Return the application acknowledgement that ends a device's repeating of an alarm."""
    return Outgoing(f"{topics.ROOT}/{device}/alarm/ack", b'{"seq":%d}' % seq)


def command(device: str, command_id: str, method: str, params: Mapping[str, object], /, **more: object) -> Outgoing:
    """Return a command for a device; its reply comes back under the same ``command_id``.

    ``more`` are further fields of the payload: ``device`` names a child where a gateway is to pass it on.

    Raises:
        Invalid: the device key or command id cannot stand in a topic, or the command is larger than 64 KiB.
    """
    if not topics.is_device_key(device):
        raise Invalid("“{device}” is no device key.", field="device", device=device)
    if not topics.COMMAND_ID.fullmatch(command_id):
        raise Invalid("“{id}” is no command id.", field="command_id", id=command_id)
    payload = msgspec.json.encode({"method": method, "params": params, **more})
    if len(payload) > MAX_COMMAND_BYTES:
        raise Invalid("The command is larger than 64 KiB.", field="params")
    return Outgoing(f"{topics.ROOT}/{device}/command/{command_id}", payload)
