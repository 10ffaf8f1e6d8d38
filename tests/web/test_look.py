"""The look of every page, judged in a real browser on the gallery of all macros under the product's content policy."""

import gzip
import io
from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest
import qrcode
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser import faults
from tests.waiting import until
from tests.web import gallery

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1440, "height": 900}
Opened = Callable[..., Page]


@pytest.fixture
def address() -> Iterator[str]:
    with gallery.serving() as address:
        yield address


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Opened]:
    """Return a function that opens a page of the gallery; a fault in its console fails the test at the end."""
    complaints: list[str] = []
    contexts = []

    def open_page(
        name: str, *, lang: str = "en", theme: str = "light", size: dict[str, int] = DESK, **more: bool
    ) -> Page:
        context = browser.new_context(viewport=size, color_scheme=theme, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{address}/{name}?lang={lang}&theme={theme}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize(
    ("lang", "theme", "size"),
    [("en", "light", PHONE), ("zh", "dark", PHONE), ("zh", "light", DESK), ("en", "dark", DESK)],
    ids=["en-light-360", "zh-dark-360", "zh-light-1440", "en-dark-1440"],
)
@pytest.mark.parametrize("name", ["desk", "phone", "public"])
def test_every_layout_is_accessible_and_fits_its_window(
    opened: Opened, name: str, lang: str, theme: str, size: dict[str, int]
) -> None:
    page = opened(name, lang=lang, theme=theme, size=size)
    page.wait_for_load_state("networkidle")
    if name == "desk":
        expect(page.locator("[data-calendar] .ec-event").first).to_be_visible()
        expect(page.locator(".fw-map-pin")).to_have_count(4)
        expect(page.locator("[data-plot] canvas")).to_be_visible()
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize(("name", "most_kb"), [("phone", 200), ("public", 200)])
def test_the_first_load_of_a_phone_page_weighs_under_200_kb(
    opened: Opened, address: str, name: str, most_kb: int
) -> None:
    page = opened(name, size=PHONE)
    page.wait_for_load_state("networkidle")
    urls = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    bodies = [httpx.get(url).content for url in {f"{address}/{name}", *(url for url in urls if "/live" not in url)}]
    sent = sum(len(gzip.compress(body, 6)) for body in bodies)
    assert sent < most_kb * 1000 / 2, "leaves no room for what a real page adds"


def test_without_javascript_forms_menus_filters_and_photos_still_work(opened: Opened) -> None:
    page = opened("desk", java_script_enabled=False)
    expect(page.locator(".fw-filters button")).to_be_visible()
    expect(page.locator("input[type=file]").first).to_be_visible()
    expect(page.get_by_text("The readings as a table")).to_be_visible()
    expect(page.get_by_text("Li Wei, Hall 2")).to_be_visible()
    page.locator("summary[aria-label=More]").click()
    expect(page.get_by_text("Hand over")).to_be_visible()
    expect(page.locator("tbody time").first).to_have_text("3 min ago")


def test_a_relative_time_stays_true_while_the_page_is_open(opened: Opened, address: str) -> None:
    page = opened("desk")
    moment = page.locator("#alarm-1 time")
    expect(moment).to_have_text("3 min ago")
    page.wait_for_load_state("networkidle")
    page.clock.install()
    page.clock.set_system_time(gallery.NOW + timedelta(hours=1))
    page.goto(f"{address}/desk")
    expect(moment).to_have_text("1 h ago")
    page.clock.fast_forward("02:00:00")
    expect(moment).to_have_text("3 h ago")


def test_a_change_made_elsewhere_appears_by_itself_and_glows_once(opened: Opened) -> None:
    page = opened("desk")
    changed = page.locator("#alarm-1[data-glow='2']")
    expect(changed).to_be_visible()
    expect(page.locator("#rows .fw-glow")).to_have_count(1)
    expect(changed).to_have_class("fw-glow")
    expect(changed).not_to_have_class("fw-glow")


def test_light_and_dark_switch_at_once_and_are_remembered(opened: Opened) -> None:
    page = opened("desk", theme="light")
    page.locator("[data-theme-switch]").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    assert {"theme": "dark"}.items() <= {one["name"]: one["value"] for one in page.context.cookies()}.items()


def test_ctrl_k_reaches_the_search_box_and_escape_leaves_it(opened: Opened) -> None:
    page = opened("desk")
    page.wait_for_load_state("networkidle")
    search = page.locator("#search")
    page.keyboard.press("Control+k")
    expect(search).to_be_focused()
    page.keyboard.press("Escape")
    expect(search).not_to_be_focused()
    page.keyboard.press("/")
    expect(search).to_be_focused()


def test_an_impatient_thumb_sends_a_form_once(opened: Opened) -> None:
    page = opened("phone", size=PHONE)
    page.wait_for_load_state("networkidle")
    page.evaluate(
        "const form = document.querySelector('.fw-phone-foot form'); form.requestSubmit(); form.requestSubmit();"
    )
    until(gallery.posted, what="the form arrives")
    page.wait_for_load_state("networkidle")
    assert gallery.posted() == ["/done"]


def test_photos_are_shown_made_smaller_and_can_be_taken_back(opened: Opened) -> None:
    page = opened("public", size=PHONE)
    chooser = page.locator("[data-photos] input[type=file]")
    expect(page.locator("[data-photos].is-ready")).to_be_visible()
    for name in ("door.png", "wheel.png"):
        chooser.set_input_files({"name": name, "mimeType": "image/png", "buffer": _picture(2400, 1800)})
        expect(page.locator(f".fw-photo img[alt='{name.replace('png', 'jpg')}']")).to_be_visible()
    assert page.evaluate("document.querySelector('[data-photos] input').files.length") == 2
    width = page.evaluate(
        "async () => (await createImageBitmap(document.querySelector('[data-photos] input').files[0])).width"
    )
    assert width == 1920
    page.get_by_label("Remove this photo").first.click()
    expect(page.locator(".fw-photo")).to_have_count(1)
    assert page.evaluate("document.querySelector('[data-photos] input').files[0].name") == "wheel.jpg"


def test_a_signature_drawn_by_hand_is_sent_as_a_picture_and_can_be_redone(opened: Opened) -> None:
    page = opened("phone", size=PHONE)
    canvas = page.locator("[data-signature] canvas")
    expect(canvas).to_be_visible()
    canvas.scroll_into_view_if_needed()
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 60, steps=8)
    page.mouse.up()
    value = page.locator("[data-signature-value]")
    assert value.input_value().startswith("data:image/png;base64,")
    page.get_by_role("button", name="Sign again").click()
    assert value.input_value() == ""


