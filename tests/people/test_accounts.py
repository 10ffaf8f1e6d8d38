"""Accounts, and what stands between a password and somebody who guesses it (SE-6)."""

import importlib.util
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel.errors import Conflict, Forbidden, Invalid, TooMany
from kernel.models import AuditEntry
from people import accounts, passwords, roles, sign_in, tokens
from people.models import Account, SignIn
from people.scope import Viewer, viewer_of
from tests import factories
from tests.factories import NOW, Company

GOOD = "correct horse battery"
DAY = timedelta(hours=12)


@pytest.fixture
def acme(session: Session) -> Company:
    return factories.company(session)


@pytest.fixture
def boss(session: Session, acme: Company) -> Viewer:
    return viewer_of(session, factories.account(session, acme, "administrator", "company"))


@pytest.fixture
def owner(session: Session, acme: Company, boss: Viewer) -> Account:
    return accounts.create(
        session, acme.units["harbour"], username="Li.Wei", name="李伟", password=GOOD, by=boss, now=NOW
    )


def guess(session: Session, password: str, address: str = "198.51.100.7", at: datetime = NOW) -> Account | None:
    return accounts.authenticate(session, "li.wei", password, address=address, now=at)


def test_the_right_password_lets_the_owner_in_however_the_name_is_written(session: Session, owner: Account) -> None:
    for name in ("li.wei", " LI.WEI ", "ｌｉ．ｗｅｉ"):
        assert accounts.authenticate(session, name, GOOD, address="192.0.2.1", now=NOW) is owner


@pytest.mark.parametrize(
    "password", ["short", "Li.Wei-is-here", "password123456", "aaaaaaaaaaaaaa", "x" * 201], ids=str
)
def test_a_bad_password_is_refused_where_it_is_chosen(session: Session, owner: Account, password: str) -> None:
    with pytest.raises(Invalid) as refused:
        accounts.change_password(
            session, owner, old=GOOD, new=password, keep_sign_in=None, address="192.0.2.1", now=NOW
        )
    assert refused.value.field == "password"


@pytest.mark.parametrize("username", ["x", "has space", "semi;colon", "", "a" * 61, "-dash"])
def test_a_bad_user_name_is_refused(session: Session, acme: Company, boss: Viewer, username: str) -> None:
    with pytest.raises(Invalid) as refused:
        accounts.create(session, acme.units["harbour"], username=username, name="X", by=boss, now=NOW)
    assert refused.value.field == "username"


def test_a_user_name_exists_once_in_the_installation(session: Session, owner: Account) -> None:
    other = factories.company(session, "other")
    by = viewer_of(session, factories.account(session, other, "administrator", "company"))
    with pytest.raises(Conflict):
        accounts.create(session, other.units["harbour"], username="LI.WEI", name="X", by=by, now=NOW)
    assert owner.company_id != other.id


def test_SE_6_stuffing_from_one_address_is_slowed_and_the_owner_still_gets_in(session: Session, owner: Account) -> None:
    compared, waits = 0, []
    for second in range(100):
        try:
            guess(session, f"wrong guess {second}", at=NOW + timedelta(seconds=second))
            compared += 1
        except TooMany as slow:
            waits.append(slow.retry_after_s)

    assert all(0 < wait <= accounts.QUARTER.total_seconds() + 1 for wait in waits)
    assert compared == accounts.TRIES_BY_PLACE
    assert guess(session, GOOD, address="192.0.2.1", at=NOW + timedelta(seconds=101)) is owner


def test_SE_6_stuffing_many_accounts_from_one_address_is_slowed(session: Session, owner: Account) -> None:
    compared = 0
    for n in range(200):
        try:
            accounts.authenticate(session, f"nobody{n}", "a guessed one", address="198.51.100.7", now=NOW)
            compared += 1
        except TooMany:
            pass
    assert compared == accounts.TRIES_BY_ADDRESS
    assert guess(session, GOOD, address="192.0.2.1") is owner


