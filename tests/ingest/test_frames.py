"""Byte frames: what is written is read again in every order and sign; what does not fit is refused at its place."""

import base64
import contextlib
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import frames
from ingest.frames import BadFrame, Field

WHOLE = ["uint8", "int8", "uint16", "int16", "uint24", "int24", "uint32", "int32", "uint64", "int64"]
orders = st.sampled_from(["big", "little"])


@st.composite
def numbers(draw: st.DrawFn) -> tuple[Field, int]:
    kind = draw(st.sampled_from(WHOLE))
    field = Field(draw(st.integers(0, 9)), kind, draw(orders), draw(orders))  # type: ignore[arg-type]  # one of the kinds
    bits = 8 * field.length
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind.startswith("int") else (0, 2**bits - 1)
    return field, draw(st.integers(low, high))


@given(numbers(), st.binary(max_size=6))
def test_a_whole_number_written_is_read_again(number: tuple[Field, int], behind: bytes) -> None:
    field, value = number
    frame = bytes(field.at) + frames.write(value, field) + behind
    assert frames.read(frame, field) == value
    # And counted from the end, it is the same place.
    from_end = Field(field.at - len(frame), field.kind, field.order, field.words)
    assert frames.read(frame, from_end) == value


@given(st.sampled_from(["float32", "float64"]), orders, orders, st.floats(width=32, allow_nan=False))
def test_a_float_written_is_read_again(kind: Any, order: Any, words: Any, value: float) -> None:
    field = Field(0, kind, order, words)
    assert frames.read(frames.write(value, field), field) == value


@given(st.integers(0, 2**16 - 1), st.integers(0, 15), st.integers(1, 16))
def test_bits_are_those_of_the_number(word: int, bit: int, width: int) -> None:
    width = min(width, 16 - bit)
    raw = word.to_bytes(2)
    assert frames.read(raw, Field(0, "uint16", bit=bit, width=width)) == (word >> bit) % 2**width
    signed = frames.read(raw, Field(0, "int16", bit=bit, width=width))
    assert isinstance(signed, int)
    assert signed % 2**width == (word >> bit) % 2**width
    assert -(2 ** (width - 1)) <= signed < 2 ** (width - 1)


@pytest.mark.parametrize(
    ("order", "words", "expected"),
    [("big", "big", 0x12345678), ("big", "little", 0x56781234), ("little", "big", 0x34127856),
     ("little", "little", 0x78563412)],
)  # fmt: skip
def test_the_four_orders_of_modbus(order: Any, words: Any, expected: int) -> None:
    assert frames.read(bytes.fromhex("12345678"), Field(0, "uint32", order, words)) == expected


@given(st.binary(max_size=64))
def test_hex_and_base64_stand_for_the_bytes(raw: bytes) -> None:
    assert frames.bytes_of(raw.hex(" ").upper(), "hex") == raw
    assert frames.bytes_of(raw.hex(), "hex") == raw
    assert frames.bytes_of(base64.b64encode(raw), "base64") == raw
    assert frames.bytes_of(base64.urlsafe_b64encode(raw).decode().rstrip("="), "base64") == raw


@given(st.binary(max_size=40) | st.text(max_size=40), st.sampled_from(["bytes", "hex", "base64"]))
def test_whatever_comes_is_bytes_or_refused(payload: Any, encoding: Any) -> None:
    with contextlib.suppress(BadFrame):
        assert isinstance(frames.bytes_of(payload, encoding), bytes)


@pytest.mark.parametrize(
    ("payload", "encoding", "said"),
    [("12 3", "hex", "whole bytes"), ("zz", "hex", "not hexadecimal"), ("a*b", "base64", "not base64"),
     (bytes(5000), "bytes", "longer")],
)  # fmt: skip
def test_what_is_no_such_encoding_is_said(payload: Any, encoding: Any, said: str) -> None:
    with pytest.raises(BadFrame, match=said):
        frames.bytes_of(payload, encoding)


def test_a_field_beyond_the_end_is_refused_with_its_place() -> None:
    with pytest.raises(BadFrame, match="bytes 3 to 4 lie outside of 4"):
        frames.read(bytes(4), Field(3, "uint16"))
    with pytest.raises(BadFrame, match="outside"):
        frames.read(bytes(2), Field(-3, "uint16"))


def test_text_floats_and_decimals() -> None:
    assert frames.read(b"\0E42 \0\0", Field(1, "text", size=6)) == "E42"
    assert frames.read(struct.pack(">e", 1.5), Field(0, "float16")) == 1.5
    assert frames.read(bytes.fromhex("12345678"), Field(0, "bcd32")) == 12345678
    with pytest.raises(BadFrame, match="decimal"):
        frames.read(b"\x1f", Field(0, "bcd8"))
