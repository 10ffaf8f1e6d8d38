"""Fetching and copying the browser libraries, on a copy of the few files it is made from."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from api.web import assets
from tests.waiting import until

MADE_FROM = ("assets.py", "stylesheet.py", "icons.txt", "mit.txt")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree with what set-up needs and the packages already fetched."""
    if not (assets.MODULES / ".fixwright").is_file():
        pytest.skip("needs the npm packages (python -m api.web.assets, or make test)")
    web = tmp_path / "api" / "web"
    (web / "static").mkdir(parents=True)
    (tmp_path / "api" / "__init__.py").touch()
    (web / "__init__.py").touch()
    for name in MADE_FROM:
        shutil.copy(assets.HERE / name, web / name)
    shutil.copy(assets.LOCK, tmp_path / assets.LOCK.name)
    (tmp_path / "node_modules").symlink_to(assets.MODULES)
    return tmp_path


def start(tree: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "api.web.assets"], cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_set_up_copies_everything_once_with_licences_and_hashes(tree: Path) -> None:
    first, _ = start(tree).communicate()
    vendor = tree / "api/web/static/vendor"
    made_at = vendor.stat().st_mtime_ns
    second, _ = start(tree).communicate()
    assert "copied" in first
    assert "up to date" in second
    assert vendor.stat().st_mtime_ns == made_at
    manifest = json.loads((vendor / "manifest.json").read_text())
    for name, expected in manifest["files"].items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == expected
    for _, _, target in assets.COPIES:
        folder = (vendor / target).parent
        assert any(assets.LICENCE_FILES.match(path.name) for path in [*folder.iterdir(), *folder.parent.iterdir()])
    assert b"sourceMappingURL" not in (vendor / "leaflet/leaflet.js").read_bytes()


def test_another_list_of_icons_makes_the_folder_anew(tree: Path) -> None:
    start(tree).communicate()
    icons = tree / "api/web/icons.txt"
    icons.write_text(icons.read_text() + "wand\n")
    said, _ = start(tree).communicate()
    assert "copied" in said
    assert 'id="wand"' in (tree / "api/web/static/vendor/icons.svg").read_text()


def test_an_icon_that_does_not_exist_is_refused_by_name(tree: Path) -> None:
    (tree / "api/web/icons.txt").write_text("plus\nno-such-icon\n")
    process = start(tree)
    said, _ = process.communicate()
    assert process.returncode == 1
    assert "no-such-icon" in said
    assert list((tree / "api/web/static").iterdir()) == []


def test_a_run_that_is_killed_leaves_no_half_folder_and_the_next_one_mends_it(tree: Path) -> None:
    static = tree / "api/web/static"
    process = start(tree)
    until(lambda: list(static.glob(".vendor-*/echarts")) or process.poll() is not None, every_s=0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (static / "vendor").exists() or (static / "vendor" / "manifest.json").is_file()
    start(tree).communicate()
    assert (static / "vendor" / "manifest.json").is_file()
    assert [path.name for path in static.iterdir()] == ["vendor"]


def test_two_runs_at_once_do_the_work_once(tree: Path) -> None:
    said = [process.communicate()[0] for process in [start(tree), start(tree)]]
    assert sorted("copied" in text for text in said) == [False, True]


def test_one_version_stands_for_all_static_files() -> None:
    assert assets.url("js/islands.js") == f"/static/{assets.version()}/js/islands.js"
    assert len(assets.version()) == 12
