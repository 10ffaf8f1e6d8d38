"""What is shipped is everything, and nothing of it collides with what others ship."""

import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py") if not path.parent.name.startswith(".")}


def test_no_installed_distribution_ships_one_of_our_names() -> None:
    """PyPI has a ``rules`` and a ``qr``: whichever came first on the path would be imported."""
    shipped = metadata.packages_distributions()
    strangers = {name: [one for one in shipped.get(name, []) if one != "fixwright"] for name in PACKAGES}
    assert {name: owners for name, owners in strangers.items() if owners} == {}


def test_every_package_is_in_the_wheel_and_read_by_the_type_checker_and_the_linter_of_layers() -> None:
    tool = PROJECT["tool"]
    assert set(tool["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES
    assert set(tool["mypy"]["packages"]) >= PACKAGES
    # The migrations stand beside the layers: they read every table and nobody but the edge runs them.
    assert set(tool["importlinter"]["root_packages"]) == PACKAGES - {"migrations"}


def test_every_folder_of_a_package_is_a_package() -> None:
    missing = [
        str(path.parent.relative_to(ROOT))
        for name in PACKAGES
        for path in (ROOT / name).rglob("*.py")
        if not (path.parent / "__init__.py").exists() and path.parent.name != "versions"
    ]
    assert missing == []


def test_the_command_line_leads_to_something() -> None:
    module, _, name = PROJECT["project"]["scripts"]["fixwright"].partition(":")
    text = (ROOT / f"{module.replace('.', '/')}.py").read_text()
    assert f"\ndef {name}(" in text or f"\n{name} = " in text


def test_every_dependency_is_locked_by_version_and_hash() -> None:
    for kind in ("run", "dev"):
        lines = (ROOT / "requirements" / f"{kind}.lock").read_text().splitlines()
        pinned = {
            line.partition("==")[0].partition("[")[0].lower() for line in lines if "==" in line and line[0].isalpha()
        }
        wanted = [name.partition(">")[0].partition("[")[0].lower() for name in PROJECT["project"]["dependencies"]]
        assert set(wanted) <= pinned
        assert sum("--hash=sha256:" in line for line in lines) >= len(pinned)
