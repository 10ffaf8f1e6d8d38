"""Paths into payloads: JMESPath on a budget, and texts with names and paths in them.

A path is somebody's data that runs on the data path, so it may take neither time nor room it was not given. Each
step of its evaluation and each item it produces is paid from a ``Budget``; when that is spent the evaluation ends.
The functions of the language are those whose work is bounded by what was paid for; comparing is for single values.
"""

import re
import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from jmespath.parser import Parser
from jmespath.visitor import TreeInterpreter

from ingest.decoded import Reason
from ingest.strict import SAID, Refused

LONGEST: Final = 500
"""Characters a path may have."""
STEPS: Final = 5_000
STEPS_A_BYTE: Final = 2
MOST_STEPS: Final = 50_000
"""What one message may spend: more where it is longer, so that work is in proportion to what was sent."""
FUNCTIONS: Final = frozenset(
    {
        *("abs", "avg", "ceil", "contains", "ends_with", "floor", "keys", "length", "max", "max_by", "min", "min_by"),
        *("not_null", "sort", "sort_by", "starts_with", "sum", "to_number", "type", "values"),
    }
)
_DEEPEST: Final = 40
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}", re.ASCII)
_PART: Final = re.compile(r"\{([^{}]*)\}")


class BadPath(ValueError):
    """A path or template cannot be read; the message says where."""


class Budget:
    """How much one message may still spend. Paying is what counts steps, items and bytes alike."""

    __slots__ = ("interpreter", "left")

    def __init__(self, length: int = 0) -> None:
        """``length``: how many bytes the message has."""
        self.left = min(MOST_STEPS, STEPS + STEPS_A_BYTE * length)
        self.interpreter = _Interpreter(self)

    def pay(self, steps: int) -> None:
        """Take steps off.

        Raises:
            Refused: there are not as many left.
        """
        self.left -= steps
        if self.left < 0:
            raise Refused(Reason.BUDGET_SPENT, "evaluating it took more steps than one message may take")


class Path:
    """A JMESPath expression that was checked."""

    __slots__ = ("_keys", "_tree", "text")

    def __init__(self, text: str, tree: Mapping[str, Any]) -> None:
        self.text = text
        self._tree = tree
        self._keys = _keys(tree)

    def find(self, document: Any, budget: Budget) -> Any:  # noqa: ANN401 - JSON is any of its types
        """Return what the path leads to, None where there is nothing.

        Raises:
            Refused: the budget is spent, or a function got what it cannot work on.
        """
        if self._keys is not None:  # nothing but names, as most are
            budget.pay(1 + len(self._keys))
            for key in self._keys:
                document = document.get(key) if isinstance(document, dict) else None
            return document
        try:
            return budget.interpreter.visit(self._tree, document)
        except (JMESPathError, TypeError, ValueError, OverflowError, RecursionError) as error:
            detail = f"“{self.text}”: {str(error)[:SAID]}"
            raise Refused(Reason.BAD_VALUE, detail) from None


class Template:
    """A text with names and paths in braces: ``relay_{channel}``, ``{=deviceInfo.devEui}``."""

    __slots__ = ("_parts", "text")

    def __init__(self, text: str, parts: tuple[str | Path | tuple[str], ...]) -> None:
        self.text = text
        self._parts = parts

    @property
    def names(self) -> set[str]:
        """The names it asks for."""
        return {part[0] for part in self._parts if isinstance(part, tuple)}

    def filled(self, names: Mapping[str, str], document: Any, budget: Budget) -> str | None:  # noqa: ANN401 - JSON
        """Return the text, or None where a path leads to nothing.

        Raises:
            Refused: the budget is spent, or a path leads to an object or a list.
        """
        words = []
        for part in self._parts:
            if isinstance(part, str):
                words.append(part)
            elif isinstance(part, tuple):
                words.append(names.get(part[0], ""))
            else:
                found = part.find(document, budget)
                if found is None:
                    return None
                if isinstance(found, dict | list):
                    raise Refused(Reason.BAD_VALUE, f"“{part.text}” leads to {said(found)}, not to a text")
                words.append(found if isinstance(found, str) else _plain(found))
        return "".join(words)


@lru_cache(maxsize=4096)
def path(text: str) -> Path:
    """Return a path, read and checked.

    Raises:
        BadPath: it is no JMESPath, is too long or deep, or uses a function that is not allowed.
    """
    if len(text) > LONGEST:
        raise BadPath(f"longer than {LONGEST} characters")
    try:
        with _LOCK:  # the parser keeps a cache that is not made for several threads
            tree: Any = Parser().parse(text).parsed
    except (JMESPathError, RecursionError, ValueError, TypeError) as error:
        raise BadPath(_first_line(error)) from None
    for node, depth in _nodes(tree):
        if depth > _DEEPEST:
            raise BadPath("nested too deeply")
        if node["type"] == "function_expression" and node["value"] not in FUNCTIONS:
            raise BadPath(f"there is no function {node['value']}()")
    return Path(text, tree)


