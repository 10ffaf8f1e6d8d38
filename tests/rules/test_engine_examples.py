"""The worked examples of the alarm semantics, and what the features promise of rules, on the engine."""

import numpy as np
import pytest

from rules import conditions
from rules.conditions import Severity
from rules.context import Context, Device
from rules.outcome import Cleared, Held, HeldColumns, Instance, Raised, SeverityChanged, Updated, Watched
from tests.rules.probe import START_MS, Probe, alarm_type, ms, over, under, words

E3 = alarm_type(
    critical={"condition": over(3000), "kind": {"type": "duration", "seconds": 5}},
    clear={
        "type": "rule",
        "condition": {"type": "compare", "metric": "a", "operator": "<", "limit": 3000},
        "kind": {"type": "duration", "seconds": 3},
    },
)
IN_A_ROW = alarm_type(
    major={"condition": over(50), "kind": {"type": "repeating", "times": 5}},
    critical={"condition": over(50), "kind": {"type": "repeating", "times": 10}},
)


@pytest.mark.parametrize("is_one_batch", [False, True])
def test_E1_severities_follow_the_highest_true_rule_and_clear_by_their_own(*, is_one_batch: bool) -> None:
    probe = Probe(alarm_type(major=over(50), critical=over(100), clear={"type": "rule", "condition": under(25)}))
    rows = [(1, float(at), value) for at, value in enumerate([50.0, 100.0, 101.0, 20.0])]
    if is_one_batch:
        probe.feed_rows(rows)
    else:
        for row in rows:
            probe.feed_rows([row])
    assert words(probe.heard) == [
        "Raised major",
        "SeverityChanged critical",
        "Updated critical",
        "Cleared critical",
    ]
    raised, changed, updated, cleared = probe.heard
    assert isinstance(raised, Raised)
    assert isinstance(changed, SeverityChanged)
    assert isinstance(cleared, Cleared)
    assert changed.before == Severity.MAJOR
    assert (updated.alarm.peak, updated.alarm.matched) == (101.0, 3)
    assert (cleared.ended_ms, cleared.is_by_hand, cleared.alarm.raised_ms) == (ms(3), False, ms(0))


def test_E2_repetitions_raise_at_the_fifth_and_tenth_match() -> None:
    probe = Probe(IN_A_ROW)
    heard = [probe.feed(at, 50) for at in range(10)]
    assert [words(one) for one in heard] == [
        *[[]] * 4,
        ["Raised major"],
        *[["Updated major"]] * 4,
        ["SeverityChanged critical"],
    ]
    assert [one[0].alarm.repeats for one in heard[4:]] == [5, 6, 7, 8, 9, 10]
    assert heard[4][0].alarm.began_ms == ms(0)
    assert heard[4][0].alarm.raised_ms == ms(4)


def test_E3_a_duration_raises_and_clears_without_a_further_sample() -> None:
    probe = Probe(E3)
    probe.feed(0, 3500, arrives_s=0.2)
    assert probe.tick(3.2) == []
    assert probe.tick(5.199) == []
    [raised] = probe.tick(5.2)
    assert isinstance(raised, Raised)
    assert raised.alarm.raised_ms - raised.alarm.began_ms == 5000
    assert probe.feed(7, 2000, arrives_s=7.2) == []
    assert probe.tick(8.2) == []
    [cleared] = probe.tick(10.7)
    assert isinstance(cleared, Cleared)
    assert (cleared.recovered_ms, cleared.ended_ms) == (ms(7), ms(10))


def test_E8_a_saved_rule_raises_on_the_value_that_is_held() -> None:
    probe = Probe(alarm_type(major=over(100)))
    assert probe.feed(0, 50) == []
    saved = Probe(alarm_type(major=over(50))).instance
    probe.engine.install([saved])
    [raised] = probe.commit(probe.engine.revisit([1], ms(20)))
    assert isinstance(raised, Raised)
    assert (raised.alarm.began_ms, raised.alarm.raised_ms) == (ms(0), ms(20))


def test_E10_after_a_clear_by_hand_the_next_matching_sample_makes_another_alarm() -> None:
    probe = Probe(alarm_type(major=over(50)))
    assert words(probe.feed(0, 50)) == ["Raised major"]
    [cleared] = probe.clear_by_hand(1)
    assert isinstance(cleared, Cleared)
    assert cleared.is_by_hand
    assert probe.tick(60) == []
    [raised] = probe.feed(61, 50)
    assert isinstance(raised, Raised)
    assert raised.alarm.matched == 1


def test_RUL_2_E11_each_severity_has_a_condition_of_its_own() -> None:
    warning = {"type": "compare", "metric": "a", "operator": ">", "limit": 30}
    probe = Probe(alarm_type(warning=warning, critical=warning | {"limit": 50}))
    assert words(probe.feed(0, 42) + probe.feed(1, 52)) == ["Raised warning", "SeverityChanged critical"]


