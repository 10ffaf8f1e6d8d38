"""Imports run one way, only some speak HTTP or MQTT, and verbs are called with the name of their module."""

import ast
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if not path.parent.name.startswith("."))
BANNED = {"utils", "helpers", "common", "base", "manager", "service", "handler", "processor", "data", "misc", "impl"}
"""Words that say nothing about what a module or class is for."""


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def test_imports_keep_the_contracts_of_the_layers() -> None:
    ran = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3000:]


def test_only_the_web_edge_renders_templates() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in modules()
        if "jinja2" in imported(path) and not path.is_relative_to(ROOT / "api" / "web")
    ]
    assert found == []


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_a_verb_is_called_with_the_name_of_its_module() -> None:
    """``stock.reserve(session, …)`` reads; ``reserve(session, …)`` makes one look for where it comes from."""
    found = [
        f"{path.relative_to(ROOT)}: from {node.module} import {alias.name}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in PACKAGES
        for alias in node.names
        if alias.name in verbs(ROOT / f"{node.module.replace('.', '/')}.py")
    ]
    assert found == []


@cache
def verbs(path: Path) -> set[str]:
    """Return the public functions of a module that take a session first."""
    if not path.exists():
        return set()
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.args.args and node.args.args[0].arg == "session"
    }


def test_no_module_or_class_has_a_name_that_says_nothing() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules()
        for name in [
            path.stem,
            *(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)),
        ]
        if name.lower() in BANNED or any(name.endswith(word.title()) for word in BANNED)
    ]
    assert found == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_decides_and_none_is_left_half_done(path: Path) -> None:
    text = path.read_text()
    assert "versions" in path.parts or ast.get_docstring(ast.parse(text))
    for word in ("TODO", "FIXME", "XXX"):
        assert word not in text
