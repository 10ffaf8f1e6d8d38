"""Many devices at once: queue messages in a broker faster than any client library would."""

import socket
import sys
import time
from collections.abc import Iterator, Sequence

import mqtt5
from mqtt5 import QoS, RetainHandling

_CHUNK = 5_000
_ANSWER = 4  # bytes of a PUBACK without a reason


def payload(number: int, device: int, now_ms: int) -> bytes:
    """Return a message of three values; ``number`` makes its time unique for its device."""
    return b'{"ts":%d,"values":{"temperature":%.2f,"pressure":%.3f,"rpm":%d}}' % (
        now_ms + number,
        20 + number % 40 * 0.25,
        3 + device % 7 * 0.1,
        1400 + number % 200,
    )


def fill(
    port: int,
    *,
    messages: int = 200_000,
    devices: int = 1_000,
    client_id: str = "fixwright-ingest",
    filters: Sequence[str] = ("fw/v1/+/telemetry",),
    qos: int = 1,
    started_ms: int | None = None,
) -> float:
    """Queue messages for the persistent session ``client_id``, which it makes anew; return messages/s.

    The devices are ``bench-0000`` and so on. Each message of a device has its own time.
    """
    _make_session(port, client_id, filters)
    first_ms = (int(time.time() * 1000) - messages // devices - 1) if started_ms is None else started_ms
    with connected(port, mqtt5.ConnectPacket("fixwright-flood", clean_start=True)) as stream:
        began = time.perf_counter()
        for chunk in _chunks(messages, devices, first_ms, qos):
            stream.sendall(chunk)
            if qos:
                _read(stream, min(_CHUNK, messages) * _ANSWER)
        stream.sendall(mqtt5.DisconnectPacket().write())
        return messages / (time.perf_counter() - began)


def fill_embedded(port: int, *, messages: int, devices: int = 4, window: int = 1_000) -> float:
    """Send QoS 1 messages in MQTT 3.1.1 from a few devices at once, each as fast as it is answered; return messages/s.

    The user names are ``bench-0000`` and so on, the password is ``bench``. A device keeps ``window`` messages
    unanswered, as one does that catches up after an outage.
    """
    streams = [_device(port, f"bench-{device:04d}") for device in range(devices)]
    first_ms = int(time.time() * 1000) - messages // devices - 1
    began = time.perf_counter()
    for start in range(0, messages // devices, window):
        for device, stream in enumerate(streams):
            stream.sendall(
                b"".join(
                    _publish_311(f"fw/v1/bench-{device:04d}/telemetry", payload(number, device, first_ms), number)
                    for number in range(start, start + window)
                )
            )
        for stream in streams:
            _read(stream, window * _ANSWER)
    return messages / (time.perf_counter() - began)


def _device(port: int, username: str) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port))
    texts = (username, username, "bench")
    body = _text(b"MQTT") + b"\x04\xc2\x00\x3c" + b"".join(_text(each.encode()) for each in texts)
    stream.sendall(_frame(0x10, body))
    if _read(stream, _ANSWER) != b"\x20\x02\x00\x00":
        raise ConnectionError("the embedded broker refused")
    return stream


def _publish_311(topic: str, body: bytes, number: int) -> bytes:
    return _frame(0x32, _text(topic.encode()) + (number % 65_000 + 1).to_bytes(2) + body)


def _frame(first: int, body: bytes) -> bytes:
    length, size = len(body), bytearray((first,))
    while True:
        length, part = divmod(length, 128)
        size.append(part | (128 if length else 0))
        if not length:
            return bytes(size) + body


def _text(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


def _chunks(messages: int, devices: int, first_ms: int, qos: int) -> Iterator[bytes]:
    if messages % min(_CHUNK, messages):
        raise ValueError(f"messages must be a multiple of {_CHUNK}")
    packet_ids = range(1, _CHUNK + 1)
    for start in range(0, messages, _CHUNK):
        yield b"".join(
            mqtt5.PublishPacket(
                f"fw/v1/bench-{number % devices:04d}/telemetry",
                payload(number // devices, number % devices, first_ms),
                qos=QoS(qos),
                packet_id=packet_id if qos else None,
            ).write()
            for number, packet_id in zip(range(start, min(start + _CHUNK, messages)), packet_ids, strict=False)
        )


def _make_session(port: int, client_id: str, filters: Sequence[str]) -> None:
    connect = mqtt5.ConnectPacket(client_id, clean_start=True, session_expiry_interval=86_400)
    wanted = [
        mqtt5.TopicFilter(
            name,
            max_qos=QoS.AT_LEAST_ONCE,
            retain_as_published=False,
            retain_handling=RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
        )
        for name in filters
    ]
    with connected(port, connect) as stream:
        stream.sendall(mqtt5.SubscribePacket(1, wanted).write())
        _packet(stream)
        stream.sendall(mqtt5.DisconnectPacket().write())


def connected(port: int, connect: mqtt5.ConnectPacket) -> socket.socket:
    """Return a stream on which the broker has accepted us."""
    stream = socket.create_connection(("127.0.0.1", port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.sendall(connect.write())
    connack = _packet(stream)
    if not isinstance(connack, mqtt5.ConnAckPacket) or connack.reason_code.value:
        raise ConnectionError(f"the broker refused: {connack}")
    return stream


def _packet(stream: socket.socket) -> mqtt5.Packet:
    received = b""
    while True:
        received += _read(stream, 1)
        try:
            return mqtt5.read(memoryview(received))[0]
        except IndexError:
            continue


def _read(stream: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = stream.recv(size - len(parts))
        if not part:
            raise ConnectionError("the broker closed the connection")
        parts += part
    return bytes(parts)


if __name__ == "__main__":
    print(fill_embedded(int(sys.argv[1]), messages=int(sys.argv[2])))