def test_a_label_is_read_from_a_photo_even_with_6_percent_of_it_gone(opened: Opened) -> None:
    page = opened("phone", size=PHONE)
    token = "Zk3v9QyT7mLx2RbWc8NpAa"
    code = qrcode.QRCode(error_correction=qrcode.constants.ERROR_CORRECT_Q)
    code.add_data(f"https://fixwright.example/q/{token}")
    picture = code.make_image().convert("RGB")
    half = int((picture.width - 2 * code.border * code.box_size) * 0.06**0.5) // 2
    middle = picture.width // 2
    picture.paste((255, 255, 255), (middle - half, middle - half, middle + half, middle + half))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    page.route("**/scan?code=*", lambda asked: asked.fulfill(status=200, body="found"))
    expect(page.locator("[data-scan-file-label]")).to_be_visible()
    with page.expect_request(f"**/scan?code={token}"):
        page.locator("[data-scan-file]").set_input_files(
            {"name": "label.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
        )


def test_a_camera_that_is_refused_offers_typing(opened: Opened) -> None:
    page = opened("phone", size=PHONE)
    page.get_by_role("button", name="Scan with the camera").click()
    expect(page.locator("[data-scan-state]")).to_contain_text("Type the code")


def test_zooming_a_curve_asks_the_server_for_the_range_in_view(opened: Opened) -> None:
    page = opened("desk")
    expect(page.locator("[data-plot] canvas")).to_be_visible()
    with page.expect_request(lambda request: "/plot.json?from=" in request.url) as asked:
        page.evaluate(
            "echarts.getInstanceByDom(document.querySelector('.fw-plot-area'))"
            ".dispatchAction({type: 'dataZoom', start: 40, end: 50})"
        )
    query = dict(pair.split("=") for pair in asked.value.url.partition("?")[2].split("&"))
    span_ms = int(query["to"]) - int(query["from"])
    assert abs(span_ms - 2_160_000) < 60_000, "a tenth of six hours"


def _picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width // 10, height // 10), 60).resize((width, height)).save(buffer, "PNG")
    return buffer.getvalue()
