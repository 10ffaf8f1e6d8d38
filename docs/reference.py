"""Writes the reference pages from the code: settings, commands, MQTT topics, events, rights.

``python -m docs.reference`` writes them; ``--check`` says which are out of date. A test runs the check, so the
reference cannot drift from what it describes.
"""

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import typer

from api import cli, subscriptions
from ingest import mapping as language
from ingest import ready, topics, trial
from ingest.reading import Said
from kernel import events, i18n
from kernel.settings import Settings
from people.rights import RIGHTS, ROLES
from telemetry import units

FOLDER = Path(__file__).with_name("reference")
NOW_MS = 1_795_167_010_000
"""When the samples of mappings arrive, in the reference."""
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


def mappings() -> str:
    """Return the page of the mappings that come with the product, each with what its sample gives."""
    lines = [
        "# Ready mappings",
        "",
        "Each with a message as its system sends it and what it gives. How to write one: [mappings](../mappings.md).",
    ]
    for one in ready.READY:
        definition = language.parse(one.definition)
        told = trial.run(definition, trial.Sample(one.topic, one.payload), now_ms=NOW_MS).said
        gives = [f"{said.device}: {_given(said)}" for said in told]
        lines += ["", f"## {one.name}", "", one.what, "", f"Topic `{one.definition['topic']}`, e.g. `{one.topic}`:"]
        lines += ["", "```json" if one.payload[:1] in "{[" else "```", one.payload, "```", ""]
        lines += [*(f"- {given}" for given in dict.fromkeys(gives)), "", "<details><summary>Definition</summary>", ""]
        lines += ["```json", json.dumps(one.definition, indent=2, ensure_ascii=False), "```", "", "</details>"]
    kinds: dict[str, list[str]] = {}
    for name, unit in units.UNITS.items():
        kinds.setdefault(unit.kind, []).append(name)
    lines += ["", "# Units", "", "Those of one kind go into each other.", ""]
    lines += [f"- {kind}: {', '.join(f'`{name}`' for name in names)}" for kind, names in kinds.items()]
    return "\n".join(lines)


def _given(said: Said) -> str:
    parts = []
    for element in said.elements:
        values = ", ".join(f"`{name}` {json.dumps(value)}" for name, value in element.values.items())
        parts.append(values + ("" if element.ts_ms is None else f" at {element.ts_ms}"))
    parts += [f"alarm `{fault.code}` {'raised' if fault.is_raised else 'cleared'}" for fault in said.faults]
    if said.is_online is not None:
        parts.append("online" if said.is_online else "offline")
    return "; ".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "commands.md": commands,
    "mqtt.md": mqtt,
    "events.md": happenings,
    "mappings.md": mappings,
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