def test_RUL_4_a_gap_longer_than_the_hold_is_not_counted() -> None:
    probe = Probe(E3, hold_ms=4_000)
    probe.feed(0, 3500)
    assert probe.feed(20, 3500) == []
    assert probe.tick(23.9) == []
    assert probe.feed(24, 3500) == []
    [raised] = probe.tick(25)
    assert raised.alarm.began_ms == ms(20)


def test_RUL_4_an_old_sample_of_a_device_that_is_catching_up_does_not_look_long() -> None:
    probe = Probe(E3)
    assert probe.feed(0, 3500, arrives_s=7200) == []
    assert probe.tick(7204) == []
    assert words(probe.feed(1, 2000, arrives_s=7204.5)) == []
    assert probe.tick(7300) == []


@pytest.mark.parametrize(("third", "expected"), [(60.0, ["Raised minor"]), (61.0, [])])
def test_RUL_5_three_within_a_window_raise_and_three_spread_wider_do_not(third: float, expected: list[str]) -> None:
    window = {"type": "repeating", "times": 3, "window_s": 60}
    probe = Probe(alarm_type(minor={"condition": over(50), "kind": window}))
    rows = [(1, 0.0, 50.0), (1, 10.0, 10.0), (1, 30.0, 50.0), (1, third, 50.0)]
    assert words([t for row in rows for t in probe.feed_rows([row])]) == expected


def test_RUL_5_one_mismatch_resets_in_a_row() -> None:
    probe = Probe(IN_A_ROW)
    for at, value in enumerate([50, 50, 50, 50, 49, 50, 50, 50, 50]):
        assert probe.feed(at, value) == []
    assert words(probe.feed(9, 50)) == ["Raised major"]


@pytest.mark.parametrize(("deadband", "most", "least"), [(5.0, 1, 1), (0.0, 3600, 100)])
def test_RUL_11_noise_around_the_limit_is_one_alarm_with_a_deadband(deadband: float, most: int, least: int) -> None:
    probe = Probe(alarm_type(major=over(50, deadband=deadband), clear={"type": "automatic"}))
    noise = 50 + 2 * np.random.default_rng(11).uniform(-1, 1, 3600)
    for at, value in enumerate(noise.tolist()):
        probe.feed(at, value)
    raised = [one for one in probe.heard if isinstance(one, Raised)]
    assert least <= len(raised) <= most


def test_RUL_11_what_ends_before_the_on_delay_never_existed_and_what_returns_never_ended() -> None:
    definition = alarm_type(
        major={"condition": over(50), "kind": {"type": "duration", "seconds": 10}},
        clear={"type": "automatic", "off_delay_s": 5},
    )
    probe = Probe(definition)
    for at, value in [(0, 60), (9, 40), (20, 60)]:
        assert probe.feed(at, value) == []
    assert words(probe.tick(30)) == ["Raised major"]
    for at, value in [(40, 40), (44, 60), (60, 40)]:
        assert "Cleared major" not in words(probe.feed(at, value))
    assert words(probe.tick(65)) == ["Cleared major"]
    assert isinstance(cleared := probe.heard[-1], Cleared)
    assert (cleared.recovered_ms, cleared.ended_ms) == (ms(60), ms(65))


def test_ALM_3_severity_falls_and_rises_again_and_only_a_rise_is_announced() -> None:
    probe = Probe(alarm_type(major=over(50), critical=over(100)))
    for at, value in enumerate([120, 60, 120]):
        probe.feed(at, value)
    assert words(probe.heard) == ["Raised critical", "SeverityChanged major", "SeverityChanged critical"]
    assert {one.alarm.peak_severity for one in probe.heard} == {Severity.CRITICAL}
    assert [one.is_announced for one in probe.heard if isinstance(one, SeverityChanged)] == [False, True]


def test_an_unknown_value_neither_raises_nor_clears() -> None:
    both = {"type": "all", "of": [over(50, "a"), over(5, "b")]}
    probe = Probe(alarm_type(major=both, clear={"type": "automatic"}), hold_ms=10_000)
    assert probe.feed_rows([(1, 0, 60)]) == []
    assert words(probe.feed_rows([(2, 1, 6)])) == ["Raised major"]
    assert probe.tick(100) == []
    assert probe.feed_rows([(1, 100, 60)]) == []
    assert words(probe.feed_rows([(1, 101, 40)])) == ["Cleared major"]


