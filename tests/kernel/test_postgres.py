"""The embedded server: never twice on one directory, taken over when its starter was killed, refused when broken."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from sqlalchemy import create_engine, text

from kernel import postgres
from kernel.errors import Misconfigured

ROOT = Path(__file__).parents[2]


def servers(folder: Path) -> list[int]:
    """Return the process ids of the servers (not their children) that run on a directory."""
    found = []
    for process in psutil.process_iter(["cmdline", "name"]):
        line = process.info["cmdline"] or []
        if process.info["name"] == "postgres" and str(folder) in " ".join(line):
            found.append(process.pid)
    return found


def test_a_server_whose_starter_was_killed_is_taken_over_with_what_was_committed(server_folder: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-m", "tests.kernel.holder", "postgres", str(server_folder)], cwd=ROOT, stdout=subprocess.PIPE
    )
    with starter:
        assert starter.stdout is not None
        url = starter.stdout.readline().decode().strip()
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE kept AS SELECT 7 AS number"))
        engine.dispose()
        starter.kill()
    left = servers(server_folder)

    with postgres.running(server_folder) as again:
        assert servers(server_folder) == left, "one server on the directory, the one that was left"
        engine = create_engine(again)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT number FROM kept")).scalar_one() == 7
            assert connection.execute(text("SHOW fsync")).scalar_one() == "on"
        engine.dispose()
    assert servers(server_folder) == []


def test_a_directory_of_another_major_version_is_refused(server_folder: Path) -> None:
    with postgres.running(server_folder):
        pass
    (server_folder / "postgres" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(Misconfigured, match="cannot start"), postgres.running(server_folder):
        pass
