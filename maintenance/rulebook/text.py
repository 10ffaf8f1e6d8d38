"""Rules as text: YAML that says what it says, read with the line of everything in it.

For files that people keep under version control, compare and carry to another installation. YAML and not JSON lines,
because a rule is a tree of thirty lines: a changed limit is then one changed line. Of YAML only what JSON can say is
read (YAML 1.2, core schema): ``off`` and ``2026-10-01`` are texts; tags, anchors and keys given twice are refused.
JSON is such YAML too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from kernel import errors, i18n
from kernel.db import Json

LARGEST: Final = 2_000_000
"""Characters of a file."""
DEEPEST: Final = 80
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_WORDS: Final[Mapping[str, object]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TWICE: Final = i18n.noop("{key} is given twice.")
_NOT_READ: Final = i18n.noop("Anchors, aliases and tags are not read here; write it out.")
_DEEP: Final = i18n.noop("This is nested too deep.")
_KEYS: Final = i18n.noop("A name is needed before the colon.")
_UNREADABLE: Final = i18n.noop("This cannot be read: {problem}.")
_ONE: Final = i18n.noop("One document is needed, that begins with “rules:”.")
_CONTROL: Final = i18n.noop("A text holds a character that cannot be kept.")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a file: on which line, in which rule, in which of its fields."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    line: int | None = None
    rule: str = ""
    field: str = ""

    @property
    def sentence(self) -> str:
        """The fault in the reader's language."""
        return i18n.gettext(self.template, **self.values)


class TextRefused(errors.Invalid):
    """The text breaks its form; ``fault`` says where."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.template, field="text", **fault.values)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Document:
    """What a text says, and on which line each part of it begins, by its path."""

    value: Any
    lines: Mapping[str, int]

    def line(self, path: str) -> int | None:
        """Return the line of a path, or of the innermost part around it that is there."""
        while path and path not in self.lines:
            path = path.rpartition(".")[0]
        return self.lines.get(path)


def read(text: str) -> Document:
    """Read a document; it holds what JSON can hold.

    Raises:
        TextRefused: it is no YAML, too long, nested too deep, or says more than JSON can.
    """
    if len(text) > LARGEST:
        raise TextRefused(Fault(_UNREADABLE, {"problem": f"> {LARGEST:,}"}))
    building = _Building()
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            building.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        values = {"problem": error.problem or error.context or "?"}
        raise TextRefused(Fault(_UNREADABLE, values, mark.line + 1 if mark else None)) from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise TextRefused(Fault(_UNREADABLE, {"problem": str(error).splitlines()[0]})) from None
    if building.documents != 1:
        raise TextRefused(Fault(_ONE, line=1))
    return Document(building.value, building.lines)


class _Building:
    """Puts a document together from what the parser says, without recursion: no nesting can exhaust the stack."""

    def __init__(self) -> None:
        self.value: Any = None
        self.lines: dict[str, int] = {}
        self.documents = 0
        self._open: list[tuple[dict[str, Any] | list[Any], str]] = []
        self._key: list[str | None] = []

    def take(self, event: Any) -> None:  # noqa: ANN401 - the parser's events have no common type
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise TextRefused(Fault(_ONE, line=line))
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise TextRefused(Fault(_NOT_READ, line=line))
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            made: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
            path = self._put(made, line)
            if len(self._open) >= DEEPEST:
                raise TextRefused(Fault(_DEEP, line=line))
            self._open.append((made, path))
            self._key.append(None)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._open.pop()
            self._key.pop()
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        if "\0" in event.value:
            raise TextRefused(Fault(_CONTROL, line=line))
        if self._open and isinstance(self._open[-1][0], dict) and self._key[-1] is None:
            if event.value in self._open[-1][0]:
                raise TextRefused(Fault(_TWICE, {"key": event.value}, line))
            self._key[-1] = event.value
            return
        self._put(_plain(event.value) if event.implicit[0] else event.value, line)

    def _put(self, value: Any, line: int) -> str:  # noqa: ANN401 - whatever JSON holds
        if not self._open:
            self.value = value
            return ""
        around, path = self._open[-1]
        if isinstance(around, list):
            name = str(len(around))
            around.append(value)
        else:
            key, self._key[-1] = self._key[-1], None
            if key is None:
                raise TextRefused(Fault(_KEYS, line=line))
            around[key], name = value, key
        path = f"{path}.{name}" if path else name
        self.lines[path] = line
        return path


def _plain(written: str) -> Any:  # noqa: ANN401 - a number, a truth, nothing or a text
    if written in _WORDS:
        return _WORDS[written]
    if _INTEGER.fullmatch(written):
        return int(written)
    return float(written) if _NUMBER.fullmatch(written) else written


class _Writer(yaml.SafeDumper):
    """Quotes every text that would be read as something else, here or by readers of YAML 1.1."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - as it is declared
        return True


_Writer.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^({_NUMBER.pattern})$"), list("-+.0123456789"))


def write(head: Json, rules: Sequence[Json]) -> str:
    """Write rules, one after another in their order, with a blank line between them."""

    def said(value: object) -> str:
        return yaml.dump(value, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=100)

    begin = said(head)
    return begin + ("rules:\n" + "\n".join(said([rule]) for rule in rules) if rules else "rules: []\n")