def test_SE_6_stuffing_from_everywhere_is_slowed_and_a_known_browser_is_not(session: Session, owner: Account) -> None:
    known = sign_in.begin(session, owner, address="192.0.2.1", agent="", lasts=DAY, now=NOW).device
    compared = 0
    for n in range(300):
        try:
            guess(session, "wrong again", address=f"198.51.{n % 250}.{n}", at=NOW + timedelta(seconds=n))
            compared += 1
        except TooMany:
            pass

    assert compared <= accounts.TRIES_BY_ACCOUNT + 300 / accounts.PAUSE.total_seconds() + 1
    late = NOW + timedelta(seconds=301)
    assert accounts.authenticate(session, "li.wei", GOOD, address="198.51.100.9", device=known, now=late) is owner


def test_SE_6_a_neighbour_at_the_same_address_cannot_lock_the_owners_browser_out(
    session: Session, owner: Account
) -> None:
    known = sign_in.begin(session, owner, address="192.0.2.1", agent="", lasts=DAY, now=NOW).device
    for _ in range(accounts.TRIES_BY_PLACE):
        guess(session, "wrong guess", address="192.0.2.1")
    with pytest.raises(TooMany):
        guess(session, GOOD, address="192.0.2.1")
    assert accounts.authenticate(session, "li.wei", GOOD, address="192.0.2.1", device=known, now=NOW) is owner


def test_a_browser_is_known_to_its_own_account_only_and_until_the_password_changes(
    session: Session, acme: Company, owner: Account, boss: Viewer
) -> None:
    known = sign_in.begin(session, owner, address="192.0.2.1", agent="", lasts=DAY, now=NOW).device
    other = factories.account(session, acme, "technician", "harbour")

    assert sign_in.known_device(session, owner, known)
    assert sign_in.known_device(session, other, known) is None
    for forged in (None, "", ".", known[:-1], known + "0", "x" + known, "ä.ö"):
        assert sign_in.known_device(session, owner, forged) is None
    accounts.set_password(session, owner, "another good one", by=boss, now=NOW)
    assert sign_in.known_device(session, owner, known) is None


