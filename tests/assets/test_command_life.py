"""What becomes of a command at which instant: a table, and what holds whatever happens (ING-13)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets import command_life
from assets.command_life import ENDED, KINDS, OPEN, Situation

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def situation(**given: object) -> Situation:
    usual = {
        "kind": "reply",
        "waits": False,
        "state": "queued",
        "timeout_s": 30,
        "expires_at": NOW + 60 * SECOND,
        "next_at": NOW,
        "sent_at": None,
        "is_online": True,
        "reconnected_at": NOW - 60 * SECOND,
    }
    return Situation(**{**usual, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({}, "send"),
        ({"next_at": NOW + SECOND}, None),
        ({"is_online": False}, "failed"),
        ({"is_online": False, "waits": True}, None),
        ({"is_online": False, "waits": True, "expires_at": NOW}, "expired"),
        ({"expires_at": NOW}, "expired"),
        ({"state": "sent", "sent_at": NOW - 29 * SECOND}, None),
        ({"state": "sent", "sent_at": NOW - 30 * SECOND}, "timed_out"),
        ({"state": "delivered", "sent_at": NOW - 30 * SECOND}, "timed_out"),
        ({"state": "sent", "kind": "kept", "sent_at": NOW - 30 * SECOND}, None),
        ({"state": "sent", "kind": "kept", "sent_at": NOW - 90 * SECOND}, "send"),
        ({"state": "sent", "kind": "kept", "sent_at": NOW - 90 * SECOND, "is_online": False}, None),
        ({"state": "sent", "kind": "kept", "sent_at": NOW - 90 * SECOND, "expires_at": NOW}, "timed_out"),
        *(({"state": state, "expires_at": NOW}, None) for state in ENDED),
    ],
)
def test_ING_13_what_is_due(given: dict[str, object], verdict: str | None) -> None:
    assert command_life.due(situation(**given), NOW) == verdict


moments = st.integers(-200, 200).map(lambda seconds: NOW + seconds * SECOND)


@given(
    st.builds(
        Situation,
        st.sampled_from(KINDS),
        st.booleans(),
        st.sampled_from((*OPEN, *ENDED)),
        st.integers(1, 300),
        moments,
        moments,
        st.none() | moments,
        st.booleans(),
        st.none() | moments,
    )
)
def test_ING_13_nothing_is_sent_that_has_ended_or_expired_or_to_a_device_that_is_away(at: Situation) -> None:
    verdict = command_life.due(at, NOW)
    if verdict == "send":
        assert at.is_online
        assert at.state in OPEN
        assert at.expires_at > NOW
    assert at.state not in ENDED or verdict is None


@pytest.mark.parametrize("state", ENDED)
def test_ING_13_what_has_ended_stays_as_it_ended(state: str) -> None:
    assert command_life.answered(state, is_error=False) == state
    assert command_life.acknowledged("reply", state, by_device=True) == state
