"""When silence means something, and when the platform is at fault: decided without a clock of its own."""

from datetime import UTC, datetime, timedelta

from ingest.watch import Signs, Watch

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
WELL = Signs(is_connected=True)
GONE = Signs(is_connected=False)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def wrong(watch: Watch, signs: Signs, seconds: float) -> set[str]:
    return {one.what for one in watch.look(signs, after(seconds)) if one.is_wrong}


def test_ING_15_a_broker_that_is_gone_for_half_a_minute_is_one_finding_until_it_is_back() -> None:
    watch = Watch(NOW)
    assert [wrong(watch, GONE, second) for second in (1, 2, 30)] == [set()] * 3
    assert wrong(watch, GONE, 31) == {"broker"}
    assert wrong(watch, GONE, 120) == {"broker"}
    assert wrong(watch, WELL, 121) == set()


def test_silence_counts_anew_from_the_end_of_an_outage() -> None:
    watch = Watch(NOW)
    watch.look(WELL, after(1))
    assert watch.listening_since == NOW
    watch.look(GONE, after(2))
    watch.look(GONE, after(9))
    watch.look(WELL, after(10))
    assert watch.listening_since == after(9)


def test_who_did_not_look_for_long_was_away_itself() -> None:
    watch = Watch(NOW)
    watch.look(WELL, after(9))
    assert watch.listening_since == NOW
    watch.look(WELL, after(20))
    assert watch.listening_since == after(20)


def test_draining_a_backlog_counts_as_hearing() -> None:
    watch = Watch(NOW)
    watch.look(Signs(is_connected=True, batches=1, lag_ms=6_000, waiting=10), after(1))
    assert watch.listening_since == after(1)
    watch.look(Signs(is_connected=True, batches=2, waiting=6_000), after(2))
    assert watch.listening_since == after(2)
    watch.look(Signs(is_connected=True, batches=3, lag_ms=5), after(3))
    assert watch.listening_since == after(2)


def test_a_long_lag_is_a_finding_until_it_is_caught_up() -> None:
    watch = Watch(NOW)
    assert wrong(watch, Signs(is_connected=True, batches=1, lag_ms=61_000, waiting=9), 1) == {"backlog"}
    assert wrong(watch, Signs(is_connected=True, batches=2, lag_ms=30_000, waiting=9), 2) == {"backlog"}
    assert wrong(watch, Signs(is_connected=True, batches=3, lag_ms=9_000, waiting=9), 3) == set()


def test_what_the_broker_throws_away_is_a_finding_for_ten_minutes() -> None:
    watch = Watch(NOW)
    assert wrong(watch, WELL, 1) == set()
    assert wrong(watch, Signs(is_connected=True, dropped=40), 2) == set(), "that was before us"
    assert wrong(watch, Signs(is_connected=True, dropped=41), 3) == {"broker_drops"}
    assert wrong(watch, Signs(is_connected=True, dropped=41), 590) == {"broker_drops"}
    assert wrong(watch, Signs(is_connected=True, dropped=0), 604) == set()