def test_an_unknown_name_costs_the_same_comparison_as_a_wrong_password(
    session: Session, owner: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []
    argon2 = passwords._argon2
    plainly = argon2.verify

    def verify(password: str, kept: str) -> bool:
        compared.append(kept.rpartition("$")[0].rpartition("$")[0])
        return plainly(password, kept)

    monkeypatch.setattr(argon2, "verify", verify)
    for name in ("li.wei", "nobody"):
        assert accounts.authenticate(session, name, "wrong guess", address="192.0.2.1", now=NOW) is None

    assert len(compared) == 2
    assert compared[0] == compared[1], "the parameters of argon2 decide how long it takes"
    assert owner.failed_sign_ins == 1


def test_failures_are_written_down_without_the_name_that_nobody_has(session: Session, owner: Account) -> None:
    guess(session, "wrong guess")
    accounts.authenticate(session, "hunter2-typed-here", "x", address="192.0.2.1", now=NOW)

    rows = session.scalars(select(AuditEntry).where(AuditEntry.action == "sign_in.refuse").order_by(AuditEntry.id))
    assert [row.subject for row in rows] == [f"account:{owner.id}", "account:unknown"]
    assert "hunter2" not in str(session.execute(select(AuditEntry.after, AuditEntry.subject)).all())


def test_an_account_without_a_password_or_switched_off_lets_nobody_in(
    session: Session, acme: Company, owner: Account, boss: Viewer
) -> None:
    factories.account(session, acme, "technician", "mill", username="mute")
    accounts.deactivate(session, owner, by=boss, now=NOW)

    assert guess(session, GOOD) is None
    assert accounts.authenticate(session, "mute", "", address="192.0.2.1", now=NOW) is None


def test_switching_an_account_off_ends_its_sign_ins_and_tokens_for_good(
    session: Session, owner: Account, boss: Viewer
) -> None:
    sign_in.begin(session, owner, address="192.0.2.1", agent="", lasts=DAY, now=NOW)
    token, _ = tokens.create(session, owner, name="ci", expires_at=NOW + DAY, by=viewer_of(session, owner), now=NOW)

    accounts.deactivate(session, owner, by=boss, now=NOW)
    accounts.reactivate(session, owner, by=boss, now=NOW)

    assert sign_in.living(session, owner, NOW) == []
    assert token.revoked_at == NOW
    assert guess(session, GOOD) is owner


def test_nobody_switches_off_themselves_or_the_last_administrator(
    session: Session, acme: Company, boss: Viewer
) -> None:
    with pytest.raises(Conflict, match="your own"):
        accounts.deactivate(session, accounts.find(session, boss.account_id, boss), by=boss, now=NOW)
    only = factories.account(session, acme, "administrator", "company")
    second = factories.account(session, acme, "administrator", "company", username="second")
    by = viewer_of(session, second)
    accounts.deactivate(session, only, by=by, now=NOW)
    accounts.reactivate(session, only, by=by, now=NOW)
    second.is_active = False
    session.flush()
    with pytest.raises(Conflict, match="at least one"):
        accounts.deactivate(session, only, by=by, now=NOW)


def test_only_those_with_power_over_an_account_change_it(session: Session, acme: Company, owner: Account) -> None:
    dispatcher = viewer_of(session, factories.account(session, acme, "dispatcher", "company"))
    elsewhere = viewer_of(session, factories.account(session, acme, "administrator", "mill"))
    for by in (dispatcher, elsewhere):
        for verb in (accounts.deactivate, accounts.reactivate):
            with pytest.raises(Forbidden):
                verb(session, owner, by=by, now=NOW)
        with pytest.raises(Forbidden):
            accounts.set_password(session, owner, "another good one", by=by, now=NOW)
        with pytest.raises(Forbidden):
            accounts.create(session, acme.units["harbour"], username="new", name="New", by=by, now=NOW)


def test_changing_ones_password_needs_the_old_one_and_ends_the_other_sign_ins(session: Session, owner: Account) -> None:
    here = sign_in.begin(session, owner, address="192.0.2.1", agent="", lasts=DAY, now=NOW)
    sign_in.begin(session, owner, address="192.0.2.2", agent="", lasts=DAY, now=NOW)
    mine = sign_in.current(session, here.secret, NOW)
    assert mine is not None

    def change(old: str) -> bool:
        return accounts.change_password(
            session, owner, old=old, new="another good one", keep_sign_in=mine.id, address="192.0.2.1", now=NOW
        )

    assert not change("not this one")
    assert len(sign_in.living(session, owner, NOW)) == 2
    assert change(GOOD)
    assert sign_in.living(session, owner, NOW) == [mine]
    assert guess(session, "another good one") is owner
    for _ in range(3):
        change("guessed old one")
    with pytest.raises(TooMany):
        change("another good one")


def test_a_sign_in_expires_and_the_database_holds_no_usable_secret(session: Session, owner: Account) -> None:
    begun = sign_in.begin(session, owner, address="192.0.2.1", agent="x" * 900, lasts=DAY, now=NOW)

    row = session.scalars(select(SignIn)).one()
    assert begun.secret not in str([getattr(row, column.key) for column in SignIn.__table__.columns])
    assert sign_in.current(session, begun.secret, NOW + DAY - timedelta(seconds=1)) is row
    assert sign_in.current(session, begun.secret, NOW + DAY) is None
    assert sign_in.current(session, row.secret_hash, NOW) is None
    sign_in.sweep(session, NOW + DAY)
    assert session.scalars(select(SignIn)).all() == []


def test_the_first_administrator_is_made_once_and_can_sign_in(session: Session) -> None:
    made = accounts.first_administrator(session, NOW)
    assert made is not None
    account, password = made

    assert accounts.authenticate(session, "admin", password, address="192.0.2.1", now=NOW) is account
    assert viewer_of(session, account).may_at("people.write", f"/{account.company_id}/")
    assert accounts.first_administrator(session, NOW) is None
    roles.keep_an_administrator(session, account.company_id, besides=Account(id=-1))


def test_the_password_is_kept_as_argon2id_only(owner: Account) -> None:
    assert owner.password_hash is not None
    assert owner.password_hash.startswith("$argon2id$")
    assert passwords.matches(GOOD, owner.password_hash)
    assert not passwords.matches("", None)


def test_what_a_guess_costs_is_what_is_recommended() -> None:
    spec = importlib.util.find_spec("people.passwords")
    assert spec is not None
    assert spec.loader is not None
    as_shipped = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(as_shipped)
    for kept in (as_shipped.hashed(GOOD), as_shipped._NOBODY):
        assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
