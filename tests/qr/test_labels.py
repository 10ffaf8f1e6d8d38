"""Labels as they leave the printer: read back by a decoder, with every word inside its label."""

import base64
import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import qrcode
from PIL import Image
from playwright.sync_api import Browser, Page
from qrcode.constants import ERROR_CORRECT_Q

from api.web import assets
from kernel import ids
from kernel.errors import Invalid
from qr import labels
from qr.labels import SHEETS, Label, Sheet

JSQR = assets.VENDOR / "jsqr" / "jsQR.js"
LONG = Label(
    address=f"https://fixwright.example.com/q/{ids.token()}",
    code="7KQ4-M2XA",
    name="Zweiplatten-Spritzgießmaschine mit Schließkraftüberwachungseinrichtung, hydraulic, 1200 t, refurbished 2024",
    asset_code="SU-MOU-005-LONG-CODE-0001-A",
    place="苏州工厂 · 注塑车间 · 三号线 · 东侧第二跨 靠近模具库 · 二层平台北端 · 立柱 K12 与 K13 之间",
    hint="扫码报修 Scan to report a fault",
)


def label(number: int) -> Label:
    return Label(
        address=f"https://fixwright.example.com/q/{ids.token()}",
        code=ids.code(),
        name=f"{number}号空压机",
        asset_code=f"SU-COM-{number:03}",
        place="苏州工厂 · 空压站",
        hint="扫码报修",
    )


def printed(chosen: list[Label], sheet: Sheet, skip: int = 0) -> bytes:
    if not assets.font().is_file():
        pytest.skip("needs the browser libraries (python -m api.web.assets, or make test)")
    return labels.pdf(chosen, sheet, font=assets.font(), bold=assets.font("Bold"), skip=skip)


def poppler(program: str, *arguments: str) -> str:
    """Run a program of poppler-utils and return what it prints; skip the test where there is none."""
    if shutil.which(program) is None:
        pytest.skip(f"needs {program} (Debian: apt install poppler-utils)")
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """Return a page of the machine's own browser that has the decoder of the product's scanner."""
    page = browser.new_page()
    page.add_script_tag(path=JSQR)
    yield page
    page.close()


READ = """async (address) => {
    const picture = new Image();
    picture.src = address;
    await picture.decode();
    const canvas = Object.assign(document.createElement("canvas"), {width: 480, height: 480});
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#fff"; pen.fillRect(0, 0, 480, 480); pen.drawImage(picture, 0, 0, 480, 480);
    return jsQR(pen.getImageData(0, 0, 480, 480).data, 480, 480)?.data ?? null;
}"""


def read(page: Page, content: bytes, media_type: str = "image/png") -> object:
    """Return what the product's own scanner reads in a square picture."""
    return page.evaluate(READ, f"data:{media_type};base64,{base64.b64encode(content).decode()}")


def test_every_square_of_a_sheet_printed_at_300_dpi_is_read(tmp_path: Path, page: Page) -> None:
    sheet, chosen = SHEETS["a4-24"], [label(number) for number in range(24)]
    (tmp_path / "sheet.pdf").write_bytes(printed(chosen, sheet))
    poppler("pdftoppm", "-r", "300", "-png", "-gray", str(tmp_path / "sheet.pdf"), str(tmp_path / "sheet"))
    whole = Image.open(tmp_path / "sheet-1.png")
    dots = 300 / 25.4
    for number, one in enumerate(chosen):
        column, row = number % sheet.columns, number // sheet.columns
        left = (sheet.margin[0] + column * (sheet.label[0] + sheet.gap[0])) * dots
        top = (sheet.margin[1] + row * (sheet.label[1] + sheet.gap[1])) * dots
        cut = whole.crop((int(left), int(top), int(left + sheet.label[1] * dots), int(top + sheet.label[1] * dots)))
        picture = io.BytesIO()
        cut.save(picture, "PNG")
        assert read(page, picture.getvalue()) == one.address, f"label {number + 1}"


