"""Bytes of one MQTT 5 connection turned into columns of messages, and acknowledgements into bytes.

Reads the socket in pieces of up to 256 KiB and takes every message out of a piece in one go. A single message
that the codec refuses is taken out by hand, so that a broker that forwards it again and again cannot stop the
intake; a stream that makes no sense at all ends the connection.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, cast

import mqtt5
import numpy as np
from mqtt5 import DisconnectReasonCode

QOS_2: Final = 0x10000
"""Set in the handle of a QoS 2 message. A handle is otherwise the packet id, or 0 for QoS 0."""

_READ: Final = 256 * 1024
_PUBLISH: Final = 3
_QOS_BITS: Final = 0b0110
_QOS_1: Final = 0b0010
_RETAIN: Final = 0b0001
_HIGHEST_QOS: Final = 2
_MALFORMED: Final = 0x81
_LARGEST_HEADER: Final = 5
_ENDLESS: Final = 2**62
_PUBACK, _PUBREC = 0x40, 0x50


class LinkLost(ConnectionError):
    """The connection ended or was refused. ``code`` is the MQTT 5 reason where one was given."""

    def __init__(self, why: str, code: int | None = None) -> None:
        super().__init__(why)
        self.code = code


Heard = Callable[[list[str], list[bytes], list[int], list[int]], None]
"""Takes topics, payloads and handles, columns of one length, and the offsets of replayed messages."""


class Link(asyncio.BufferedProtocol):
    """One connection. ``lost`` is done with the reason when it has ended, for whatever cause."""

    def __init__(
        self,
        messages: Heard,
        packet: Callable[[mqtt5.Packet], None],
        *,
        max_packet: int,
        topic_aliases: int = 0,
    ) -> None:
        self.lost: asyncio.Future[LinkLost] = asyncio.get_running_loop().create_future()
        self.heard_at = self.wrote_at = asyncio.get_running_loop().time()
        self.is_paused = False
        self._messages = messages
        self._packet = packet
        self._max_packet = max_packet
        self._most_aliases = topic_aliases
        self._aliases: dict[int, str] = {}
        self._transport: asyncio.Transport | None = None
        self._view = memoryview(bytearray(_READ))
        self._end = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # of a stream; uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so, unless a better reason was given before."""
        self._lose(LinkLost(f"connection lost: {exc}" if exc else "the broker closed the connection"))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Lend the free end of the buffer."""
        return self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take out every whole packet."""
        self.heard_at = asyncio.get_running_loop().time()
        self._end += nbytes
        if self.lost.done():
            self._end = 0
            return
        try:
            taken = self._take()
            self._make_room(taken)
        except LinkLost as error:
            self.abandon(error, DisconnectReasonCode(error.code or _MALFORMED))

    def write(self, data: bytes) -> None:
        """Send bytes, or nothing if the connection has ended."""
        if self._transport is not None and not self._transport.is_closing() and data:
            self.wrote_at = asyncio.get_running_loop().time()
            self._transport.write(data)

    def pause(self) -> None:
        """Stop reading; TCP then holds the broker back."""
        if self._transport is not None and not self.is_paused and not self._transport.is_closing():
            self.is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and self.is_paused and not self._transport.is_closing():
            self.is_paused = False
            self.heard_at = asyncio.get_running_loop().time()
            self._transport.resume_reading()

    def close(self) -> None:
        """Take leave, so that the broker sends no last will, and close once everything is sent."""
        self.write(mqtt5.DisconnectPacket().write())
        self.end(LinkLost("closed by us"))

    def abandon(self, error: LinkLost, code: DisconnectReasonCode) -> None:
        """Drop the connection on purpose, telling the broker why."""
        self.write(mqtt5.DisconnectPacket(reason_code=code).write())
        self.end(error)

    def end(self, error: LinkLost) -> None:
        """Close the connection without a word once everything is sent."""
        self._lose(error)
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once, with whatever was not sent yet."""
        self._lose(LinkLost("aborted by us"))
        if self._transport is not None:
            self._transport.abort()

    def _lose(self, error: LinkLost) -> None:
        if not self.lost.done():
            self.lost.set_result(error)

    def _take(self) -> int:
        """Hand over every whole packet; return how many bytes they took."""
        topics: list[str] = []
        payloads: list[bytes] = []
        handles: list[int] = []
        retained: list[int] = []
        try:
            return self._split(topics, payloads, handles, retained)
        finally:
            if topics:
                self._messages(topics, payloads, handles, retained)

    def _split(self, topics: list[str], payloads: list[bytes], handles: list[int], retained: list[int]) -> int:
        view, end, position = self._view, self._end, 0
        read, publish = mqtt5.read, mqtt5.PublishPacket
        while position < end:
            first = view[position]
            try:
                packet, size = read(view[position:end])
            except IndexError:
                break
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - the codec's panics are no Exceptions
                packet, size = _by_hand(view[position:end], error)
            position += size
            if packet.__class__ is not publish:
                self._packet(packet)
                continue
            topic = self._unalias(packet) if self._most_aliases else packet.topic
            if first & _RETAIN:
                retained.append(len(topics))
            topics.append(topic)
            payloads.append(packet.payload)
            quality = first & _QOS_BITS
            if quality == _QOS_1:
                handles.append(packet.packet_id)  # type: ignore[arg-type]
            else:
                handles.append(packet.packet_id | QOS_2 if quality else 0)  # type: ignore[operator]
        return position

    def _unalias(self, packet: mqtt5.PublishPacket) -> str:
        alias = packet.topic_alias
        if alias is None:
            return packet.topic
        if alias > self._most_aliases or not (packet.topic or alias in self._aliases):
            raise LinkLost(f"topic alias {alias} was never agreed", DisconnectReasonCode.TOPIC_ALIAS_INVALID.value)
        if packet.topic:
            self._aliases[alias] = packet.topic
        return self._aliases[alias]

    def _make_room(self, taken: int) -> None:
        """Move the rest to the front, into a larger buffer if its packet needs one."""
        rest = self._end - taken
        needed = frame_size(self._view[taken : self._end])
        if needed > self._max_packet + _LARGEST_HEADER:
            raise LinkLost(f"a packet of {needed} bytes", DisconnectReasonCode.PACKET_TOO_LARGE.value)
        size = max(_READ, needed)
        if size != len(self._view):
            room = memoryview(bytearray(size))
            room[:rest] = self._view[taken : self._end]
            self._view = room
        elif taken:
            self._view[:rest] = self._view[taken : self._end]
        self._end = rest


def acknowledgements(handles: Sequence[int]) -> bytes:
    """Return a PUBACK for each QoS 1 handle and a PUBREC for each QoS 2 handle, in their order."""
    ids = np.array(handles, np.uint32)
    ids = ids[ids > 0]
    packets = np.empty((len(ids), 4), np.uint8)
    packets[:, 0] = np.where(ids & QOS_2, _PUBREC, _PUBACK)
    packets[:, 1] = 2
    packets[:, 2] = (ids >> 8) & 0xFF
    packets[:, 3] = ids & 0xFF
    return packets.tobytes()


def frame_size(view: memoryview) -> int:
    """Return the bytes of the packet that begins here.

    0 while its length is not known, and absurdly many if that has no end.
    """
    length = 0
    for place in range(1, min(len(view), _LARGEST_HEADER)):
        length |= (view[place] & 0x7F) << 7 * (place - 1)
        if view[place] < 0x80:  # noqa: PLR2004 - the continuation bit of MQTT's lengths
            return length + place + 1
    return 0 if len(view) < _LARGEST_HEADER else _ENDLESS


def _by_hand(view: memoryview, error: BaseException) -> tuple[mqtt5.PublishPacket, int]:
    """Take out a message that the codec refuses, leaving its properties aside.

    Raises:
        LinkLost: it is no message, or its parts do not fit.
    """
    size = frame_size(view)
    if view[0] >> 4 != _PUBLISH or not 0 < size <= len(view):
        raise LinkLost(f"malformed packet: {error}") from error
    body = bytes(view[size - _body(view, size) : size])
    quality = (view[0] & _QOS_BITS) >> 1
    try:
        name_end = 2 + int.from_bytes(body[:2])
        position = name_end + (2 if quality else 0)
        properties = frame_size(memoryview(b"\0" + body[position:])) - 1
        if quality > _HIGHEST_QOS or properties < 1 or position + properties > len(body):
            raise LinkLost(f"malformed message: {error}") from error
        packet = mqtt5.PublishPacket(
            body[2:name_end].decode(errors="replace"),
            body[position + properties :],
            qos=mqtt5.QoS(quality),
            packet_id=int.from_bytes(body[name_end : name_end + 2]) if quality else None,
        )
    except ValueError as cause:
        raise LinkLost(f"malformed message: {cause}") from error
    return packet, size


def _body(view: memoryview, size: int) -> int:
    """Return the bytes of a packet of ``size`` behind its fixed header."""
    place = 1
    while view[place] >= 0x80:  # noqa: PLR2004 - the continuation bit of MQTT's lengths
        place += 1
    return size - place - 1
