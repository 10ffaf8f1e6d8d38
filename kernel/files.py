"""Uploaded files: originals by content hash, never changed; pictures are shown as re-encoded copies.

The media type is found by looking at the bytes, never believed from the name. A picture that a page shows
has been decoded and encoded again, so it carries neither a place, nor a script, nor a second file.
"""

import hashlib
import io
import os
import warnings
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps
from sqlalchemy.orm import Session

from kernel.errors import NotFound, TooLarge, Unsupported
from kernel.models import File

PICTURES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
MOST_PIXELS = 60_000_000
CHUNK = 1 << 16
SIZES = {"thumb": 320, "view": 1600}


def keep_picture(
    session: Session,
    folder: Path,
    upload: BinaryIO,
    *,
    name: str,
    limit_bytes: int,
    now: datetime,
    company_id: int | None = None,
) -> File:
    """Keep an uploaded JPEG, PNG or WebP and return its row.

    Raises:
        TooLarge: more than ``limit_bytes`` bytes or 60 million pixels.
        Unsupported: the bytes are not a whole picture of a kind we show.
    """
    content = _read(upload, limit_bytes)
    media_type, width, height = _look(content)
    digest = hashlib.sha256(content).hexdigest()
    _write_once(folder / "original" / digest[:2] / digest, content)
    row = File(
        sha256=digest,
        media_type=media_type,
        size=len(content),
        name=Path(name.replace("\\", "/")).name.strip(". ")[:200] or "photo",
        width=width,
        height=height,
        company_id=company_id,
        uploaded_at=now,
    )
    session.add(row)
    session.flush()
    return row


def shown(folder: Path, file: File, size: str) -> Path:
    """Return the path of a picture re-encoded as JPEG at most ``thumb`` (320) or ``view`` (1600) pixels wide.

    Raises:
        NotFound: there is no such size, or the original is missing.
    """
    if size not in SIZES:
        raise NotFound("There is no such picture.")
    path = folder / size / file.sha256[:2] / f"{file.sha256}.jpg"
    if not path.exists():
        original = folder / "original" / file.sha256[:2] / file.sha256
        if not original.exists():
            raise NotFound("There is no such picture.")
        _write_once(path, _encoded(original.read_bytes(), SIZES[size]))
    return path


def _encoded(content: bytes, edge: int) -> bytes:
    with Image.open(io.BytesIO(content)) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
        picture.thumbnail((edge, edge))
        out = io.BytesIO()
        # A comment would be carried over from the original; it may say as much about a place as its EXIF data.
        picture.save(out, "JPEG", quality=82, comment=b"")
        return out.getvalue()


def _read(upload: BinaryIO, limit: int) -> bytes:
    content = bytearray()
    while piece := upload.read(CHUNK):
        content += piece
        if len(content) > limit:
            raise TooLarge("The file is larger than {limit} MB.", field="photos", limit=limit // 1_000_000)
    return bytes(content)


def _look(content: bytes) -> tuple[str, int, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(content), formats=list(PICTURES)) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise TooLarge("The picture has too many pixels.", field="photos")
                picture.load()
                return PICTURES[picture.format or ""], picture.width, picture.height
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise TooLarge("The picture has too many pixels.", field="photos") from error
        except (OSError, SyntaxError, ValueError, KeyError) as error:
            raise Unsupported("Only whole JPEG, PNG or WebP pictures can be added.", field="photos") from error


def _write_once(path: Path, content: bytes) -> None:
    """Write a file so that it is whole or absent, also when the machine stops in the middle."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
