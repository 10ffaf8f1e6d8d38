"""One device's connection to the embedded broker: read in bulk, acknowledged only when told.

amqtt reads byte by byte, starts a task for each packet, and answers a PUBLISH as soon as it is queued. Here
the messages of one read go to the intake together, and their answers wait until the batch is durable, for
QoS 1 (PUBACK) and QoS 2 (PUBREC) alike. Nothing is handed on to other clients: no device may read what another
says. All other packets go amqtt's own way.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from amqtt.adapters import BufferReader, StreamReaderAdapter, StreamWriterAdapter
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt import packet_class
from amqtt.mqtt.packet import (
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBLISH,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    MQTTFixedHeader,
)
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.pubrel import PubrelPacket

from ingest.link import QOS_2, acknowledgements, frame_size
from kernel import log

MAX_PACKET: Final = 8 * 1024 * 1024
"""A packet larger than this ends the connection; one that merely breaks the contract is kept as rejected."""

_READ: Final = 64 * 1024
_MAX_CONNECT: Final = 64 * 1024
_LARGEST_HEADER: Final = 5
_QOS_BITS: Final = 0b0110

Take = Callable[["DeviceLine", list[str], list[bytes], list[int]], bool]
"""Takes (line, topics, payloads, handles) into the intake, up to the first its device may not send; False then."""

_log = log.of(__name__)


class Reader(StreamReaderAdapter):  # type: ignore[misc]
    """Reads one whole CONNECT, and then whatever comes."""

    async def connect(self) -> bytes:
        """Return the first packet.

        Raises:
            MQTTError: it is no CONNECT, or absurdly large.
            NoDataError: the stream ended before it did.
        """
        try:
            head = await self._reader.readexactly(2)
            while (size := frame_size(memoryview(head))) == 0:
                head += await self._reader.readexactly(1)
            if head[0] >> 4 != CONNECT or size > _MAX_CONNECT:
                raise MQTTError("the first packet is no CONNECT")
            connect: bytes = head + await self._reader.readexactly(size - len(head))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise NoDataError("gone before CONNECT") from error
        return connect

    async def some(self) -> bytes:
        """Return what has arrived, empty at the end of the stream."""
        data: bytes = await self._reader.read(_READ)
        return data


class Writer(StreamWriterAdapter):  # type: ignore[misc]
    """Writes, and can hang up at once."""

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The client's certificate, where it showed one and its chain was verified."""
        found: dict[str, Any] | None = self._writer.get_extra_info("peercert")
        return found or None

    @property
    def peer_certificate_der(self) -> bytes | None:
        """The same as it was sent."""
        tls = self._writer.get_extra_info("ssl_object")
        return None if tls is None else tls.getpeercert(binary_form=True)

    def abort(self) -> None:
        """Drop the connection, with whatever was not sent yet."""
        self._writer.transport.abort()


