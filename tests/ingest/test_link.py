import asyncio
from collections.abc import Callable
from typing import Any

import mqtt5
import pytest
from mqtt5 import QoS

from ingest.link import QOS_2, Link, acknowledgements
from tests import loops


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


class Heard:
    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes, int]] = []
        self.retained: list[str] = []
        self.packets: list[Any] = []
        self.calls = 0

    def take(self, names: list[str], payloads: list[bytes], handles: list[int], retained: list[int]) -> None:
        self.calls += 1
        self.messages += zip(names, payloads, handles, strict=True)
        self.retained += [names[offset] for offset in retained]


def listening(script: Callable[[Link, Heard, Wire], None], **terms: Any) -> tuple[Heard, Wire, str | None]:
    """Run a script on a link; return what was heard and written, and why the link was lost, if it was."""

    async def run() -> tuple[Heard, Wire, str | None]:
        heard, wire = Heard(), Wire()
        link = Link(heard.take, heard.packets.append, **{"max_packet": 100_000, **terms})
        link.connection_made(wire)
        script(link, heard, wire)
        return heard, wire, str(link.lost.result()) if link.lost.done() else None

    return loops.run(run())


def feed(link: Link, data: bytes, piece: int = 10**9) -> None:
    for start in range(0, len(data), piece):
        part = data[start : start + piece]
        while part:
            room = link.get_buffer(-1)
            taken = min(len(room), len(part))
            room[:taken] = part[:taken]
            link.buffer_updated(taken)
            part = part[taken:]


def message(number: int, *, qos: int = 1, **more: Any) -> bytes:
    packet_id = number % 65_535 + 1 if qos else None
    packet = mqtt5.PublishPacket(f"t/{number}", b"x" * (number % 300), qos=QoS(qos), packet_id=packet_id, **more)
    return packet.write()


@pytest.mark.parametrize("piece", [1, 7, 100, 65_536, 10**9])
def test_messages_are_whole_however_the_stream_is_cut(piece: int) -> None:
    count = 300 if piece < 100 else 3_000
    stream = b"".join(message(number, qos=number % 3) for number in range(count)) + mqtt5.PingRespPacket().write()
    heard, _, lost = listening(lambda link, _heard, _wire: feed(link, stream, piece))
    assert lost is None
    assert [name for name, _, _ in heard.messages] == [f"t/{number}" for number in range(count)]
    assert [len(payload) for _, payload, _ in heard.messages] == [number % 300 for number in range(count)]
    expected = [(0, number % 65_535 + 1, number % 65_535 + 1 | QOS_2)[number % 3] for number in range(count)]
    assert [handle for _, _, handle in heard.messages] == expected
    assert len(heard.packets) == 1


def test_a_read_is_handed_over_as_one_column() -> None:
    stream = b"".join(message(number) for number in range(100))
    heard, _, _ = listening(lambda link, _heard, _wire: feed(link, stream))
    assert heard.calls == 1


def test_a_packet_larger_than_the_buffer_grows_it_and_one_larger_than_agreed_ends_the_link() -> None:
    large = mqtt5.PublishPacket("t", b"x" * 600_000, qos=QoS.AT_LEAST_ONCE, packet_id=1).write()
    heard, _, lost = listening(lambda link, _h, _w: feed(link, large + message(5), 50_000), max_packet=700_000)
    assert lost is None
    assert [len(payload) for _, payload, _ in heard.messages] == [600_000, 5]
    heard, wire, lost = listening(lambda link, _h, _w: feed(link, message(5) + large, 50_000), max_packet=500_000)
    assert lost is not None
    assert "600" in lost
    assert len(heard.messages) == 1
    assert wire.is_closed
    packet, _ = mqtt5.read(memoryview(wire.written))
    assert packet == mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.PACKET_TOO_LARGE)


def test_replayed_messages_are_marked() -> None:
    stream = message(1) + message(2, retain=True) + message(3, duplicate=True)
    heard, _, _ = listening(lambda link, _h, _w: feed(link, stream))
    assert heard.retained == ["t/2"]
    assert len(heard.messages) == 3


def test_topic_aliases_are_resolved_and_foreign_ones_end_the_link() -> None:
    first = mqtt5.PublishPacket("a/b", b"1", topic_alias=2).write()
    again = mqtt5.PublishPacket("", b"2", topic_alias=2).write()
    heard, _, lost = listening(lambda link, _h, _w: feed(link, first + again), topic_aliases=3)
    assert lost is None
    assert [(name, payload) for name, payload, _ in heard.messages] == [("a/b", b"1"), ("a/b", b"2")]
    unknown = mqtt5.PublishPacket("", b"3", topic_alias=1).write()
    heard, _, lost = listening(lambda link, _h, _w: feed(link, first + unknown), topic_aliases=3)
    assert lost == "topic alias 1 was never agreed"
    assert len(heard.messages) == 1
    too_high = mqtt5.PublishPacket("a/b", b"1", topic_alias=4).write()
    assert listening(lambda link, _h, _w: feed(link, too_high), topic_aliases=3)[2] == "topic alias 4 was never agreed"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the codec's own panic
@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (bytes([0x32, 7, 0, 1, 0xFF, 0, 5, 0, 65]), ("\ufffd", b"A", 5)),  # a topic that is not UTF-8
        (bytes([0x32, 11, 0, 1, 97, 0, 6, 3, 0x23, 0, 0, 66, 67]), ("a", b"BC", 6)),  # topic alias 0
        (bytes([0x30, 7, 0, 1, 97, 2, 0x7F, 1, 66]), ("a", b"B", 0)),  # an unknown property
    ],
)
def test_one_message_the_codec_refuses_cannot_stop_the_others(frame: bytes, expected: tuple[str, bytes, int]) -> None:
    stream = message(1) + frame + message(2)
    for piece in (1, 10**9):
        heard, _, lost = listening(lambda link, _h, _w, piece=piece: feed(link, stream, piece))  # type: ignore[misc]
        assert lost is None
        assert heard.messages[1] == expected
        assert len(heard.messages) == 3


@pytest.mark.parametrize(
    "frame",
    [
        bytes([0x36, 7, 0, 1, 65, 0, 5, 0, 65]),  # QoS 3
        bytes([0x00, 0]),  # no packet type
        bytes([0x32, 5, 0, 9, 65, 0, 5]),  # a topic longer than its packet
        bytes([0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),  # a length without end
        b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 100,
    ],
)
def test_a_stream_that_makes_no_sense_ends_the_link_after_what_came_before(frame: bytes) -> None:
    heard, wire, lost = listening(lambda link, _h, _w: feed(link, message(1) + frame + message(2)))
    assert lost is not None
    assert "malformed" in lost
    assert [name for name, _, _ in heard.messages] == ["t/1"]
    assert wire.is_closed
    packet, _ = mqtt5.read(memoryview(wire.written))
    assert packet == mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.MALFORMED_PACKET)


def test_acknowledgements_are_in_order_and_skip_qos_0() -> None:
    data = acknowledgements([5, 0, 300 | QOS_2, 65_535])
    packets = []
    while data:
        packet, size = mqtt5.read(memoryview(data))
        packets.append(packet)
        data = data[size:]
    assert packets == [mqtt5.PubAckPacket(5), mqtt5.PubRecPacket(300), mqtt5.PubAckPacket(65_535)]
    assert acknowledgements([]) == b""
