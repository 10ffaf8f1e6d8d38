"""Writes the reference pages from the code: settings, commands, MQTT topics, events, rights.

``python -m docs.reference`` writes them; ``--check`` says which are out of date. A test runs the check, so the
reference cannot drift from what it describes.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import typer

from api import cli, subscriptions
from ingest import topics
from kernel import events, i18n
from kernel.settings import Settings
from people.rights import RIGHTS, ROLES

FOLDER = Path(__file__).with_name("reference")
EVENT_MODULES = (
    "assets.events",
    "rules.events",
    "ingest.events",
    "maintenance.orders.events",
    "maintenance.parts.events",
)


def settings() -> str:
    """Return the page of all settings."""
    lines = [
        "# Settings",
        "",
        "Environment variables, or keys of the TOML file that `FIXWRIGHT_SETTINGS` names (no prefix, lower case).",
        "",
        "| variable | default | what it decides |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        lines.append(f"| `FIXWRIGHT_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def commands() -> str:
    """Return the page of all commands."""
    lines = ["# Commands", "", "Each has `--help`.", ""]
    for path, command in _commands(typer.main.get_command(cli.app), "fixwright"):
        lines += [f"## `{path}`", "", inspect.cleandoc(command.help or ""), ""]
        for parameter in command.params:
            if parameter.name != "help":
                names = ", ".join(f"`{name}`" for name in parameter.opts)
                lines.append(f"- {names}: {getattr(parameter, 'help', '') or ''}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _commands(command: object, path: str) -> Iterator[tuple[str, "typer.core.TyperCommand"]]:
    if isinstance(command, typer.core.TyperGroup):
        for name, below in sorted(command.commands.items()):
            yield from _commands(below, f"{path} {name}")
    elif isinstance(command, typer.core.TyperCommand):
        yield path, command


def mqtt() -> str:
    """Return the page of MQTT topics and who may use them."""
    lines = [
        "# MQTT topics",
        "",
        "The user name of a device is its key; the password is shown once. A device may use only its own subtree.",
        "",
        "| topic | who |",
        "|---|---|",
        *(f"| `{topics.ROOT}/{{device}}/{name}` | device publishes |" for name in topics.DEVICE_PUBLISHES),
        *(f"| `{topics.ROOT}/{{device}}/{name}` | device subscribes |" for name in topics.DEVICE_SUBSCRIBES),
        "",
        "Payloads: see [the contract](../mqtt.md).",
    ]
    return "\n".join(lines)


def happenings() -> str:
    """Return the page of events and who hears of them."""
    lines = ["# Events", "", "Written with the change that made them, delivered at least once to each subscriber.", ""]
    for module in map(importlib.import_module, EVENT_MODULES):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and is_dataclass(kind):
                heard = ", ".join(f"`{events.name_of(one)}`" for one in subscriptions.TABLE.get(kind, ()))
                shape = ", ".join(f"`{field.name}`" for field in fields(kind))
                lines += [f"## {name}", "", inspect.getdoc(kind) or "", "", f"Fields: {shape}.", ""]
                lines += [f"Heard by {heard}.", ""] if heard else []
    return "\n".join(lines).rstrip()


def rights() -> str:
    """Return the page of rights and the roles that hold them."""
    roles = list(ROLES)
    words = i18n.catalogue("zh")
    lines = [
        "# Rights and roles",
        "",
        "A role held at an org unit gives its rights over that unit and everything below.",
        "",
        "| right | what it allows | " + " | ".join(roles) + " |",
        "|---|---|" + "---|" * len(roles),
    ]
    for right, meaning in RIGHTS.items():
        marks = " | ".join("●" if right in ROLES[role][1] else "" for role in roles)
        lines.append(f"| `{right}` | {meaning} {words.get(meaning, '')} | {marks} |")
    return "\n".join(lines)


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "commands.md": commands,
    "mqtt.md": mqtt,
    "events.md": happenings,
    "rights.md": rights,
}


def outdated() -> list[str]:
    """Return the pages that do not say what the code says."""
    return [
        name
        for name, render in PAGES.items()
        if not (FOLDER / name).exists() or (FOLDER / name).read_text(encoding="utf-8") != render() + "\n"
    ]


def main() -> None:
    """Write the pages, or check them."""
    if "--check" in sys.argv:
        raise SystemExit("\n".join(f"out of date: {name} (make docs)" for name in outdated()) or 0)
    FOLDER.mkdir(exist_ok=True)
    for name, render in PAGES.items():
        (FOLDER / name).write_text(render() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
