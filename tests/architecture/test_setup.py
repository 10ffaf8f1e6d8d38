"""The ground a newcomer meets: the commands, the lock files, and the rules every page keeps."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from api.web import assets

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "api" / "web" / "templates").rglob("*.html"))
ISLANDS = ROOT / "api" / "web" / "static" / "js"
COMMANDS = ["help", "setup", "run", "test", "check", "bench", "torture", "docs", "lock"]
LOCKS = ["run", "dev", "node"]
MACHINE = re.compile(
    r"/(root|home|work|tmp|Users)/|https?://(?!json\.schemastore)[^\s\"']*(pypi|npmjs|registry|mirror)"
)
PIN = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?==(\S+)", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / "requirements" / f"{lock}.lock").read_text()))


def named(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", name)[0]).lower()


def test_a_bare_make_lists_the_commands() -> None:
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  make (\w+)", said, re.MULTILINE) == COMMANDS


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_of_a_lock_file_is_hashed_and_names_no_registry(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    blocks = re.split(r"\n(?=[\w.-]+(?:\[[\w,]+\])?==)", text)
    assert all("--hash=sha256:" in block for block in blocks if PIN.match(block))
    assert not MACHINE.search(text)
    assert "--index-url" not in text


def test_the_development_set_holds_the_running_set_with_the_same_versions() -> None:
    assert pins("run").items() <= pins("dev").items()


def test_every_declared_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    assert {named(one) for one in [*project["project"]["dependencies"], *groups["build"]]} <= set(pins("run"))
    assert {named(one) for one in groups["dev"]} <= set(pins("dev"))
    assert {named(one) for one in groups["node"]} <= set(pins("node"))


def test_the_npm_lock_names_versions_and_hashes_and_no_registry() -> None:
    lock = json.loads(assets.LOCK.read_text())
    assert lock["lockfileVersion"] == 3
    packages = {path: entry for path, entry in lock["packages"].items() if path}
    assert all(entry["integrity"].startswith("sha512-") and "resolved" not in entry for entry in packages.values())
    copied = {package for package, _, _ in assets.COPIES} | {"@tabler/icons"}
    assert copied == set(lock["packages"][""]["dependencies"])


@pytest.mark.parametrize("name", ["Makefile", "package.json", ".npmrc", ".pre-commit-config.yaml", "djlint.toml"])
def test_no_file_of_the_ground_knows_a_machine_or_a_registry(name: str) -> None:
    assert not MACHINE.search((ROOT / name).read_text())


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT / "api/web/templates")))
def test_a_template_keeps_the_content_policy_and_the_macros_conventions(template: Path) -> None:
    text = re.sub(r"\{#.*?#\}", "", template.read_text(), flags=re.DOTALL)
    assert not re.search(r"\sstyle=", text), "the content policy blocks style attributes"
    assert not re.search(r"<style\b", text), "styles live in static/css"
    assert not re.search(
        r"\son(abort|blur|change|click|error|focus|input|key|load|mouse|pointer|submit|toggle)\w*=", text
    ), "the content policy blocks inline handlers"
    assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/(ld\+)?json)", text), "scripts live in static/js"
    assert "hx-on" not in text, "needs eval, which the content policy forbids"
    for line in re.findall(r"\{%-? import .*?%\}", text):
        assert "with context" in line, "times and links read the page's own context"
    icons = set(assets.ICONS.read_text().split())
    assert set(re.findall(r"\bicon\(\"([\w-]+)\"", text)) <= icons, "add the icon to api/web/icons.txt"


def test_every_island_is_in_the_table_and_attaches() -> None:
    table = set(re.findall(r'"\./([\w-]+\.js)"', (ISLANDS / "islands.js").read_text()))
    attaching = {path.name for path in ISLANDS.glob("*.js") if "export function attach(" in path.read_text()}
    assert table == attaching


def test_every_word_of_the_layouts_has_its_chinese() -> None:
    sources = [*(ROOT / "api/web/templates/layout").glob("*.html"), ROOT / "api/web/templates/error.html"]
    wanted = {
        message
        for path in [*sources, ROOT / "api/web/display.py"]
        for _, message in re.findall(
            r"\b(?:_|noop)\(([\"'])(.+?)\1", re.sub(r"\{#.*?#\}", "", path.read_text(), flags=re.DOTALL)
        )
    }
    known = set()
    for path in (ROOT / "kernel/locale/zh").glob("*.po"):
        with path.open("rb") as file:
            known |= {message.id for message in read_po(file, locale="zh") if message.string}
    assert wanted - known == set()
