"""Rate limits hold across processes; what is only asked for is not counted."""

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session, sessionmaker

from kernel import db, limits
from kernel.errors import TooMany
from kernel.models import RateWindow
from tests.factories import NOW

MINUTE = timedelta(minutes=1)


def spend(session: Session, key: str, after: timedelta = timedelta()) -> None:
    limits.spend(session, key, limit=3, window=MINUTE, now=NOW + after)


def test_a_key_is_spent_so_often_in_a_window_and_no_more(session: Session) -> None:
    for _ in range(3):
        spend(session, "a")
    with pytest.raises(TooMany) as refused:
        spend(session, "a", timedelta(seconds=50))
    assert refused.value.retry_after_s == 11
    spend(session, "b")
    spend(session, "a", MINUTE)


def test_asking_for_room_counts_nothing(session: Session) -> None:
    for _ in range(5):
        limits.require_room(session, "a", limit=1, window=MINUTE, now=NOW)
    assert limits.used(session, "a", window=MINUTE, now=NOW) == 0
    limits.count(session, "a", window=MINUTE, now=NOW)
    with pytest.raises(TooMany):
        limits.require_room(session, "a", limit=1, window=MINUTE, now=NOW)


def test_a_limit_is_one_for_all_processes(database: sessionmaker[Session]) -> None:
    for n in range(3):
        with db.transaction(database) as session:
            assert limits.count(session, "a", window=MINUTE, now=NOW) == n + 1


def test_a_long_key_is_cut_and_still_counts(session: Session) -> None:
    key = "x" * 500
    assert [limits.count(session, key, window=MINUTE, now=NOW) for _ in range(2)] == [1, 2]
    assert limits.used(session, key, window=MINUTE, now=NOW) == 2


def test_old_windows_are_forgotten(session: Session) -> None:
    spend(session, "a")
    spend(session, "a", timedelta(hours=2))
    limits.sweep(session, before=NOW + timedelta(hours=1))
    assert session.query(RateWindow).count() == 1
