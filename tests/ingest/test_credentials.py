import subprocess
from pathlib import Path

import pytest

from assets import passwords
from ingest import credentials
from kernel.errors import Invalid


def test_a_password_is_recognised_and_no_other() -> None:
    stored = passwords.hashed("open sesame")
    assert passwords.is_hash(stored)
    assert passwords.is_right("open sesame", stored)
    for wrong in ("", "open", "open sesame ", "OPEN SESAME", "öpen sesame"):
        assert not passwords.is_right(wrong, stored)
    assert passwords.hashed("open sesame") != stored


def test_secrets_are_long_random_and_printable() -> None:
    secrets = {passwords.draw() for _ in range(100)}
    assert len(secrets) == 100
    assert all(len(secret) >= 27 and secret.isascii() and secret.isprintable() for secret in secrets)


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "plain text",
        "$6$c2FsdHNhbHQ=$" + "A" * 88,
        "$7$101$!!!!$" + "A" * 88,
        "$7$0$c2FsdHNhbHQ=$" + "A" * 88,
        "$7$9999999$c2FsdHNhbHQ=$" + "A" * 88,
        "$7$101$c2FsdHNhbHQ=$" + "A" * 87,
        passwords.hashed("x") + "\n",
    ],
)
def test_a_hash_of_another_format_opens_nothing(stored: str) -> None:
    assert not passwords.is_right("x", stored)
    assert not credentials.Checker().is_right("x", stored)


def test_an_empty_password_is_refused() -> None:
    for password in ("", "a\0b"):
        with pytest.raises(Invalid):
            passwords.hashed(password)


def test_the_checker_remembers_right_passwords_only_and_boundedly() -> None:
    checker = credentials.Checker(limit=2)
    one, two, three = (passwords.hashed(word) for word in ("one", "two", "three"))
    for _ in range(3):
        assert checker.is_right("one", one)
        assert not checker.is_right("two", one)
        assert checker.is_right("two", two)
        assert checker.is_right("three", three)
    assert len(checker._right) == 2
    assert checker.is_right("one", one)
    changed = passwords.hashed("one, changed")
    assert not checker.is_right("one", changed)


def test_mosquitto_passwd_and_we_make_the_same_hashes(tmp_path: Path) -> None:
    file = tmp_path / "passwd"
    try:
        subprocess.run(["mosquitto_passwd", "-c", "-b", file, "pump", "open sesame"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("mosquitto is not installed")
    user, _, stored = file.read_text().strip().partition(":")
    assert user == "pump"
    assert passwords.is_hash(stored)
    assert passwords.is_right("open sesame", stored)


def test_the_password_file_holds_no_line_that_could_be_read_otherwise() -> None:
    stored = passwords.hashed("x")
    text = credentials.password_file({"b": stored, "a": stored}, ingest=stored)
    assert text == f"_fixwright:{stored}\na:{stored}\nb:{stored}\n"
    for devices in (
        {"a:b": stored},
        {"a\nb": stored},
        {"_fixwright": stored},
        {"a": "x"},
        {"a": stored + "\nroot:x"},
    ):
        with pytest.raises(Invalid):
            credentials.password_file(devices, ingest=stored)
