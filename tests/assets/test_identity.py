"""Who is speaking: what a connection shows, and whether it belongs to a device."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from assets import identity
from assets.identity import Admission, Credentials, Login

NOW = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
UNTIL = NOW + timedelta(hours=1)
PLAIN = Credentials(password_hash="new")
ROTATED = Credentials("new", "pump~2", "old", None, UNTIL)
AGAIN = Credentials("newer", "pump~3", "new", "pump~2", UNTIL)
BOUND = replace(PLAIN, client_id="plc-4")
CERTIFIED = Credentials(accepts_certificate=True)
BOTH = replace(PLAIN, accepts_certificate=True)


def shows(user: str = "pump", password: str = "", client: str = "x", *, name: str | None = None) -> Login:
    return Login(user, password, client, name)


@pytest.mark.parametrize(
    ("has", "login", "answer"),
    [
        (Credentials(), shows(password=""), None),
        (Credentials(), shows(password="new"), None),
        (PLAIN, shows(password="new"), Admission("pump")),
        (PLAIN, shows(password="old"), None),
        (PLAIN, shows(password=""), None),
        (PLAIN, shows("pump~2", "new"), None),
        (PLAIN, shows("", "new"), None),
        (PLAIN, shows("pumps", "new"), None),
        (ROTATED, shows(password="new"), Admission("pump")),
        (ROTATED, shows("pump~2", "new"), Admission("pump")),
        (ROTATED, shows(password="old"), Admission("pump", UNTIL)),
        (ROTATED, shows("pump~2", "old"), None),
        (AGAIN, shows("pump~2", "new"), Admission("pump", UNTIL)),
        (AGAIN, shows("pump~3", "newer"), Admission("pump")),
        (AGAIN, shows("pump~2", "newer"), None),
        (AGAIN, shows(password="old"), None),
        (BOUND, shows(password="new", client="plc-4"), Admission("pump")),
        (BOUND, shows(password="new", client="plc-5"), None),
        (CERTIFIED, shows("", name="pump"), Admission("pump")),
        (CERTIFIED, shows("pump", name="pump"), Admission("pump")),
        (CERTIFIED, shows("pump", name="spy"), None),
        (CERTIFIED, shows("pump"), None),
        (BOTH, shows(password="new"), Admission("pump")),
        (BOTH, shows(password="new", name="spy"), None),
        (PLAIN, shows("", name="pump"), None),
        (PLAIN, shows(password="new", name="pump"), Admission("pump")),
        (PLAIN, shows(password="new", name="spy"), None),
        (replace(CERTIFIED, client_id="plc-4"), shows("", name="pump"), None),
    ],
)
def test_ING_6_what_belongs_to_a_device_lets_it_in_and_nothing_else(
    has: Credentials, login: Login, answer: Admission | None
) -> None:
    found = identity.admit(has, login, key="pump", now=NOW, is_right=lambda password, stored: password == stored)
    assert found == answer


@pytest.mark.parametrize(("moment", "answer"), [(-1, Admission("pump", UNTIL)), (0, None), (1, None)])
def test_ING_6_the_password_before_works_until_the_overlap_ends_and_not_after(
    moment: int, answer: Admission | None
) -> None:
    now = UNTIL + timedelta(microseconds=moment)
    right = lambda password, stored: password == stored  # noqa: E731 - said where it is used
    assert identity.admit(ROTATED, shows(password="old"), key="pump", now=now, is_right=right) == answer
    assert identity.admit(ROTATED, shows(password="new"), key="pump", now=now, is_right=right) == Admission("pump")


@pytest.mark.parametrize(
    ("client_id", "may"),
    [
        ("pump", True),
        ("pump~2", True),
        ("pump:1", True),
        ("pump/a", True),
        ("pumps", False),
        ("spy", False),
        ("", False),
    ],
)
def test_where_client_ids_are_one_for_all_a_device_keeps_to_its_own(client_id: str, *, may: bool) -> None:
    assert identity.may_use_client_id(PLAIN, "pump", client_id) is may
    assert identity.may_use_client_id(BOUND, "pump", client_id) is False
    assert identity.may_use_client_id(BOUND, "pump", "plc-4")
    assert (identity.owner_of(client_id) == "pump") is may


def test_second_names_take_turns() -> None:
    first = identity.next_alias("pump", None)
    second = identity.next_alias("pump", first)
    assert len({"pump", first, second}) == 3
    assert identity.next_alias("pump", second) == first
    assert {identity.key_of(name) for name in ("pump", first, second)} == {"pump"}
