"""Languages: what a browser asks for, what is translated, and what falls back to itself."""

import pytest

from kernel import clock, i18n, ids


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("zh-TW", "zh"), ("en-GB,zh;q=0.5", "en"), ("de-DE,zh;q=0.8", "zh"),
        ("fr,de", "en"), ("", "en"), (None, "en"), (";;q=,", "en"), ("ZH", "zh"),
    ],
)  # fmt: skip
def test_the_first_language_of_ours_that_is_asked_for_is_taken(asked: str | None, language: str) -> None:
    assert i18n.preferred(asked) == language


def test_a_sentence_is_said_in_the_current_language_with_its_placeholders() -> None:
    token = i18n.language.set("zh")
    try:
        assert i18n.gettext("Use at least {n} characters.", n=10) == "至少 10 个字符。"
        assert i18n.gettext("Nobody translated {this}", this="this") == "Nobody translated this"
    finally:
        i18n.language.reset(token)
    assert i18n.gettext("Use at least {n} characters.", n=10) == "Use at least 10 characters."
    assert i18n.noop("As it stands {n}") == "As it stands {n}"


def test_an_instant_survives_the_way_through_milliseconds() -> None:
    moment = clock.now()
    assert clock.from_ms(clock.to_ms(moment)) == moment
    assert abs(clock.now_ms() - clock.to_ms(moment)) < 60_000
    with pytest.raises((OverflowError, ValueError)):
        clock.from_ms(10**18)


def test_codes_can_be_read_aloud_and_tokens_cannot_be_guessed() -> None:
    codes = {ids.code(8) for _ in range(500)}
    assert len(codes) == 500
    assert all(len(code) == 9 and code[4] == "-" for code in codes)
    assert not set("".join(codes)) & set("01ILOU")
    assert len({ids.token(128) for _ in range(500)}) == 500
    assert all(len(ids.token(bits)) * 6 >= bits for bits in (64, 128, 160, 256))
    assert ids.fingerprint("a") != ids.fingerprint("b")
    assert len(ids.fingerprint("a")) == 64
