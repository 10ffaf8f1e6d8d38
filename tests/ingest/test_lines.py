"""Line protocol and CSV: what a line means, and the one reason why it means nothing (ING-11)."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import csvrows, lines
from ingest.decoded import Reason
from ingest.forms import Element
from ingest.strict import Refused
from kernel.errors import Invalid

SECOND = 1_795_314_590


@pytest.mark.parametrize(
    ("line", "precision", "device", "expected"),
    [
        ("temperature value=21.5", "ns", "gw", Element(None, {"temperature": 21.5})),
        (f"temperature value=21i {SECOND}000000000", "ns", "gw", Element(SECOND * 1000, {"temperature": 21})),
        (f'env t=1,on=true,mode="a b,c=d" {SECOND}', "s", "gw",
         Element(SECOND * 1000, {"env.t": 1.0, "env.on": True, "env.mode": "a b,c=d"})),
        (f"cpu,core=3,device=pump-7 usage=1e-2 {SECOND}999", "ms", "pump-7",
         Element(SECOND * 1000 + 999, {"cpu.usage{core=3}": 0.01})),
        (r"my\ pump,room=hall\ 2,line=A\,1 value=5u 1999", "us", "gw",
         Element(1, {"my pump{line=A,1,room=hall 2}": 5})),
        (r'say text="he said \"no\" \\ yes"', "ns", "gw", Element(None, {"say.text": r'he said "no" \ yes'})),
    ],
)  # fmt: skip
def test_ING_11_a_line_is_understood(line: str, precision: str, device: str, expected: Element) -> None:
    assert lines.read(line.encode(), precision, "gw") == (device, expected)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"temperature", Reason.BAD_FORM),
        (b"temperature value=", Reason.BAD_FORM),
        (b"temperature value=abc", Reason.BAD_FORM),
        (b"temperature value=1 2 3", Reason.BAD_FORM),
        (b"temperature,room value=1", Reason.BAD_FORM),
        (b'temperature value="open', Reason.BAD_FORM),
        (b"temperature value=1 noon", Reason.BAD_TS),
        (b"temperature value=1 1.5", Reason.BAD_TS),
        (b"temperature value=NaN", Reason.NOT_FINITE),
        (b"temperature value=1e999", Reason.NOT_FINITE),
        (b"temperature value=1,value=2", Reason.DUPLICATE_KEY),
        (b"temperature\x07 value=1", Reason.BAD_METRIC),
        (b"temperature value=\xff", Reason.NOT_UTF8),
        (b"x" * 90 + b" value=1", Reason.BAD_METRIC),
        (b't value="' + b"x" * 5000 + b'"', Reason.BAD_TEXT),
    ],
)
def test_ING_11_a_bad_line_has_one_reason(line: bytes, reason: Reason) -> None:
    with pytest.raises(Refused) as refused:
        lines.read(line, "ns", "gw")
    assert refused.value.reason is reason


@given(st.binary(max_size=200))
def test_ING_11_no_line_breaks_the_reader(line: bytes) -> None:
    with contextlib.suppress(Refused):
        lines.read(line, "ms", "gw")


def test_ING_11_lines_are_numbered_as_an_editor_numbers_them() -> None:
    assert list(lines.split(b"a v=1\r\n\n# said\n  b v=2\n")) == [(1, b"a v=1"), (4, b"b v=2")]


def rows(text: str, zone: str = "") -> list[tuple[int, tuple[str, Element] | Reason]]:
    found: list[tuple[int, tuple[str, Element] | Reason]] = []
    for number, payload in csvrows.split(text.encode(), zone):
        try:
            found.append((number, csvrows.read(payload, "gw")))
        except Refused as refused:
            found.append((number, refused.reason))
    return found


def test_ING_11_the_long_form_names_the_metric_in_a_column() -> None:
    assert rows(f"ts,metric,value\n{SECOND}000,temperature,21.5\n\n,mode,auto\n") == [
        (2, ("gw", Element(SECOND * 1000, {"temperature": 21.5}))),
        (4, ("gw", Element(None, {"mode": "auto"}))),
    ]


def test_ING_11_the_wide_form_has_a_column_a_metric_and_leaves_out_what_was_not_measured() -> None:
    assert rows('\ufeffdevice;ts;t;on;note\npump-7;1000;5;TRUE;"a\nb"\n;2000;;false;\n;3000;;;\n') == [
        (2, ("pump-7", Element(1000, {"t": 5, "on": True, "note": "a\nb"}))),
        (4, ("gw", Element(2000, {"on": False}))),
        (5, Reason.EMPTY),
    ]


def test_ING_11_a_local_time_needs_a_zone() -> None:
    text = "ts,t\n2026-11-22T03:49:50+01:00,1\n2026-11-22 03:49:50,2\n2026-11-22,3\nnoon,4\n"
    utc = 1_795_315_790_000
    assert rows(text) == [
        (2, ("gw", Element(utc, {"t": 1}))), (3, Reason.BAD_TS), (4, Reason.BAD_TS), (5, Reason.BAD_TS),
    ]  # fmt: skip
    assert rows(text, "Europe/Berlin")[1] == (3, ("gw", Element(utc, {"t": 2})))


@pytest.mark.parametrize(
    ("zone", "local", "instant"),
    [
        ("Europe/Berlin", "2026-03-29T02:00:00", "2026-03-29T03:00:00+02:00"),
        ("Europe/Berlin", "2026-03-29T02:30:00", "2026-03-29T03:30:00+02:00"),
        ("Europe/Berlin", "2026-03-29T02:59:59.999", "2026-03-29T03:59:59.999+02:00"),
        ("Europe/Berlin", "2026-03-29T03:00:00", "2026-03-29T03:00:00+02:00"),
        ("Europe/Berlin", "2026-10-25T02:30:00", "2026-10-25T02:30:00+02:00"),
        ("Europe/Berlin", "2026-10-25T03:00:00", "2026-10-25T03:00:00+01:00"),
        ("America/New_York", "2026-03-08T02:30:00", "2026-03-08T03:30:00-04:00"),
        ("Australia/Lord_Howe", "2026-10-04T02:15:00", "2026-10-04T02:45:00+11:00"),
        ("Pacific/Apia", "2011-12-30T12:00:00", "2011-12-31T12:00:00+14:00"),
    ],
)
def test_TEL_8_a_local_time_that_clocks_skip_takes_the_offset_before_and_one_shown_twice_is_the_first(
    zone: str, local: str, instant: str
) -> None:
    ms = (datetime.fromisoformat(instant) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert rows(f"ts,t\n{local},1\n", zone) == [(2, ("gw", Element(ms, {"t": 1})))]


def test_ING_11_a_time_at_the_edge_of_the_calendar_spoils_no_more_than_its_row() -> None:
    found = rows(
        "ts,t\n0001-01-01T00:00:00,1\n9999-12-31T23:59:59-14:00,2\n0001-01-01T00:00:00+14:00,3\n5,4\n", "Asia/Tokyo"
    )
    assert found[-1] == (5, ("gw", Element(5, {"t": 4})))


def test_ING_11_a_bad_cell_spoils_its_row_alone() -> None:
    assert rows("ts,t\n1,nan\n2,1e999\nx,5\n4\n5,6,7\n6,1\n") == [
        (2, Reason.NOT_FINITE), (3, Reason.NOT_FINITE), (4, Reason.BAD_TS), (5, Reason.BAD_FORM),
        (6, Reason.BAD_FORM), (7, ("gw", Element(6, {"t": 1}))),
    ]  # fmt: skip


@pytest.mark.parametrize("header", ["", "t,u", "ts", "ts,ts,t", "ts,device", "ts,metric", "ts,metric,value,more"])
def test_ING_11_a_header_that_says_too_little_is_refused_whole(header: str) -> None:
    with pytest.raises(Invalid):
        list(csvrows.split(f"{header}\n1,2\n".encode(), ""))


def test_ING_11_an_unknown_zone_and_foreign_bytes_are_refused_whole() -> None:
    for body, zone in ((b"ts,t\n1,1\n", "Mars/Olympus"), (b"ts,t\n1,1\n", "../etc"), (b"ts,t\n\xff,1\n", "")):
        with pytest.raises(Invalid):
            list(csvrows.split(body, zone))


@given(st.text(max_size=200))
def test_ING_11_no_row_breaks_the_reader(text: str) -> None:
    with contextlib.suppress(Invalid):
        rows(f"ts,t\n{text}")
    with contextlib.suppress(Refused):
        csvrows.read(text.encode(errors="replace"), "gw")