@pytest.mark.parametrize("size", list(SHEETS))
def test_words_however_long_stay_within_their_label(tmp_path: Path, size: str) -> None:
    sheet = SHEETS[size]
    places = sheet.columns * sheet.rows
    (tmp_path / "sheet.pdf").write_bytes(printed([LONG] * places, sheet))
    boxes = poppler("pdftotext", "-bbox", str(tmp_path / "sheet.pdf"), "-")
    words = re.findall(r'<word xMin="([\d.]+)" yMin="([\d.]+)" xMax="([\d.]+)" yMax="([\d.]+)">([^<]*)<', boxes)
    assert len(words) > 5 * places
    point = 25.4 / 72
    for *corners, text in words:
        x_min, y_min, x_max, y_max = (float(corner) * point for corner in corners)
        column = int((x_min - sheet.margin[0]) // (sheet.label[0] + sheet.gap[0]))
        row = int(((y_min + y_max) / 2 - sheet.margin[1]) // (sheet.label[1] + sheet.gap[1]))
        left = sheet.margin[0] + column * (sheet.label[0] + sheet.gap[0])
        top = sheet.margin[1] + row * (sheet.label[1] + sheet.gap[1])
        square = left + labels.matrix_edge(sheet)
        assert square - 0.1 <= x_min, f"{text} lies over the square"
        assert x_max <= left + sheet.label[0], f"{text} leaves the label"
        # A font's own box is higher than its letters, by a fifth above and below.
        assert top - 1 <= y_min, f"{text} leaves the label"
        assert y_max <= top + sheet.label[1] + 1, f"{text} leaves the label"
    codes = [text for *_box, text in words if text == LONG.code]
    assert len(codes) == places, "the readable code is never cut"


def test_the_chinese_of_a_label_is_in_the_file_and_not_borrowed_from_the_machine(tmp_path: Path) -> None:
    (tmp_path / "sheet.pdf").write_bytes(printed([label(1)], SHEETS["roll-60x40"]))
    fonts = poppler("pdffonts", str(tmp_path / "sheet.pdf")).splitlines()[2:]
    assert fonts
    assert all(line.split()[-5] == "yes" for line in fonts), "every font is embedded"
    text = poppler("pdftotext", str(tmp_path / "sheet.pdf"), "-")
    assert "1号空压机" in text
    assert "扫码报修" in text


def test_200_labels_fill_nine_sheets_and_stay_a_small_file(tmp_path: Path) -> None:
    content = printed([label(number) for number in range(200)], SHEETS["a4-24"])
    (tmp_path / "sheet.pdf").write_bytes(content)
    assert "Pages:           9" in poppler("pdfinfo", str(tmp_path / "sheet.pdf"))
    assert len(content) < 1_000_000, "only the glyphs that are used go in"


def test_places_used_up_before_stay_empty(tmp_path: Path) -> None:
    (tmp_path / "sheet.pdf").write_bytes(printed([label(1)], SHEETS["a4-8"], skip=7))
    boxes = poppler("pdftotext", "-bbox", str(tmp_path / "sheet.pdf"), "-")
    lowest = min(float(top) * 25.4 / 72 for top in re.findall(r'yMin="([\d.]+)"', boxes.partition("<page")[2]))
    assert lowest > 13.1 + 3 * 67.7 - 1, "the last place of the sheet"


@pytest.mark.parametrize(("count", "skip"), [(0, 0), (labels.MOST_LABELS + 1, 0), (1, 24), (1, -1)])
def test_too_few_too_many_and_places_that_are_none_are_refused(count: int, skip: int) -> None:
    with pytest.raises(Invalid):
        labels.pdf([label(0)] * count, SHEETS["a4-24"], font=Path("none"), bold=Path("none"), skip=skip)


def test_the_square_is_drawn_at_level_q_with_a_white_margin_of_four() -> None:
    modules = labels.matrix("https://fixwright.example/q/abc")
    reference = qrcode.QRCode(error_correction=ERROR_CORRECT_Q, border=4)
    reference.add_data("https://fixwright.example/q/abc")
    reference.make(fit=True)
    assert modules == reference.get_matrix()
    assert not any(dark for row in modules[:4] for dark in row), "four rows of white"


def test_a_picture_and_a_drawing_of_one_label_hold_the_same_address(page: Page) -> None:
    one = label(7)
    assert read(page, labels.png(one)) == one.address
    assert read(page, labels.svg(one), "image/svg+xml") == one.address
