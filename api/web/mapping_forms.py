"""A mapping as a form has it: rows of fields there, a definition here, and back.

What the form cannot say is edited as text; ``fields_of`` answers None for such a definition, so that nothing of it is
lost by opening it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ingest import mapping as language
from ingest.mapping import Definition
from kernel.db import Json
from kernel.errors import Invalid
from rules.faults import DefinitionRefused

Fields = dict[str, str]

METRIC: Final = (
    "name", "path", "spread", "kind", "unit", "to", "scale", "offset", "values", "skip", "required", "unit_path",
)  # fmt: skip
FIELD: Final = (
    "name", "at", "type", "order", "bit", "bits", "size", "scale", "offset", "unit", "to", "kind", "values", "absent",
    "optional",
)  # fmt: skip
ALARM: Final = ("path", "code", "severity", "raised", "cleared", "message")
ROWS: Final = {"metric": METRIC, "field": FIELD, "alarm": ALARM}
BLANK: Final = {"metric": 2, "field": 2, "alarm": 1}
_NUMBERS: Final = {"scale", "offset", "at", "bit", "bits", "size"}
_USUAL: Final = {"scale": 1.0, "offset": 0.0, "bits": 1, "size": 0}
_FLAGS: Final = {"spread", "required", "optional"}
_EACH: Final = re.compile(r"\s+as\s+([A-Za-z_]\w*)\s*$")


def rows_of(given: Mapping[str, str], kind: str) -> list[Fields]:
    """Return the rows of a kind that say anything, in order."""
    numbers = sorted({int(name.split("-")[1]) for name in given if re.fullmatch(rf"{kind}-\d{{1,4}}-\w+", name)})
    rows = [{name: given.get(f"{kind}-{number}-{name}", "").strip() for name in ROWS[kind]} for number in numbers]
    return [row for row in rows if row.get("path") or row["name" if "name" in row else "code"]]


def definition_of(given: Mapping[str, str]) -> Json:
    """Return the definition that a form says, unchecked.

    Raises:
        Invalid: the text of it is no JSON object, or a number is none.
    """
    if given.get("text", "").strip():
        return _of_text(given["text"])
    definition: Json = {"format": given.get("format") or "json"}
    for name in ("topic", "device", "when", "otherwise"):
        if text := given.get(name, "").strip():
            definition[name] = text
    definition["tidy"] = given.get("tidy") == "1"
    definition["each"] = [*_each(given.get("each", ""))]
    if path := given.get("time_path", "").strip():
        time = {"path": path, "form": given.get("time_form", ""), "base": given.get("time_base", "").strip()}
        definition["time"] = time | {"zone": given.get("time_zone", "").strip() or "UTC"}
    if fields := rows_of(given, "field"):
        frame = {"path": given.get("frame_path", "").strip(), "encoding": given.get("frame_encoding") or "bytes"}
        length = {"length": _number(given["frame_length"], "frame.length")} if given.get("frame_length") else {}
        definition["frame"] = {**frame, **length, "fields": [
            _row(row, f"frame.fields.{place}") for place, row in enumerate(fields)]}  # fmt: skip
    definition["metrics"] = [_row(row, f"metrics.{place}") for place, row in enumerate(rows_of(given, "metric"))]
    definition["alarms"] = [_row(row, f"alarms.{place}") for place, row in enumerate(rows_of(given, "alarm"))]
    if path := given.get("status_path", "").strip():
        definition["status"] = {"path": path}
        for name in ("online", "offline"):
            if words := _words(given.get(f"status_{name}", "")):
                definition["status"][name] = words
    return definition


def fields_of(definition: Mapping[str, Any]) -> Fields | None:
    """Return what a form shows of a definition, None where it says more than the form can."""
    try:
        read = language.parse(definition)
        fields = _fields(read)
        again = language.parse(definition_of(fields))
    except (DefinitionRefused, Invalid):
        return None
    return fields if _loose(again) == _loose(read) else None


def place(field: str) -> str:
    """Return the place of a fault as people count: ``metrics.0.path`` is ``metrics 1 · path``."""
    return re.sub(r"\.(\d+)(\.|$)", lambda found: f" {int(found[1]) + 1}" + (" · " if found[2] else ""), field)


def as_text(definition: Mapping[str, Any]) -> str:
    """Return a definition for reading and editing."""
    return json.dumps(definition, indent=2, ensure_ascii=False)


def _fields(read: Definition) -> Fields:
    fields = {
        "format": read.format,
        "topic": read.topic,
        "device": read.device,
        "when": read.when,
        "otherwise": read.otherwise,
        "tidy": "1" if read.tidy else "",
        "each": "\n".join(f"{each.path} as {each.name}" for each in read.each),
    }
    if read.time is not None:
        fields |= {f"time_{name}": str(value) for name, value in read.time.model_dump().items()}
    if read.frame is not None:
        fields |= {"frame_path": read.frame.path, "frame_encoding": read.frame.encoding}
        fields["frame_length"] = str(read.frame.length or "")
    if read.status is not None:
        fields["status_path"] = read.status.path
        for name, words in (("online", read.status.online), ("offline", read.status.offline)):
            fields[f"status_{name}"] = ", ".join(map(_said, words))
    parts = {"metric": read.metrics, "field": read.frame.fields if read.frame else (), "alarm": read.alarms}
    for kind, rows in parts.items():
        for place, row in enumerate(rows):
            values = row.model_dump()
            fields |= {
                f"{kind}-{place}-{name}": "" if values[name] == _USUAL.get(name) else _shown(values[name])
                for name in ROWS[kind]
            }
    return fields


def _of_text(text: str) -> Json:
    try:
        read = json.loads(text)
    except ValueError as error:
        raise Invalid("This is no JSON: {reason}", field="text", reason=str(error)) from error
    if not isinstance(read, dict):
        raise Invalid("A definition is a JSON object.", field="text")
    return read


def _each(text: str) -> Iterable[Json]:
    for line in filter(None, map(str.strip, text.splitlines())):
        found = _EACH.search(line)
        yield {"path": line[: found.start()] if found else line, "name": found[1] if found else "key"}


def _row(row: Fields, place: str) -> Json:
    said: Json = {}
    for name, text in row.items():
        if not text:
            continue
        if name in _FLAGS:
            said[name] = text == "1"
        elif name in _NUMBERS:
            said[name] = _number(text, f"{place}.{name}")
        elif name == "values":
            said[name] = _pairs(text, f"{place}.{name}")
        elif name == "absent":
            said[name] = [_number(one, f"{place}.{name}") for one in _words(text)]
        elif name in {"skip", "raised", "cleared"}:
            said[name] = _words(text)
        else:
            said[name] = text
    return said


def _number(text: str, place: str) -> float:
    plain = text.strip().replace("−", "-")
    try:
        return int(plain, 0) if re.fullmatch(r"[+-]?(0[xX][0-9a-fA-F]+|0|[1-9]\d*)", plain) else float(plain)
    except ValueError as error:
        raise Invalid("This must be a number.", field=place) from error


def _words(text: str) -> list[str]:
    return [one.strip() for one in text.replace("，", ",").split(",") if one.strip()]


def _pairs(text: str, place: str) -> Json:
    pairs: Json = {}
    for one in _words(text):
        name, mark, value = one.partition("=")
        if not mark:
            raise Invalid("Write pairs, e.g. ON=true, OFF=false.", field=place)
        pairs[name.strip()] = _scalar(value.strip())
    return pairs


def _scalar(text: str) -> Any:  # noqa: ANN401 - what the text says
    if text in {"true", "false"}:
        return text == "true"
    try:
        return _number(text, "")
    except Invalid:
        return text


def _said(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: Any) -> str:  # noqa: ANN401 - a field of the language
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, dict):
        return ", ".join(f"{name}={_said(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_said(one) if not isinstance(one, float) or not one.is_integer() else str(int(one))
                         for one in value)  # fmt: skip
    return str(value)


def _loose(read: Definition) -> Any:  # noqa: ANN401 - JSON
    """Return a definition with the words of alarms and states as texts, which is how they are compared anyway."""
    dumped = read.model_dump(mode="json")
    for part in (*dumped["alarms"], *filter(None, [dumped["status"]])):
        for name in ("raised", "cleared", "online", "offline"):
            if name in part:
                part[name] = sorted({_said(one) for one in part[name]})
    return dumped
