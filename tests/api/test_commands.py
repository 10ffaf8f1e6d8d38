"""The command line, run as a user runs it: a process of its own on a real database."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from assets import passwords
from assets.models import Device
from ingest import credentials
from kernel import clock, db
from people import accounts, roles
from people.models import Account
from tests import factories
from tests.conftest import SECRET

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(database_url: str, tmp_path: Path) -> Run:
    """Return a runner of ``fixwright …`` on this test's database."""
    environment = {
        **os.environ,
        "FIXWRIGHT_DATABASE_URL": database_url,
        "FIXWRIGHT_DATA_DIR": str(tmp_path / "data"),
        "FIXWRIGHT_SECRET_KEY": SECRET.decode(),
        "FIXWRIGHT_MQTT_URL": f"mqtt://{credentials.INGEST_USER}:s3cret@127.0.0.1:1",
        "FIXWRIGHT_HTTP_BIND": "127.0.0.1:1",
    }

    def call(*words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "api.cli", *words],
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return call


@pytest.fixture
def _administrator(database: sessionmaker[Session]) -> None:
    with db.transaction(database) as session:
        roles.sync_builtin(session)
        accounts.first_administrator(session, clock.now())


@pytest.mark.usefixtures("_administrator")
def test_a_user_and_a_token_are_made_and_shown_once(run: Run, database: sessionmaker[Session]) -> None:
    made = run("user", "create", "anna", "--role", "dispatcher", "--name", "Anna Li")
    assert made.returncode == 0, made.stderr
    password = made.stdout.strip()
    with db.transaction(database) as session:
        anna = accounts.authenticate(session, "anna", password, address="127.0.0.1", now=clock.now())
        assert anna is not None
        assert anna.name == "Anna Li"
    token = run("token", "create", "--user", "anna", "--days", "3")
    assert token.returncode == 0, token.stderr
    assert len(token.stdout.strip()) > 20
    assert password not in token.stdout


@pytest.mark.usefixtures("_administrator")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("user", "create", "bob", "--role", "wizard"), "There is no role called wizard."),
        (("user", "create", "admin", "--role", "manager"), "This user name is taken."),
        (("token", "create", "--user", "nobody"), "There is no account called nobody."),
        (("token", "create", "--user", "admin", "--right", "fly"), "fly"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(run: Run, words: tuple[str, ...], said: str) -> None:
    refused = run(*words)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_bad_setting_is_named(run: Run) -> None:
    refused = run("settings", FIXWRIGHT_HTTP_BIND="here")
    assert refused.returncode == 2
    assert "FIXWRIGHT_HTTP_BIND" in refused.stderr


@pytest.mark.usefixtures("_administrator")
def test_the_audit_trail_is_verified_and_a_change_of_it_is_an_exit_code(
    run: Run, database: sessionmaker[Session]
) -> None:
    from sqlalchemy import text

    assert run("audit", "verify").returncode == 0
    with db.transaction(database) as session:
        session.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER ALL"))
        session.execute(text("UPDATE audit_entry SET actor = 'nobody' WHERE seq = 1"))
    broken = run("audit", "verify")
    assert broken.returncode == 1
    assert "entry 1" in broken.stdout


def test_the_doctor_names_what_does_not_answer(run: Run) -> None:
    examined = run("doctor")
    assert examined.returncode == 1
    assert "ok  database" in examined.stdout
    assert "!!  mqtt: 127.0.0.1:1 does not answer" in examined.stdout


def test_the_broker_files_hold_the_registered_devices_and_no_revoked_one(
    run: Run, database: sessionmaker[Session], tmp_path: Path
) -> None:
    with db.transaction(database) as session:
        acme = factories.company(session)
        kept = factories.device(session, acme, password_hash=passwords.hashed("one"))
        factories.device(session, acme, password_hash=passwords.hashed("two"), revoked_at=clock.now())
        key = kept.key
    folder = tmp_path / "broker"
    written = run("broker-files", str(folder))
    assert written.returncode == 0, written.stderr
    users = [line.partition(":")[0] for line in (folder / "passwd").read_text().splitlines()]
    assert users == [credentials.INGEST_USER, key]
    before = (folder / "passwd").read_bytes()
    assert run("broker-files", str(folder)).stdout == "", "nothing changed, so nothing is written"
    assert (folder / "passwd").read_bytes() == before
    refused = run("broker-files", str(folder), FIXWRIGHT_MQTT_URL="mqtt://somebody:x@127.0.0.1")
    assert refused.returncode == 2
    assert credentials.INGEST_USER in refused.stderr


def test_web_refuses_a_store_that_belongs_to_another_process(run: Run) -> None:
    refused = run("web")
    assert refused.returncode == 2
    assert "FIXWRIGHT_TELEMETRY_URL" in refused.stderr


def test_migrate_says_where_the_database_is(run: Run) -> None:
    done = run("migrate")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The database is at revision ")


def test_simulated_devices_are_registered_once(database: sessionmaker[Session]) -> None:
    from api.demo import load

    with db.transaction(database) as session:
        factories.company(session)
    for count in (3, 5, 5):
        with db.transaction(database) as session:
            made = load.members(session, SECRET, devices=count, rate=10, now=clock.now())
            assert [member.key for member in made] == [f"sim-{number:05d}" for number in range(count)]
            assert made[0].every_s == count / 10
    with database() as session:
        rows = session.scalars(select(Device).where(Device.key.startswith("sim-"))).all()
        assert len(rows) == 5
        assert all(passwords.is_right(made[0].password, rows[0].password_hash) for _ in rows[:1])
        assert session.scalars(select(Account)).first() is None
