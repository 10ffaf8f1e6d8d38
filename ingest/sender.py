"""Messages from the platform out through one MQTT 5 connection, at most as many unanswered as the broker allows."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import mqtt5
from mqtt5 import QoS

from ingest.publisher import Outgoing
from kernel.errors import Invalid, TooMany, Unavailable

_IDS: Final = 65_535
_WAITING: Final = 100_000
_REFUSED: Final = 0x80

Answer = asyncio.Future[None]


class Sender:
    """Sends over ``write``. It works from the moment the broker has accepted us, until ``fail``."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._window = 0
        self._max_packet: int | None = None
        self._last_id = 0
        self._unanswered: dict[int, Answer] = {}
        self._waiting: deque[tuple[Outgoing, Answer]] = deque()

    def accept(self, connack: mqtt5.ConnAckPacket) -> None:
        """Take the broker's limits and begin to send."""
        self._window = connack.receive_max
        self._max_packet = connack.max_packet_size

    def publish(self, message: Outgoing) -> Answer:
        """Send a message; see ``ingest.publisher.Publisher``."""
        answer: Answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_seen)
        if not self._window:
            answer.set_exception(Unavailable("The MQTT broker is not connected."))
        elif message.qos == 0:
            self._send(message, None, answer)
            if not answer.done():
                answer.set_result(None)
        elif len(self._unanswered) < self._window:
            self._send(message, self.next_id(), answer)
        elif len(self._waiting) < _WAITING:
            self._waiting.append((message, answer))
        else:
            answer.set_exception(TooMany("Too many messages wait for the MQTT broker.", retry_after_s=5))
        return answer

    def answered(self, packet: mqtt5.PubAckPacket) -> None:
        """Settle a message that the broker answered, and send the next that waits."""
        answer = self._unanswered.pop(packet.packet_id, None)
        if answer is not None and not answer.done():
            if packet.reason_code.value >= _REFUSED:
                answer.set_exception(Unavailable("The MQTT broker refused: {why}.", why=packet.reason_code.name))
            else:
                answer.set_result(None)
        while self._waiting and len(self._unanswered) < self._window:
            message, waiting = self._waiting.popleft()
            self._send(message, self.next_id(), waiting)

    def fail(self) -> None:
        """Settle everything unanswered: the connection has ended."""
        self._window = 0
        for answer in (*self._unanswered.values(), *(answer for _, answer in self._waiting)):
            if not answer.done():
                answer.set_exception(Unavailable("The connection to the MQTT broker ended before the answer."))
        self._unanswered.clear()
        self._waiting.clear()

    def next_id(self) -> int:
        """Return a packet id that is not in use."""
        while True:
            self._last_id = self._last_id % _IDS + 1
            if self._last_id not in self._unanswered:
                return self._last_id

    def _send(self, message: Outgoing, packet_id: int | None, answer: Answer) -> None:
        packet = mqtt5.PublishPacket(
            message.topic,
            message.payload,
            qos=QoS.AT_MOST_ONCE if packet_id is None else QoS.AT_LEAST_ONCE,
            retain=message.retain,
            packet_id=packet_id,
        ).write()
        if self._max_packet is not None and len(packet) > self._max_packet:
            answer.set_exception(Invalid("The message is larger than the MQTT broker takes."))
            return
        if packet_id is not None:
            self._unanswered[packet_id] = answer
        self._write(packet)


def _seen(answer: Answer) -> None:
    # Whoever does not await an answer has decided not to know; asyncio need not warn.
    if not answer.cancelled():
        answer.exception()
