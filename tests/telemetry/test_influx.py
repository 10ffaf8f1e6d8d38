"""What InfluxDB is sent and how its answers are read; the contract itself runs against a server (test_store.py)."""

import pytest

from kernel.errors import Unavailable
from telemetry import influx
from telemetry.influx import readings_of_csv
from telemetry.readings import Flag, Readings, sent_of, with_sent

NAN = float("nan")


def test_each_reading_is_one_line_that_says_what_it_has_now() -> None:
    readings = Readings.of(
        [7, 7, 8], [10, 11, 12], [21.5, NAN, float(2**53)], [None, 'say "on\\off"', str(2**53 + 1)], [0, 0, Flag.EXACT]
    )
    assert list(influx._lines(readings)) == [
        "reading,series=7 value=21.5,flags=256i 10",
        'reading,series=7 text="say \\"on\\\\off\\"",flags=512i 11',
        'reading,series=8 value=9007199254740992.0,text="9007199254740993",flags=772i 12',
    ]


def test_TEL_4_what_was_sent_is_a_field_that_counts_where_the_flags_say_so() -> None:
    readings = with_sent(Readings.of([7, 7], [10, 11], [0.0, 5.0]), [32.0, NAN])
    assert list(influx._lines(readings)) == [
        "reading,series=7 value=0.0,sent=32.0,flags=1280i 10",
        "reading,series=7 value=5.0,flags=256i 11",
    ]
    answer = [
        ["", "result", "table", "series", "ms", "value", "sent", "flags"],
        ["", "_result", "0", "7", "11", "5", "41", "256"],
        ["", "_result", "0", "7", "10", "0", "32", "1280"],
    ]
    assert sent_of(readings_of_csv(answer)) == [32.0, None]


def test_an_answer_of_several_tables_is_read_in_order_of_series_and_time() -> None:
    answer = [
        ["", "result", "table", "series", "ms", "value", "flags"],
        ["", "_result", "0", "8", "12", "1.5", "257"],
        ["", "_result", "0", "7", "11", "2.5", "256"],
        [],
        ["", "result", "table", "flags", "text", "series", "ms", "value"],
        ["", "_result", "1", "512", "", "7", "10", "99"],
        ["", "_result", "1", "", "", "7", "9", "98"],
    ]
    assert [(row[:2], repr(row[2]), *row[3:]) for row in readings_of_csv(answer).rows()] == [
        ((7, 10), "nan", "", 0),
        ((7, 11), "2.5", None, 0),
        ((8, 12), "1.5", None, Flag.CLOCK),
    ]
    assert len(readings_of_csv([])) == 0


def test_an_error_in_the_middle_of_an_answer_is_not_taken_for_its_end() -> None:
    answer = [["", "result", "table", "series", "ms", "flags"], [], ["error", "reference"], ["out of memory", "897"]]
    with pytest.raises(Unavailable, match="out of memory"):
        readings_of_csv(answer)
