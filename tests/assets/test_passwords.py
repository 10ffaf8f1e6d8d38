"""Device passwords in Mosquitto's format."""

import shutil
import subprocess
from pathlib import Path

import pytest

from assets import passwords


def test_a_password_matches_its_own_hash_and_no_other() -> None:
    password = passwords.draw()
    kept = passwords.hashed(password)
    assert kept.startswith("$7$101$")
    assert len(kept) <= 200
    assert passwords.hashed(password) != kept
    assert passwords.is_right(password, kept)
    assert not passwords.is_right(passwords.draw(), kept)


@pytest.mark.parametrize(
    "kept",
    [None, "", "secret", "$7$x$YQ==$YQ==", "$6$YQ==$YQ==", "$7$0$YQ==$YQ==", "$7$999999999$YQ==$YQ==", "$7$1$!$a"],
)
def test_what_is_no_such_hash_matches_nothing(kept: str | None) -> None:
    assert not passwords.is_right("secret", kept)


@pytest.mark.skipif(shutil.which("mosquitto_passwd") is None, reason="mosquitto_passwd is not installed")
def test_a_hash_made_by_mosquitto_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(file), "pump-7", "s3cret"], check=True, capture_output=True)
    kept = file.read_text().strip().partition(":")[2]
    assert passwords.is_right("s3cret", kept)
    assert not passwords.is_right("other", kept)
