"""A gzipped file of history is read as the file that it holds, and never holds more than it may (TEL-8)."""

import gzip
import io

import pytest

from ingest import packed
from kernel.errors import Invalid

TEXT = "ts,metric,value\n" + "".join(f"{n},temperature,{n % 90}\r\n" for n in range(20_000))


def read(content: bytes, most_bytes: int = 10**9) -> str:
    with io.BytesIO(content) as raw, packed.opened(raw, most_bytes) as opened:
        return opened.read()


def test_TEL_8_a_file_is_read_the_same_packed_in_parts_and_plain() -> None:
    body = TEXT.encode("utf-8-sig")
    parts = gzip.compress(body[:1000]) + gzip.compress(body[1000:])
    assert read(body) == read(gzip.compress(body)) == read(parts) == TEXT


@pytest.mark.parametrize("end", [2, 5, 12, 2000, -9, -1])
def test_TEL_8_a_packed_file_that_ends_early_is_said_to(end: int) -> None:
    with pytest.raises(Invalid, match="ends before its end"):
        read(gzip.compress(TEXT.encode())[:end])


def test_TEL_8_a_damaged_packed_file_is_said_to_be() -> None:
    content = bytearray(gzip.compress(TEXT.encode()))
    content[-6] ^= 1
    for broken in (bytes(content), gzip.compress(TEXT.encode()) + b"and more", b"\x1f\x8b\x08\x00" + b"x" * 100):
        with pytest.raises(Invalid, match="damaged"):
            read(broken)


def test_TEL_8_the_limit_is_of_what_a_file_holds_and_nothing_beyond_it_is_unpacked() -> None:
    bomb = gzip.compress(b"\n" * 50_000_000)
    assert len(bomb) < 100_000
    raw = io.BytesIO(bomb)
    with packed.opened(raw, 1_000_000) as opened, pytest.raises(Invalid, match="more than 1 MB"):
        opened.read()
    assert raw.tell() < len(bomb), "it was given up on the way"
    assert len(read(gzip.compress(b"x" * 1_000_000), 1_000_000)) == 1_000_000
