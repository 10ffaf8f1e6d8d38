"""What stands in the file of a rule: its shape, checked before anything is looked up.

Everything is named by what is the same at another installation: types and metrics by key, assets by code, checklists
by key, teams and sites by name, org units by their names from below the company on.
"""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kernel import i18n
from kernel.db import Json
from maintenance.rulebook.text import Document, Fault
from rules.faults import found_by

SCHEMA: Final = 1
MOST_RULES: Final = 2000
_FILE: Final = i18n.noop("This is not a file of rules: it begins with “schema: 1” and “rules:”.")
_MANY: Final = i18n.noop("A file holds at most {most} rules.")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class WrittenLine(_Part):
    """A line of the rule's own order policy."""

    severity: str
    does: str
    delay_s: int = 0
    priority: int | None = None
    team: str | None = None
    checklist: str | None = None
    site: str | None = None
    criticality: int | None = None


class WrittenState(_Part):
    """The plant state in which alarms mean nothing."""

    attribute: str = Field(min_length=1, max_length=80)
    in_: tuple[str | float | bool, ...] = Field(alias="in", min_length=1, max_length=20, strict=False)


class WrittenOverride(_Part):
    """What one asset does differently."""

    asset: str
    limits: dict[str, Any] = Field(default_factory=dict)
    deadbands: dict[str, Any] = Field(default_factory=dict)
    durations_s: dict[str, Any] = Field(default_factory=dict)

    def patch(self) -> Json:
        """Return it as overrides are kept."""
        named = {"limits": self.limits, "deadbands": self.deadbands, "durations_s": self.durations_s}
        return {name: value for name, value in named.items() if value}


class WrittenRule(_Part):
    """A rule. What is left out stays as it is, and is as usual where the rule is new."""

    key: str = Field(min_length=1, max_length=60)
    name: str = Field(min_length=1, max_length=200)
    name_zh: str | None = Field(None, max_length=200)
    asset_type: str | None = None
    asset: str | None = None
    unit: str | None = None
    enabled: bool = True
    latches: bool = False
    suppresses_below: bool = False
    suppressed_while: WrittenState | None = None
    orders: tuple[WrittenLine, ...] = Field((), strict=False)
    definition: dict[str, Any]
    overrides: tuple[WrittenOverride, ...] = Field((), strict=False)

    def said(self) -> Json:
        """Return what it says, as the file holds it."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)


class _File(_Part):
    schema_: Literal[1] = Field(alias="schema")
    rules: list[Any]


def rules_of(document: Document) -> tuple[list[tuple[str, WrittenRule]], list[Fault]]:
    """Return the rules of a document, each with its path, and what is wrong with the others."""
    try:
        file = _File.model_validate(document.value)
    except ValidationError:
        return [], [Fault(_FILE, line=1)]
    if len(file.rules) > MOST_RULES:
        return [], [Fault(_MANY, {"most": MOST_RULES}, line=document.line("rules"))]
    found, faults = [], []
    for place, value in enumerate(file.rules):
        path = f"rules.{place}"
        try:
            found.append((path, WrittenRule.model_validate(value)))
        except ValidationError as error:
            key = str(value.get("key", "")) if isinstance(value, dict) else ""
            faults += [
                Fault(one.template, one.values, document.line(f"{path}.{one.field}"), key, one.field)
                for one in found_by(error)
            ]
    return found, faults
