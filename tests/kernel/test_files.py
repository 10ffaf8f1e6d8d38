"""Uploads: only whole pictures are kept, what is shown carries nothing but pixels, and memory stays bounded (D18)."""

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy.orm import Session

from kernel import files
from kernel.errors import FixwrightError, NotFound, TooLarge, Unsupported
from kernel.models import File
from tests.factories import NOW

LIMIT = 2_000_000
SCRIPT = b"<script>alert(1)</script>"


def picture(kind: str = "PNG", size: tuple[int, int] = (640, 480), **values: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (180, 40, 40)).save(out, kind, **values)
    return out.getvalue()


def keep(session: Session, folder: Path, content: bytes, name: str = "photo.png", limit: int = LIMIT) -> File:
    return files.keep_picture(session, folder, io.BytesIO(content), name=name, limit_bytes=limit, now=NOW)


def pixel_flood() -> bytes:
    """Return a PNG of a few hundred bytes that says it is 50,000 pixels wide and high."""
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 50_000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("kind", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")])
def test_D18_a_whole_picture_is_kept_by_what_it_is_not_by_its_name(
    session: Session, tmp_path: Path, kind: str, media_type: str
) -> None:
    content = picture(kind)
    file = keep(session, tmp_path, content, name="report.html")

    assert (file.media_type, file.width, file.height, file.size) == (media_type, 640, 480, len(content))
    assert (tmp_path / "original" / file.sha256[:2] / file.sha256).read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        b"", b"GIF89a" + bytes(200), b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"<html>" + SCRIPT, b"%PDF-1.7\n", b"MZ" + bytes(300), b"PK\x03\x04" + bytes(300), picture()[:200],
        picture("JPEG")[:900], b"\x89PNG\r\n\x1a\n" + bytes(64),
    ],
    ids=["empty", "gif", "svg", "html", "pdf", "exe", "zip", "cut png", "cut jpeg", "hollow png"],
)  # fmt: skip
def test_D18_anything_else_is_refused_and_leaves_nothing(session: Session, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Unsupported):
        keep(session, tmp_path, content)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert session.query(File).count() == 0


@pytest.mark.parametrize("content", [picture() + bytes(LIMIT), pixel_flood()], ids=["bytes", "pixels"])
def test_D18_what_is_too_large_is_refused_before_it_fills_the_memory(
    session: Session, tmp_path: Path, content: bytes
) -> None:
    with pytest.raises(TooLarge):
        keep(session, tmp_path, content)


def test_D18_an_endless_upload_is_read_no_further_than_its_limit(session: Session, tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            return bytes(size)

    upload = Endless()
    with pytest.raises(TooLarge):
        files.keep_picture(session, tmp_path, upload, name="x", limit_bytes=LIMIT, now=NOW)  # type: ignore[arg-type]  # read is all it needs
    assert upload.given <= LIMIT + files.CHUNK


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.png", "a.png"),
        ("", "photo"),
        ("x" * 400, "x" * 200),
        ("..", "photo"),
    ],
)
def test_D18_a_name_leads_nowhere(session: Session, tmp_path: Path, name: str, kept: str) -> None:
    assert keep(session, tmp_path, picture(), name=name).name == kept


def test_D18_what_is_shown_carries_neither_place_nor_second_file(session: Session, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a maker of cameras"
    exif.get_ifd(0x8825)[2] = (31.0, 14.0, 0.0)
    file = keep(session, tmp_path, picture("JPEG", exif=exif) + SCRIPT)

    for size, edge in files.SIZES.items():
        shown = files.shown(tmp_path, file, size)
        content = shown.read_bytes()
        assert b"a maker of cameras" not in content
        assert SCRIPT not in content
        with Image.open(shown) as opened:
            assert not opened.getexif()
            assert opened.format == "JPEG"
            assert max(opened.size) <= edge


def test_a_picture_lying_on_its_side_is_shown_upright(session: Session, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = keep(session, tmp_path, picture("JPEG", exif=exif))
    with Image.open(files.shown(tmp_path, file, "view")) as opened:
        assert opened.size == (480, 640)


def test_the_same_picture_twice_is_one_file_on_the_disk(session: Session, tmp_path: Path) -> None:
    one, two = keep(session, tmp_path, picture()), keep(session, tmp_path, picture())
    assert one.sha256 == two.sha256
    assert len([path for path in (tmp_path / "original").rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("size", ["original", "../original", "huge", ""])
def test_D18_the_original_is_never_shown(session: Session, tmp_path: Path, size: str) -> None:
    with pytest.raises(NotFound):
        files.shown(tmp_path, keep(session, tmp_path, picture()), size)


def test_a_picture_whose_original_is_lost_is_not_found(session: Session, tmp_path: Path) -> None:
    file = keep(session, tmp_path, picture())
    (tmp_path / "original" / file.sha256[:2] / file.sha256).unlink()
    with pytest.raises(FixwrightError):
        files.shown(tmp_path, file, "thumb")