class DeviceLine(BrokerProtocolHandler):  # type: ignore[misc]
    """The broker's end of one connection, once its device was recognised."""

    def recognised(self, device: str, take: Take, room: asyncio.Event) -> None:
        """Bind the connection to its device. It reads while ``room`` is set; TCP then holds the device back."""
        self.device = device
        self._take = take
        self._room = room

    def answer(self, handles: Sequence[int]) -> None:
        """Acknowledge messages that are durable, in order, in one write."""
        self._unreleased.update(handle for handle in handles if handle & QOS_2)
        self._send(acknowledgements(handles))

    def hang_up(self) -> None:
        """Drop the connection at once."""
        if isinstance(self.writer, Writer):
            self.writer.abort()

    async def handle_pubrel(self, pubrel: PubrelPacket) -> None:
        """End the exchange of a QoS 2 message."""
        self._unreleased.discard(pubrel.packet_id | QOS_2)
        self._send(bytes((0x70, 2, *pubrel.packet_id.to_bytes(2))))

    async def _reader_loop(self) -> None:
        self._reader_ready.set()
        try:
            await self._listen()
        except (AMQTTError, MQTTError, NoDataError, OSError, ValueError) as error:
            _log.warning("mqtt connection ended", device=self.device, reason=str(error))
        except asyncio.CancelledError:  # amqtt's way to stop a reader, which then tidies up as below
            pass
        await self.handle_connection_closed()
        self._reader_stopped.set()
        await self.stop()

    async def _listen(self) -> None:
        """Read until the device leaves, falls silent, or breaks the rules.

        Raises:
            MQTTError: it broke the rules.
        """
        reader, rest = self.reader, b""
        while True:
            await self._room.wait()
            try:
                async with asyncio.timeout(self.session.keep_alive or None):
                    some = await reader.some()
            except TimeoutError:
                raise MQTTError("silent for one and a half times its keep-alive") from None
            if not some:
                return
            data = rest + some
            taken = await self._packets(data)
            rest = data[taken:]
            if frame_size(memoryview(rest)) > MAX_PACKET:
                raise MQTTError("a packet larger than allowed")

    async def _packets(self, data: bytes) -> int:
        """Deal with every whole packet; return how many bytes they took."""
        messages: list[tuple[str, bytes, int]] = []
        try:
            return await self._split(data, messages)
        finally:
            if messages and not self._take(self, *map(list, zip(*messages, strict=True))):
                # MQTT 3.1.1 cannot refuse one message, and to acknowledge what was thrown away would be a lie.
                raise MQTTError("a message to a foreign topic")

    async def _split(self, data: bytes, messages: list[tuple[str, bytes, int]]) -> int:
        view, position = memoryview(data), 0
        while 0 < (size := frame_size(view[position : position + _LARGEST_HEADER])) <= len(data) - position:
            frame = data[position : position + size]
            position += size
            if frame[0] >> 4 != PUBLISH:
                await self._other(frame)
                continue
            message = _message(frame)
            if message[2] in self._unreleased:
                self._send(acknowledgements((message[2],)))
            else:
                messages.append(message)
        return position

    async def _other(self, frame: bytes) -> None:
        handlers: dict[int, Callable[[Any], Any]] = {
            SUBSCRIBE: self.handle_subscribe,
            UNSUBSCRIBE: self.handle_unsubscribe,
            PUBACK: self.handle_puback,
            PUBREL: self.handle_pubrel,
            PINGREQ: self.handle_pingreq,
            DISCONNECT: self.handle_disconnect,
        }
        kind = frame[0] >> 4
        if kind not in handlers:
            raise MQTTError(f"an unexpected packet of type {kind}")
        stream = BufferReader(frame)
        header = await MQTTFixedHeader.from_stream(stream)
        await handlers[kind](await packet_class(header).from_stream(stream, fixed_header=header))

    @property
    def _unreleased(self) -> set[int]:
        """Handles of QoS 2 messages that are durable and not yet released; they belong to the session."""
        handles: set[int] = self.session.attributes.setdefault("fixwright.unreleased", set())
        return handles

    def _send(self, data: bytes) -> None:
        if self.writer is not None and self.session is not None and data:
            self.writer.write(data)


def speaks_mqtt_5(connect: bytes) -> bool:
    """Return whether a CONNECT is of MQTT 5, which begins like that of 3.1.1 and goes on differently."""
    return b"\0\4MQTT\5" in connect[2:13]


def _message(frame: bytes) -> tuple[str, bytes, int]:
    """Return topic, payload and handle of a PUBLISH of MQTT 3.1.1.

    Raises:
        MQTTError: its parts do not fit, or its topic holds a NUL, with which MQTT ends a connection.
        UnicodeDecodeError: the topic is not UTF-8.
    """
    body = 2
    while frame[body - 1] >= 0x80:  # noqa: PLR2004 - the continuation bit of MQTT's lengths
        body += 1
    end = body + 2 + int.from_bytes(frame[body : body + 2])
    quality = (frame[0] & _QOS_BITS) >> 1
    start = end + 2 if quality else end
    handle = int.from_bytes(frame[end:start])
    if start > len(frame) or quality == 3 or (quality and not handle):  # noqa: PLR2004 - there is no QoS 3
        raise MQTTError("a malformed message")
    if 0 in frame[body + 2 : end]:
        raise MQTTError("a topic with a NUL")
    return frame[body + 2 : end].decode(), frame[start:], handle | QOS_2 if quality == 2 else handle  # noqa: PLR2004
