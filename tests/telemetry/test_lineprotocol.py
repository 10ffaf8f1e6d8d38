"""Lines as the servers take them, and a server that does not."""

import pytest

from kernel.errors import Unavailable
from telemetry import victoria
from telemetry.lineprotocol import LineWriter, quoted
from telemetry.readings import Flag, Readings

NAN = float("nan")


def test_plain_numbers_are_lines_without_labels() -> None:
    readings = Readings.of([17, 18], [1, 2], [21.5, -5e-324])
    assert list(victoria._lines(readings, readings.series * 0)) == [
        "reading,series=17 value=21.5 1",
        "reading,series=18 value=-5e-324 2",
    ]


def test_what_is_more_than_a_number_stands_in_labels_that_need_no_escaping() -> None:
    readings = Readings.of(
        [7, 7, 7], [1, 2, 3], [NAN, 9007199254740992.0, 1.0], ["", "9007199254740993", None], [0, Flag.EXACT, 0]
    )
    spaced = Readings.of([7], [4], [NAN], ["a b,c=d\n⚙"])
    revisions = readings.series * 0
    revisions[2] = 3
    assert [*victoria._lines(readings, revisions), *victoria._lines(spaced, spaced.series * 0)] == [
        "reading,series=7,text=| value=0.0 1",
        "reading,series=7,flags=4,digits=|9007199254740993 value=9007199254740992.0 2",
        "reading,series=7,revision=3 value=1.0 3",
        "reading,series=7,text=|a%20b%2Cc%3Dd%0A%E2%9A%99 value=0.0 4",
    ]


def test_quotes_and_backslashes_in_a_string_field_are_escaped() -> None:
    assert quoted('a"b\\c\n') == '"a\\"b\\\\c\n"'


def test_a_server_that_is_gone_takes_nothing() -> None:
    writer = LineWriter("http://127.0.0.1:9", timeout_s=2)
    with pytest.raises(Unavailable, match="did not take"):
        writer.send(["reading,series=1 value=1 1"])
    writer.send([])
    writer.close()
