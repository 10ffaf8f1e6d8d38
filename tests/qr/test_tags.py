"""Tags: tokens nobody guesses, found by whatever a reader gives, revoked and replaced for good."""

import secrets

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from assets.models import Asset
from kernel import ids
from kernel.errors import Conflict, Gone, NotFound
from kernel.models import AuditEntry
from qr import tags
from qr.models import Scan, Tag
from tests import factories
from tests.factories import NOW

FORGED = 20_000


@pytest.fixture
def asset(session: Session) -> Asset:
    return factories.asset(session, factories.company(session))


@pytest.fixture
def tag(session: Session, asset: Asset) -> Tag:
    return tags.make(session, asset, actor="account:1", now=NOW)


def test_QRC_3_a_token_has_at_least_128_random_bits_and_no_two_are_alike(session: Session, asset: Asset) -> None:
    made = {tags.make(session, asset, actor="account:1", now=NOW).token for _number in range(200)}
    assert len(made) == 200
    # A character of URL-safe base64 carries six bits.
    assert min(len(token) * 6 for token in made) >= 128
    for place in range(21):
        assert len({token[place] for token in made}) > 20, "every character is random, none is an id or a date"


def test_QRC_3_20000_forged_tokens_hit_nothing(session: Session, asset: Asset) -> None:
    genuine = [tags.make(session, asset, actor="account:1", now=NOW) for _number in range(50)]
    forged = [ids.token(tags.TOKEN_BITS) for _number in range(FORGED - 5 * len(genuine))]
    for tag in genuine:
        forged += [tag.token[:-1], tag.token + "A", tag.token.swapcase(), tag.code, str(tag.id)]
    hits = 0
    for token in forged:
        try:
            tags.by_token(session, token)
        except NotFound:
            continue
        hits += 1
    assert (len(forged), hits) == (FORGED, 0)


@pytest.mark.parametrize("token", ["", "a", "x\x00y" * 8, "' OR 1=1 --" * 3, "../../etc/passwd", "é" * 27, "A" * 5000])
def test_what_cannot_be_a_token_never_reaches_the_database(session: Session, token: str) -> None:
    asked: list[str] = []
    bind = session.get_bind()
    event.listen(bind, "before_cursor_execute", lambda *args: asked.append(args[2]))
    with pytest.raises(NotFound):
        tags.by_token(session, token)
    assert [statement for statement in asked if "tag" in statement] == []


def test_a_revoked_tag_is_gone_and_an_unbound_one_unknown(session: Session, tag: Tag) -> None:
    blank = factories.tag(session, factories.company(session, "other"))
    with pytest.raises(NotFound):
        tags.by_token(session, blank.token)
    assert tags.by_token(session, tag.token) is tag
    tags.revoke(session, tag, actor="account:1", now=NOW)
    with pytest.raises(Gone):
        tags.by_token(session, tag.token)
    with pytest.raises(Conflict):
        tags.revoke(session, tag, actor="account:1", now=NOW)


def test_replacing_a_tag_leaves_no_way_in_by_the_old_one(session: Session, tag: Tag) -> None:
    new = tags.replace(session, tag, actor="account:1", now=NOW)
    assert new.asset_id == tag.asset_id
    assert new.token != tag.token
    with pytest.raises(Gone):
        tags.by_scan(session, f"https://example.com/q/{tag.token}")
    assert tags.by_scan(session, new.code) is new
    verbs = session.scalars(
        select(AuditEntry.action).where(AuditEntry.subject.startswith("tag:")).order_by(AuditEntry.id)
    )
    assert list(verbs) == ["tag.make", "tag.revoke", "tag.make"]


def test_an_asset_keeps_its_newest_valid_tag(session: Session, asset: Asset, tag: Tag) -> None:
    assert tags.of_asset(session, asset, actor="account:1", now=NOW) is tag
    tags.revoke(session, tag, actor="account:1", now=NOW)
    assert tags.of_asset(session, asset, actor="account:1", now=NOW) is not tag


def test_a_reader_may_give_an_address_a_token_or_the_code_as_people_type_it(session: Session, tag: Tag) -> None:
    typed = tag.code.lower().replace("-", " ")
    for text in (
        f"https://fixwright.example/q/{tag.token}",
        f"  http://10.0.0.5:8000/q/{tag.token}/report?x=1 ",
        tag.token,
        tag.code,
        typed,
        tag.code.replace("-", ""),
    ):
        assert tags.by_scan(session, text) is tag, text
    for text in ("6901234567892", "https://example.com/other", "ZZZZ-ZZZZ", "\x00"):
        with pytest.raises(NotFound):
            tags.by_scan(session, text)


def test_a_code_has_no_letters_that_look_like_others(session: Session, asset: Asset) -> None:
    codes = "".join(tags.make(session, asset, actor="account:1", now=NOW).code for _number in range(100))
    assert not set(codes) & set("01OILU")


def test_a_scan_is_cut_to_what_can_be_kept(session: Session, tag: Tag) -> None:
    tags.scanned(session, tag, viewer=None, address="1" * 300, agent=secrets.token_hex(300), now=NOW)
    session.flush()
    scan = session.scalars(select(Scan)).one()
    assert (len(scan.address), len(scan.agent), scan.account_id) == (60, 200, None)
