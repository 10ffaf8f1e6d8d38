"""Settings: a wrong one is refused in a sentence that names the variable; secrets are made once and kept to oneself."""

import stat
import threading
from pathlib import Path

import pytest

from kernel import settings
from kernel.errors import Misconfigured
from kernel.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"FIXWRIGHT_{name.upper()}", raising=False)
    monkeypatch.delenv("FIXWRIGHT_SETTINGS", raising=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FIXWRIGHT_HTTP_BIND", "8000"),
        ("FIXWRIGHT_HTTP_BIND", "127.0.0.1:99999"),
        ("FIXWRIGHT_MQTT_BIND", ":1883"),
        ("FIXWRIGHT_DATABASE_POOL", "many"),
        ("FIXWRIGHT_DATABASE_POOL", "1"),
        ("FIXWRIGHT_LOG_LEVEL", "loud"),
        ("FIXWRIGHT_TRUSTED_PROXIES", "10.0.0.1"),
        ("FIXWRIGHT_SESSION_HOURS", "0"),
    ],
)
def test_a_wrong_setting_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=name):
        settings.load()


def test_the_environment_wins_over_the_file_and_an_argument_over_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "fixwright.toml"
    file.write_text('session_hours = 3\nlog_level = "debug"\nretention_days = 30\n')
    monkeypatch.setenv("FIXWRIGHT_SETTINGS", str(file))
    monkeypatch.setenv("FIXWRIGHT_SESSION_HOURS", "4")
    monkeypatch.setenv("FIXWRIGHT_LOG_LEVEL", "error")

    found = settings.load(log_level="warning")

    assert (found.retention_days, found.session_hours, found.log_level) == (30, 4, "warning")


def test_an_unknown_name_in_the_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "fixwright.toml"
    file.write_text("sesion_hours = 3\n")
    monkeypatch.setenv("FIXWRIGHT_SETTINGS", str(file))
    with pytest.raises(Misconfigured, match="FIXWRIGHT_SESION_HOURS"):
        settings.load()


@pytest.mark.parametrize("text", ["session_hours = \n", None], ids=["broken", "missing"])
def test_a_file_that_cannot_be_read_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "fixwright.toml"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("FIXWRIGHT_SETTINGS", str(file))
    with pytest.raises(Misconfigured, match=r"fixwright\.toml"):
        settings.load()


def test_every_setting_says_what_it_decides() -> None:
    assert [name for name, field in Settings.model_fields.items() if not (field.description or "").endswith(".")] == []


def test_the_secret_is_made_once_by_however_many_start_at_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    found: list[bytes] = []
    own = settings.load(data_dir=tmp_path / "var")
    # Each thread stands for a process; the draft's name holds the process id, so they queue as one process would.
    threads = [threading.Thread(target=lambda: found.append(settings.secret_key(own))) for _ in range(1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.append(settings.secret_key(own))

    assert len(set(found)) == 1
    assert len(found[0]) == 64
    path = tmp_path / "var" / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["secret.key"]


def test_a_secret_that_is_set_is_used_and_not_written_down(tmp_path: Path) -> None:
    own = settings.load(data_dir=tmp_path, secret_key="of my own")
    assert settings.secret_key(own) == b"of my own"
    assert list(tmp_path.iterdir()) == []
    assert "of my own" not in repr(own)


@pytest.mark.parametrize(
    ("bind", "parts"), [("127.0.0.1:8000", ("127.0.0.1", 8000)), ("[::1]:80", ("::1", 80)), ("a.b:1", ("a.b", 1))]
)
def test_an_address_is_split_at_its_last_colon(bind: str, parts: tuple[str, int]) -> None:
    assert settings.host_and_port(bind) == parts
