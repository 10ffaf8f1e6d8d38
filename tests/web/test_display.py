from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.web import display

NOW = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
SHANGHAI = ZoneInfo("Asia/Shanghai")


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0, "just now", "刚刚"),
        (59.9, "just now", "刚刚"),
        (60, "1 min ago", "1 分钟前"),
        (3_599, "59 min ago", "59 分钟前"),
        (2 * 3_600 - 1, "1 h ago", "1 小时前"),
        (86_400, "1 d ago", "1 天前"),
        (2_592_000, "1 mo ago", "1 个月前"),
        (3 * 31_536_000, "3 y ago", "3 年前"),
        (-60, "in 1 min", "1 分钟后"),
        (-86_400, "in 1 d", "1 天后"),
    ],
)
def test_a_relative_time_is_cut_to_its_largest_unit(seconds: float, english: str, chinese: str) -> None:
    moment = NOW - timedelta(seconds=seconds)
    assert display.relative(moment, NOW, "en") == english
    assert display.relative(moment, NOW, "zh") == chinese


def test_an_exact_time_names_its_offset_and_a_day_is_the_readers() -> None:
    assert display.exact(NOW, SHANGHAI) == "2026-03-29 08:30:00 UTC+08:00"
    assert display.exact(NOW, ZoneInfo("America/St_Johns")) == "2026-03-28 22:00:00 UTC-02:30"
    assert display.day(NOW, ZoneInfo("America/New_York")) == "2026-03-28"
    assert display.day(date(2026, 3, 1), SHANGHAI) == "2026-03-01"
    assert display.clock_time(NOW, ZoneInfo("Europe/Berlin")) == "01:30", "half an hour before the clocks change"


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (None, None, "–"),
        (float("nan"), None, "–"),
        (0, None, "0"),
        (1_234_567, None, "1,234,567"),
        (12.50, None, "12.5"),
        (12.0, None, "12"),
        (0.00213, None, "0.00213"),
        (0.1 + 0.2, None, "0.3"),
        (-14.6, None, "−14.6"),
        (Decimal("1234.5000"), None, "1,234.5"),
        (3.14159, 2, "3.14"),
        (1e15, None, "1,000,000,000,000,000"),
    ],
)
def test_a_number_shows_what_it_says_and_no_more(value: float | None, decimals: int | None, text: str) -> None:
    assert display.number(value, decimals) == text


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12))
def test_a_shown_number_is_the_number_to_four_digits(value: float) -> None:
    shown = float(display.number(value).replace(",", "").replace("−", "-"))
    assert shown == pytest.approx(value, rel=5e-4, abs=5e-300)


def test_money_carries_the_sign_its_reader_expects() -> None:
    assert display.money(Decimal("1286.5"), "CNY", "zh") == "¥1,286.50"
    assert display.money(Decimal("1286.5"), "CNY", "en") == "CN¥1,286.50"
    assert display.money(None, "CNY", "en") == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 min"), (59, "1 min"), (5_400, "1 h 30 min"), (90_000, "1 d 1 h"), (-5_400, "−1 h 30 min"), (-10, "0 min")],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert display.duration(seconds, "en") == text


@pytest.mark.parametrize(
    ("name", "letters"),
    [("李伟", "李伟"), ("欧阳明", "阳明"), ("Li Wei", "LW"), ("Anna Maria Schmidt", "AS"), ("bob", "B"), (" ", "?")],
)
def test_initials_follow_the_script_of_the_name(name: str, letters: str) -> None:
    assert display.initials(name) == letters


def test_a_sparkline_breaks_where_a_value_is_missing_and_stays_inside_its_frame() -> None:
    lines = display.spark([1, 2, None, 4, 3, 5], width=100, height=20)
    assert len(lines) == 2
    heights = [float(point.split(",")[1]) for line in lines for point in line.split()]
    assert min(heights) == 1
    assert max(heights) == 19
    assert display.spark([None, None]) == []
    assert display.spark([7.0]) == []


def test_a_changed_filter_keeps_the_others_and_forgets_the_cursor() -> None:
    query = [("status", "open"), ("status", "late"), ("sort", "-at"), ("after", "abc")]
    kept = "/orders?status=open&status=late"
    assert display.address("/orders", query, {"sort": "name"}) == f"{kept}&sort=name"
    assert display.address("/orders", query, {"after": "xyz"}) == f"{kept}&sort=-at&after=xyz"
    assert display.address("/orders", query, {"status": None, "sort": None}) == "/orders"
    assert display.address("/search", [], {"q": "泵 & 阀"}) == "/search?q=%E6%B3%B5+%26+%E9%98%80"


def test_templates_read_zone_language_and_address_from_their_page() -> None:
    environment = jinja2.Environment(autoescape=True)
    display.install(environment)
    template = environment.from_string("{{ at | exact }} {{ at | relative }} {{ link(page=2) }} {{ link('/x', a=1) }}")
    said = template.render(at=NOW, now=NOW, lang="zh", zone="Asia/Shanghai", path="/orders", query={"q": "a"})
    assert said == "2026-03-29 08:30:00 UTC+08:00 刚刚 /orders?q=a&amp;page=2 /x?a=1"
