"""Pictures as strangers send them: honest ones, with the place they were taken at, and bad ones of every kind."""

import io
import struct
import zlib

from PIL import Image

PLACE = "Billstrasse 84"
"""Stands in the metadata of ``taken_at_a_place`` and must stand in nothing that is shown."""


def photo(colour: str = "#7a3b1d", size: tuple[int, int] = (640, 480), form: str = "JPEG") -> bytes:
    """Return a plain picture."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, form)
    return out.getvalue()


def taken_at_a_place() -> bytes:
    """Return a JPEG with GPS coordinates, a camera's serial number and an address in its metadata, and turned."""
    picture = Image.new("RGB", (640, 480), "#1d4f7a")
    exif = picture.getexif()
    exif[0x010F] = "Camera 4711"
    exif[0x0112] = 6
    exif[0x010E] = PLACE
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2] = "N", (53.0, 32.0, 40.56)
    gps[3], gps[4] = "E", (10.0, 2.0, 43.08)
    out = io.BytesIO()
    picture.save(out, "JPEG", exif=exif, comment=PLACE.encode())
    return out.getvalue()


def with_a_script_behind(content: bytes) -> bytes:
    """Return a picture that is a page with a script too, for whoever reads it as one."""
    return content + b"<html><script>alert(1)</script></html>"


def page_in_disguise() -> bytes:
    """Return a page that calls itself a GIF."""
    return b"GIF89a=1;/*" + b"\0" * 40 + b"*/<script>alert(1)</script>"


def cut_off() -> bytes:
    """Return the first half of a picture."""
    noise = Image.effect_noise((640, 480), 80).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "JPEG")
    return out.getvalue()[: len(out.getvalue()) // 2]


def flood(width: int = 40_000, height: int = 40_000) -> bytes:
    """Return a small PNG that claims 1.6 billion pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