def test_values_of_one_instant_are_applied_together_and_counted_once() -> None:
    either = {"type": "any", "of": [over(50, "a"), over(50, "b")]}
    probe = Probe(alarm_type(major={"condition": either, "kind": {"type": "repeating", "times": 2}}))
    assert probe.feed(0, 60, 60) == []
    [raised] = probe.feed(1, 60, 60)
    assert raised.alarm.repeats == 2


def test_steady_samples_are_told_once_a_batch_with_their_totals() -> None:
    probe = Probe(alarm_type(major=over(50)))
    probe.feed(0, 50)
    [updated] = probe.feed_rows([(1, float(at), 50.0 + at) for at in (1, 2, 5, 3, 4)])
    assert isinstance(updated, Updated)
    assert (updated.alarm.matched, updated.alarm.repeats, updated.alarm.last_seen_ms) == (6, 6, ms(5))
    assert (updated.alarm.peak, updated.alarm.value) == (55.0, 55.0)


def test_the_evidence_holds_the_samples_and_limits_of_the_rule_that_won() -> None:
    both = {"type": "all", "of": [over(50, "a", deadband=2.0), under(5, "b")]}
    probe = Probe(alarm_type(major=both, minor=over(10, "a")))
    [raised] = probe.feed(0, 60, 3)
    assert isinstance(raised, Raised)
    assert [(one.metric, one.ts_ms, one.value) for one in raised.evidence.samples] == [
        ("a", ms(0), 60.0),
        ("b", ms(0), 3.0),
    ]
    assert [(one.metric, one.operator, one.limit, one.deadband) for one in raised.evidence.limits] == [
        ("a", ">=", 50.0, 2.0),
        ("b", "<=", 5.0, 0.0),
    ]


@pytest.mark.parametrize(
    ("kind", "is_raised"),
    [
        ({"type": "duration", "seconds": 0}, True),
        ({"type": "repeating", "times": 0}, True),
        ({"type": "duration", "seconds": -1}, False),
        ({"type": "repeating", "times": -1}, False),
    ],
)
def test_a_length_of_nought_is_simple_and_a_negative_one_never_fires(
    *, kind: dict[str, float], is_raised: bool
) -> None:
    probe = Probe(alarm_type(major={"condition": over(50), "kind": kind}))
    probe.feed(0, 60)
    probe.tick(500)
    assert bool(probe.feed(501, 60)) == is_raised


def silence(seconds: float, **more: str) -> dict[str, object]:
    return {"type": "no_data", "seconds": seconds, **({"metric": "a"} if "of" not in more else {}), **more}


def test_E5_no_data_raises_by_our_own_clock_beside_the_last_value_whatever_its_age() -> None:
    hot = {"type": "compare", "metric": "a", "operator": ">", "limit": 25}
    rules = {
        key: {"condition": {"type": "all", "of": [hot, silence(seconds)]}}
        for key, seconds in (("major", 3), ("critical", 10))
    }
    probe = Probe(alarm_type(**rules, clear={"type": "automatic"}), hold_ms=2_000)
    probe.feed(0, 50, arrives_s=100)
    assert probe.tick(102.9) == []
    assert words(probe.tick(103)) == ["Raised major"]
    assert words(probe.tick(109)) == []
    probe.restart()
    assert words(probe.tick(110.5)) == ["SeverityChanged critical"]
    assert words(probe.feed(1, 50, arrives_s=111)) == ["Cleared critical"]


def test_RUL_6_our_own_outage_is_no_silence_and_an_alarm_of_before_stays() -> None:
    probe = Probe(alarm_type(major=silence(60), clear={"type": "automatic"}))
    probe.feed(0, 50)
    # Down for ten minutes, and back with the readings that waited still to come.
    probe.restart()
    probe.engine.seed(HeldColumns.of([Held("", 1, ms(0), 50.0, ms(0))]))
    for now in (600, 630, 650):
        probe.engine.listen_since(ms(now))
        assert probe.tick(now) == []
    assert probe.tick(709) == []
    assert words(probe.tick(710)) == ["Raised major"]
    probe.restart()
    probe.engine.listen_since(ms(800))
    assert probe.tick(801) == [], "what was silent before we went is still so"
    assert words(probe.feed(802, 1)) == ["Cleared major"]


def test_RUL_6_a_backlog_that_comes_at_once_is_no_silence() -> None:
    probe = Probe(alarm_type(major=silence(60)))
    assert probe.feed_rows([(1, 3600.0 * hour, 1.0) for hour in range(5)], arrives_s=20_000) == []
    assert words(probe.tick(20_060)) == ["Raised major"]


