"""Labels: one as SVG or PNG, many as a PDF sheet in the sizes that label paper has. Pure but for the font files.

Error correction is Q: with a blemish of six hundredths of the area, level L was read never and M half the time. The
readable code stands beside the square, for whoever has no camera or a scratched label. The words beside the square
are made smaller until they all fit; what even then finds no room ends in "…", for a label that prints over its
neighbour is worse than a short one.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import qrcode
from fpdf import FPDF
from qrcode.constants import ERROR_CORRECT_Q
from qrcode.image.pil import PilImage
from qrcode.image.svg import SvgPathImage

from kernel.errors import Invalid
from kernel.i18n import noop

QUIET_ZONE = 4
"""Modules of white around the square, as ISO/IEC 18004 asks."""
PIXELS_A_MODULE = 10
POINT_MM: Final = 25.4 / 72
MOST_LABELS = 500
FONT = "label"
LINE = 1.2
"""Height of a line in heights of its letters."""
SMALLEST = 0.55
"""How far words may shrink, of the size they should have; below it nobody reads them on a machine."""
_TOKENS = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]|[^\s\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]+\s*|\s+")
"""Where a line may break: after each Chinese character, after each word of others."""


@dataclass(frozen=True, slots=True)
class Label:
    """What stands on one label."""

    address: str
    """What the square holds, e.g. ``https://example.com/q/…``."""
    code: str
    name: str
    asset_code: str
    place: str
    hint: str = ""
    """What to do with it, for whoever has never seen one: "Scan to report a fault"."""


@dataclass(frozen=True, slots=True)
class _Words:
    """A text of a label: how high its letters should be, in millimetres, and how many lines it may take."""

    text: str
    height: float
    most: int
    is_bold: bool = False


class _Ruler:
    """Measures texts; each character of a weight is asked of the font once for a whole sheet."""

    def __init__(self, made: FPDF) -> None:
        self.made = made
        self.known: dict[tuple[str, bool], float] = {}

    def width(self, text: str, words: _Words, height: float) -> float:
        """Return the width of a text in millimetres, with letters ``height`` millimetres high."""
        return height * sum(self._of(letter, words.is_bold) for letter in text)

    def _of(self, letter: str, is_bold: bool) -> float:  # noqa: FBT001 - half of the key
        if (letter, is_bold) not in self.known:
            self.made.set_font(FONT, "B" if is_bold else "", 1 / POINT_MM)
            self.known[letter, is_bold] = self.made.get_string_width(letter)
        return self.known[letter, is_bold]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Label paper: page and label size, margins and gaps, all in millimetres."""

    name: str
    page: tuple[float, float]
    label: tuple[float, float]
    margin: tuple[float, float]
    """Left and top."""
    gap: tuple[float, float]
    columns: int
    rows: int


SHEETS: Final[dict[str, Sheet]] = {
    "a4-24": Sheet(noop("A4, 24 labels 70 × 37 mm"), (210, 297), (70, 37), (0, 0.5), (0, 0), 3, 8),
    "a4-14": Sheet(noop("A4, 14 labels 99.1 × 38.1 mm"), (210, 297), (99.1, 38.1), (4.65, 15.15), (2.5, 0), 2, 7),
    "a4-8": Sheet(noop("A4, 8 labels 99.1 × 67.7 mm"), (210, 297), (99.1, 67.7), (4.65, 13.1), (2.5, 0), 2, 4),
    "roll-60x40": Sheet(noop("Roll, 60 × 40 mm"), (60, 40), (60, 40), (0, 0), (0, 0), 1, 1),
    "roll-80x50": Sheet(noop("Roll, 80 × 50 mm"), (80, 50), (80, 50), (0, 0), (0, 0), 1, 1),
}


def _square(address: str) -> qrcode.QRCode:
    square = qrcode.QRCode(error_correction=ERROR_CORRECT_Q, border=QUIET_ZONE, box_size=PIXELS_A_MODULE)
    square.add_data(address)
    square.make(fit=True)
    return square


def matrix(address: str) -> list[list[bool]]:
    """Return the modules of an address's square, rows of dark or light, with the white margin around."""
    return [[bool(module) for module in row] for row in _square(address).get_matrix()]


def svg(label: Label) -> bytes:
    """Return the square as an SVG document."""
    out = io.BytesIO()
    _square(label.address).make_image(image_factory=SvgPathImage).save(out)
    return out.getvalue()


def png(label: Label) -> bytes:
    """Return the square as a PNG picture, ten pixels a module."""
    out = io.BytesIO()
    _square(label.address).make_image(image_factory=PilImage).save(out, "PNG")
    return out.getvalue()


