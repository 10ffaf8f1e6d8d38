"""Byte frames: what stands at which place of a run of bytes, for decoders that are data and not code (ING-12).

A frame is a list of fields. Each reads a fixed number of bytes at an offset, in the order of its bytes and of its
16-bit words (Modbus devices mix the two), or some bits of a byte or word. Reading costs a step a field, whatever the
bytes hold, so a frame can neither loop nor grow.
"""

import base64
import binascii
import re
import struct
from dataclasses import dataclass
from typing import Final, Literal

Encoding = Literal["bytes", "hex", "base64"]
Kind = Literal[
    "uint8", "int8", "uint16", "int16", "uint24", "int24", "uint32", "int32", "uint64", "int64",
    "float16", "float32", "float64", "bcd8", "bcd16", "bcd32", "text",
]  # fmt: skip
Order = Literal["big", "little"]

MAX_FRAME: Final = 4096
"""Bytes a frame may have."""
_SIZES: Final[dict[str, int]] = {
    "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint24": 3, "int24": 3, "uint32": 4, "int32": 4, "uint64": 8,
    "int64": 8, "float16": 2, "float32": 4, "float64": 8, "bcd8": 1, "bcd16": 2, "bcd32": 4,
}  # fmt: skip
_FLOATS: Final = {"float16": ">e", "float32": ">f", "float64": ">d"}
_BLANKS: Final = re.compile(r"[\s:_-]+|0[xX]")


class BadFrame(ValueError):
    """Bytes are not what a frame describes; the message tells a person what is wrong where."""


@dataclass(frozen=True, slots=True)
class Field:
    """One number or text of a frame.

    ``at`` counts bytes from the front, or from the end where it is negative. ``order`` is that of the bytes within a
    16-bit word; ``words`` that of the words, where a value has several. ``bits`` are ``width`` bits from bit ``bit``
    up (0 is the lowest) of the number read; they are signed where the kind is. ``size`` is for texts.
    """

    at: int
    kind: Kind
    order: Order = "big"
    words: Order = "big"
    bit: int | None = None
    width: int = 1
    size: int = 0

    @property
    def length(self) -> int:
        """How many bytes it reads."""
        return self.size if self.kind == "text" else _SIZES[self.kind]


def size_of(kind: str) -> int:
    """Return how many bytes a kind of number takes; 0 for texts, which say it themselves."""
    return _SIZES.get(kind, 0)


def bytes_of(payload: bytes | str, encoding: Encoding) -> bytes:
    """Return the bytes that a payload stands for.

    Hex may have blanks, colons, hyphens and ``0x`` between its bytes; base64 may be of the address-safe kind and
    lack its padding.

    Raises:
        BadFrame: it is not of this encoding, or longer than a frame may be.
    """
    if encoding == "bytes":
        raw = payload if isinstance(payload, bytes) else payload.encode("latin-1", "replace")
        return _bounded(raw)
    text = payload.decode("ascii", "replace") if isinstance(payload, bytes) else payload
    if len(text) > 4 * MAX_FRAME:
        raise BadFrame(f"longer than {MAX_FRAME} bytes")
    if encoding == "hex":
        digits = _BLANKS.sub("", text)
        try:
            return _bounded(bytes.fromhex(digits))
        except ValueError:
            if len(digits) % 2 and re.fullmatch(r"[0-9A-Fa-f]+", digits):
                raise BadFrame(f"{len(digits)} hexadecimal digits make no whole bytes") from None
            raise BadFrame(f"“{text[:40]}” is not hexadecimal") from None
    plain = text.strip().rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return _bounded(base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True))
    except (binascii.Error, ValueError):
        raise BadFrame(f"“{text[:40]}” is not base64") from None


def read(frame: bytes, field: Field) -> float | str:
    """Return what a field holds.

    Raises:
        BadFrame: the frame is too short for it, or its digits are no decimal ones.
    """
    begin = field.at if field.at >= 0 else len(frame) + field.at
    end = begin + field.length
    if begin < 0 or end > len(frame):
        raise BadFrame(f"bytes {field.at} to {field.at + field.length - 1} lie outside of {len(frame)} bytes")
    piece = frame[begin:end]
    if field.kind == "text":
        return piece.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
    piece = _in_order(piece, field)
    if field.kind in _FLOATS:
        number: float = struct.unpack(_FLOATS[field.kind], piece)[0]
        return number
    if field.kind.startswith("bcd"):
        whole = _decimal(piece)
    else:
        whole = int.from_bytes(piece, "big", signed=field.kind.startswith("int") and field.bit is None)
    return whole if field.bit is None else _bits(whole, field)


def write(value: float, field: Field) -> bytes:
    """Return the bytes that ``read`` makes the value of: the other way round, for simulators and tests."""
    if field.kind in _FLOATS:
        piece = struct.pack(_FLOATS[field.kind], value)
    elif field.kind.startswith("bcd"):
        piece = bytes.fromhex(f"{int(value):0{2 * field.length}d}")
    else:
        piece = int(value).to_bytes(field.length, "big", signed=field.kind.startswith("int"))
    return _in_order(piece, field)


def _bounded(raw: bytes) -> bytes:
    if len(raw) > MAX_FRAME:
        raise BadFrame(f"longer than {MAX_FRAME} bytes")
    return raw


def _in_order(piece: bytes, field: Field) -> bytes:
    """Return the bytes from the most to the least significant; doing it twice changes nothing."""
    if len(piece) % 2 or len(piece) == 2:  # noqa: PLR2004 - no more than one word, so the order of words says nothing
        return piece if field.order == "big" else piece[::-1]
    words = [piece[place : place + 2] for place in range(0, len(piece), 2)]
    if field.order == "little":
        words = [word[::-1] for word in words]
    if field.words == "little":
        words.reverse()
    return b"".join(words)


def _bits(whole: int, field: Field) -> int:
    value = (whole >> (field.bit or 0)) & ((1 << field.width) - 1)
    is_negative = field.kind.startswith("int") and value >> (field.width - 1)
    return value - (1 << field.width) if is_negative else value


def _decimal(piece: bytes) -> int:
    digits = piece.hex()
    if not digits.isdecimal():
        raise BadFrame(f"{digits} is not binary-coded decimal")
    return int(digits)