@lru_cache(maxsize=4096)
def template(text: str) -> Template:
    """Return a template, read and checked.

    Raises:
        BadPath: what stands in braces is neither a name nor ``=`` and a path.
    """
    if len(text) > LONGEST:
        raise BadPath(f"longer than {LONGEST} characters")
    parts: list[str | Path | tuple[str]] = []
    end = 0
    for found in _PART.finditer(text):
        parts.append(text[end : found.start()])
        inner, end = found[1].strip(), found.end()
        if inner.startswith("="):
            parts.append(path(inner[1:].strip()))
        elif _NAME.fullmatch(inner):
            parts.append((inner,))
        else:
            raise BadPath(f"“{{{inner[:40]}}}” is neither a name nor = and a path")
    parts.append(text[end:])
    literals = "".join(part for part in parts if isinstance(part, str))
    if "{" in literals or "}" in literals:
        raise BadPath("a brace is not closed")
    return Template(text, tuple(part for part in parts if part))


def said(value: object) -> str:
    """Return a value as an explanation names it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value is None else f"“{value}”"[:SAID] if isinstance(value, str) else str(value)[:SAID]


class _Interpreter(TreeInterpreter):
    """JMESPath's own interpreter that pays for each step and for each item of what it makes."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget
        self._functions = _FUNCTIONS

    def visit(self, node: Any, *args: Any, **rest: Any) -> Any:  # noqa: ANN401 - as the library has it
        self._budget.pay(1)
        result = super().visit(node, *args, **rest)
        if isinstance(result, list):
            self._budget.pay(len(result))
        return result

    def visit_flatten(self, node: Any, value: Any) -> Any:  # noqa: ANN401 - as the library has it
        base = self.visit(node["children"][0], value)
        if not isinstance(base, list):
            return None
        merged: list[Any] = []
        for element in base:
            # Paid before it is made: a list of many references to one long list is small, its flattening is not.
            self._budget.pay(len(element) if isinstance(element, list) else 1)
            merged.extend(element if isinstance(element, list) else (element,))
        return merged

    def visit_comparator(self, node: Any, value: Any) -> Any:  # noqa: ANN401 - as the library has it
        left, right = (self.visit(child, value) for child in node["children"])
        # Two trees of shared branches take exponential time to compare.
        if isinstance(left, dict | list) or isinstance(right, dict | list):
            return node["value"] == "ne"
        if isinstance(left, str) and isinstance(right, str):
            self._budget.pay(len(left) // 64)
        if node["value"] in {"eq", "ne"}:
            return self.COMPARATOR_FUNC[node["value"]](left, right)
        if isinstance(left, str) != isinstance(right, str) or not (_ordered(left) and _ordered(right)):
            return None
        return self.COMPARATOR_FUNC[node["value"]](left, right)

    def visit_function_expression(self, node: Any, value: Any) -> Any:  # noqa: ANN401 - as the library has it
        arguments = [self.visit(child, value) for child in node["children"]]
        for argument in arguments:
            if isinstance(argument, list | dict | str):
                self._budget.pay(len(argument) // 8)
        if node["value"] == "contains" and isinstance(arguments[-1], dict | list):
            return False
        return self._functions.call_function(node["value"], arguments)


def _keys(tree: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of a path that has nothing else, none for the document itself."""
    if tree["type"] == "current":
        return ()
    parts = tree["children"] if tree["type"] == "subexpression" else [tree]
    return tuple(part["value"] for part in parts) if all(part["type"] == "field" for part in parts) else None


def _ordered(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _nodes(tree: Any, depth: int = 0) -> Iterator[tuple[Mapping[str, Any], int]]:  # noqa: ANN401 - the parser's tree
    if isinstance(tree, Mapping):
        yield tree, depth
        if depth <= _DEEPEST:
            for child in tree.get("children", ()):
                yield from _nodes(child, depth + 1)


def _plain(number: float) -> str:
    """Return a number as a name has it: 3.0 is 3."""
    if isinstance(number, bool):
        return str(number).lower()
    if isinstance(number, float) and number.is_integer() and abs(number) < 2**53:
        return str(int(number))
    return str(number)[:SAID]


def _first_line(error: Exception) -> str:
    line = next(filter(None, (part.strip() for part in str(error).splitlines())), "it cannot be read")
    return line.removeprefix("Invalid jmespath expression: ").rstrip(": ")[:SAID]


_LOCK: Final = threading.Lock()
_FUNCTIONS: Final = Functions()
