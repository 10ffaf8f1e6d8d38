"""A file of history as text, gzipped or not: told apart by its first bytes, unpacked as it is read.

No more than a buffer of it is ever unpacked at once, and what it unpacks to is counted: a small file that holds a huge
one is given up at the limit, and costs nothing beyond it. A file that ends before its end is said to, so that a broken
upload is not taken for a short history.
"""

import gzip
import io
import zlib
from typing import IO, Final

from kernel.errors import Invalid

_MAGIC: Final = b"\x1f\x8b"


def opened(raw: IO[bytes], most_bytes: int) -> IO[str]:
    """Return the text of a file, from its beginning.

    Reading it raises ``Invalid`` where a packed file is damaged, ends early, or holds more than ``most_bytes``.
    """
    is_packed = raw.read(len(_MAGIC)) == _MAGIC
    raw.seek(0)
    content = io.BufferedReader(_Unpacked(raw, most_bytes), 1 << 16) if is_packed else raw
    return io.TextIOWrapper(content, encoding="utf-8-sig", newline="")


class _Unpacked(io.RawIOBase):
    """What a gzipped file holds, one read at a time."""

    def __init__(self, raw: IO[bytes], most_bytes: int) -> None:
        self._packed = gzip.GzipFile(fileobj=raw, mode="rb")
        self._most_bytes = most_bytes
        self._read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        try:
            found = self._packed.read1(len(buffer))
        except EOFError:
            raise Invalid(
                "The gzip file ends before its end: it was not sent or written whole.", field="file"
            ) from None
        except (zlib.error, OSError) as error:
            raise Invalid("The gzip file is damaged: {why}", field="file", why=str(error)) from None
        self._read_bytes += len(found)
        if self._read_bytes > self._most_bytes:
            raise Invalid(
                "The file holds more than {limit} MB unpacked.", field="file", limit=self._most_bytes // 1_000_000
            )
        buffer[: len(found)] = found
        return len(found)