def pdf(labels: Sequence[Label], sheet: Sheet, *, font: Path, bold: Path, skip: int = 0) -> bytes:
    """Return a PDF of label sheets; the first ``skip`` places of the first sheet stay empty (used up before).

    ``font`` and ``bold`` are TrueType files with Chinese glyphs; only those that are used go into the PDF.

    Raises:
        Invalid: there are no labels, too many, or more places to skip than a sheet has.
    """
    places = sheet.columns * sheet.rows
    if not labels or len(labels) > MOST_LABELS:
        raise Invalid("Choose between 1 and {most} labels.", field="labels", most=MOST_LABELS)
    if not 0 <= skip < places:
        raise Invalid("This sheet has {places} labels.", field="skip", places=places)
    made = FPDF(unit="mm", format=sheet.page)
    made.set_auto_page_break(auto=False)
    made.set_margin(0)
    made.c_margin = 0
    made.add_font(FONT, fname=font)
    made.add_font(FONT, "B", fname=bold)
    ruler = _Ruler(made)
    for number, label in enumerate(labels, skip):
        if number == skip or number % places == 0:
            made.add_page()
        column, row = number % places % sheet.columns, number % places // sheet.columns
        left = sheet.margin[0] + column * (sheet.label[0] + sheet.gap[0])
        top = sheet.margin[1] + row * (sheet.label[1] + sheet.gap[1])
        _draw(ruler, label, sheet.label, left, top)
    return bytes(made.output())


def matrix_edge(sheet: Sheet) -> float:
    """Return where the square of a label ends, in millimetres from the label's left; words stand right of it."""
    return 1.5 + _edge(sheet.label)


def _edge(size: tuple[float, float]) -> float:
    return min(size[1] - 3, size[0] * 0.52)


def _draw(ruler: _Ruler, label: Label, size: tuple[float, float], left: float, top: float) -> None:
    """Draw one label: the square on the left, as large as the label is high, and the words beside it."""
    edge = _edge(size)
    _draw_square(ruler.made, label.address, left + 1.5, top + (size[1] - edge) / 2, edge)
    unit = size[1] / 37
    # The square brings its own white margin, so the words may begin right beside it.
    x, width = left + edge + 1.5, size[0] - edge - 4
    y, room = top + 4 * unit, size[1] - 8 * unit
    foot = [_Words(label.code, 4.4 * unit, 1, is_bold=True), _Words(label.hint, 2.3 * unit, 2)]
    foot_lines = _fitted(ruler, foot, width, room / 2)
    foot_height = sum(height * LINE for _, height, _ in foot_lines)
    head = [
        _Words(label.name, 4.4 * unit, 3, is_bold=True),
        _Words(label.asset_code, 3.2 * unit, 1),
        _Words(label.place, 2.9 * unit, 3),
    ]
    _write(ruler.made, _fitted(ruler, head, width, room - foot_height - 1.5 * unit), x, y)
    _write(ruler.made, foot_lines, x, y + room - foot_height)


def _draw_square(made: FPDF, address: str, left: float, top: float, edge: float) -> None:
    """Draw the modules as filled runs: vectors, sharp on any printer."""
    modules = matrix(address)
    module = edge / len(modules)
    made.set_fill_color(0)
    for row, line in enumerate(modules):
        start = None
        for column, dark in enumerate([*line, False]):
            if dark and start is None:
                start = column
            elif not dark and start is not None:
                made.rect(left + start * module, top + row * module, (column - start) * module, module, style="F")
                start = None


def _fitted(ruler: _Ruler, words: Sequence[_Words], width: float, room: float) -> list[tuple[str, float, bool]]:
    """Return lines with the height and weight of their letters, together no higher than ``room`` millimetres."""
    scale = 1.0
    while True:
        lines = [
            (line, one.height * scale, one.is_bold)
            for one in words
            for line in _lines(ruler, one, one.height * scale, width, is_last=scale <= SMALLEST)
        ]
        whole = sum(height * LINE for _, height, _ in lines)
        is_cut = any(len(_wrapped(ruler, one, one.height * scale, width)) > one.most for one in words)
        if (whole <= room and not is_cut) or scale <= SMALLEST:
            break
        scale = max(scale * 0.93, SMALLEST)
    while lines and sum(height * LINE for _, height, _ in lines) > room:
        lines.pop()
    return lines


def _lines(ruler: _Ruler, words: _Words, height: float, width: float, *, is_last: bool) -> list[str]:
    """Return the lines a text takes, at most as many as it may; what is left over ends in "…"."""
    lines = _wrapped(ruler, words, height, width)
    if len(lines) <= words.most:
        return lines
    kept = lines[: words.most]
    if is_last:
        last = kept[-1]
        while last and ruler.width(last + "…", words, height) > width:
            last = last[:-1]
        kept[-1] = last.rstrip() + "…"
    return kept


def _wrapped(ruler: _Ruler, words: _Words, height: float, width: float) -> list[str]:
    """Return a text broken into lines of a width in millimetres; a word longer than a line is broken inside."""
    lines, line, used = [], "", 0.0
    for token in _TOKENS.findall(words.text):
        pieces = [token] if ruler.width(token.rstrip(), words, height) <= width else list(token)
        for piece in pieces:
            if line and used + ruler.width(piece.rstrip(), words, height) > width:
                lines.append(line.rstrip())
                line, used = "", 0.0
            line += piece
            used += ruler.width(piece, words, height)
    return [*lines, line.rstrip()] if line.strip() else lines


def _write(made: FPDF, lines: Sequence[tuple[str, float, bool]], left: float, top: float) -> None:
    for text, height, is_bold in lines:
        made.set_font(FONT, "B" if is_bold else "", height / POINT_MM)
        made.text(left, top + height, text)
        top += height * LINE