@pytest.mark.parametrize(
    ("asked", "heard"),
    [
        (silence(60, of="asset", which="any"), ["Raised major"]),
        (silence(60, of="asset", which="all"), []),
        (silence(60, of="device", metric="a"), ["Raised major"]),
        (silence(60, of="device", metric="b"), []),
    ],
)
def test_RUL_6_of_a_device_or_of_any_or_all_devices_of_an_asset(asked: dict[str, object], heard: list[str]) -> None:
    definition = alarm_type(major={"type": "any", "of": [over(1000, "a"), over(1000, "b"), asked]})
    devices = (Device(("#1", "#3"), ("a",)), Device(("#2",), ("b",)))
    series = {"a": 1, "b": 2, "#1": 1, "#2": 2, "#3": 3}
    probe = Probe(definition)
    probe.instance = Instance(1, definition, {name: Watched(n) for name, n in series.items()}, Context(devices=devices))
    probe.engine.install([probe.instance])
    probe.feed_rows([(1, 0, 1), (2, 0, 1)])
    probe.feed_rows([(3, 30, 1)])
    probe.feed_rows([(2, 50, 1)])
    assert probe.tick(89) == [], "another metric of the first device came later"
    assert words(probe.tick(91)) == heard


def test_E7_an_opening_raises_without_a_new_sample_and_a_closing_leaves_the_alarm() -> None:
    # The probe's times begin at 02:29:50 UTC.
    daily = {"type": "weekly", "windows": [{"start": "02:30", "end": "02:31"}]}
    rule = {"condition": over(50), "schedule": daily}
    probe = Probe(alarm_type(major=rule, clear={"type": "automatic"}))
    opens = 10.0
    assert START_MS % 86_400_000 == (2 * 60 + 29) * 60_000 + 50_000
    assert probe.feed(-5, 60) == []
    probe.restart()
    probe.engine.seed(HeldColumns.of([Held("", 1, ms(-5), 60.0, ms(-5))]))
    assert probe.tick(opens - 0.001) == []
    [raised] = probe.tick(opens)
    assert isinstance(raised, Raised)
    assert (raised.alarm.began_ms, raised.alarm.last_seen_ms) == (ms(opens), ms(opens))
    assert words(probe.feed(opens + 30, 70)) == ["Updated major"]
    assert probe.tick(opens + 60) == []
    assert probe.feed(opens + 61, 20) == [], "closed: it neither raises nor clears"
    assert words(probe.feed(86_400 + opens, 20)) == ["Cleared major"]


def test_RUL_9_closing_ends_a_streak() -> None:
    daily = {"type": "weekly", "windows": [{"start": "02:29", "end": "02:30"}, {"start": "02:31", "end": "02:32"}]}
    rule = {"condition": over(50), "kind": {"type": "repeating", "times": 3}, "schedule": daily}
    probe = Probe(alarm_type(major=rule))
    heard = [probe.feed(at, 60) for at in (1, 2, 71, 72)]
    assert heard == [[], [], [], []]
    assert words(probe.feed(73, 60)) == ["Raised major"]


def test_RUL_3_a_pulse_alarm_clears_ten_minutes_after_its_last_pulse() -> None:
    probe = Probe(alarm_type(major=over(1), clear={"type": "quiet", "seconds": 600}))
    for at, value in [(0, 1), (1, 0), (300, 1), (301, 0)]:
        probe.feed(at, value)
    assert words(probe.tick(899)) == []
    probe.restart()
    assert words(probe.tick(900.5)) == ["Cleared major"]
    assert isinstance(cleared := probe.heard[-1], Cleared)
    assert (cleared.recovered_ms, cleared.ended_ms, cleared.alarm.matched) == (ms(300), ms(900), 2)


def test_E9_the_text_shows_the_values_and_texts_there_are() -> None:
    text = "temperature is ${temperature}, humidity is ${humidity}, mode is ${mode}"
    values = {"temperature": 50.0, "humidity": 50.0, "mode": "run"}
    assert conditions.render(text, values) == "temperature is 50, humidity is 50, mode is run"


def test_RUL_13_E2_and_E3_come_out_the_same_with_a_restart_before_each_step() -> None:
    def lived(
        definition: conditions.AlarmDefinition, steps: list[tuple[str, float, float]], *, dies: bool
    ) -> list[str]:
        probe = Probe(definition)
        heard = []
        for verb, at, value in steps:
            if dies:
                probe.restart()
            heard.append(str(words(probe.feed(at, value) if verb == "feed" else probe.tick(at))))
        return heard

    counted = [("feed", float(at), 50.0) for at in range(10)]
    timed = [("feed", 0.0, 3500.0), ("tick", 3.0, 0.0), ("tick", 5.0, 0.0), ("feed", 7.0, 2000.0), ("tick", 8.0, 0.0)]
    for definition, steps in ((IN_A_ROW, counted), (E3, [*timed, ("tick", 10.0, 0.0)])):
        assert lived(definition, steps, dies=True) == lived(definition, steps, dies=False)
