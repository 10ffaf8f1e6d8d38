"""Expressions over several metrics and assets: ``inlet.p - outlet.p > gap && pump.running`` (RUL-8).

Pure. The language is the part of CEL that has neither loops nor calls beyond ``abs``, ``min`` and ``max``; it is read
here because a rule needs what CEL does not say: a value that is not there, or a division by zero, is unknown, and
unknown goes through ``&&``, ``||`` and ``!`` as through the groups of a rule (A4). An expression ends by itself, after
as many steps as it has signs.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from kernel import i18n, log
from rules.said import Value, number_of

Known = float | str | bool | None
"""What a part of an expression comes to; None: unknown."""
Part = Callable[[Mapping[str, Known]], Known]

LONGEST: Final = 1000
_DEEPEST: Final = 32
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<text>\"[^\"\\]*\"|'[^'\\]*')"
    r"|(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*|`[^`]+`(?:\.`[^`]+`)?)"
    r"|(?P<sign>&&|\|\||[<>=!]=|[-+*/%()<>!,]))"
)
_WORDS: Final = {"and": "&&", "or": "||", "not": "!"}
_COMPARED: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SUMS: Final[dict[str, Callable[[float, float], float]]] = {"+": operator.add, "-": operator.sub}
_PRODUCTS: Final[dict[str, Callable[[float, float], float]]] = {
    "*": operator.mul,
    "/": operator.truediv,
    "%": math.fmod,
}
_FUNCTIONS: Final[dict[str, Callable[[list[float]], float]]] = {"abs": lambda one: abs(one[0]), "min": min, "max": max}

_UNEXPECTED: Final = i18n.noop("At character {at}: {found} does not belong here.")
_ENDS: Final = i18n.noop("At character {at}: something is missing.")
_TOO_DEEP: Final = i18n.noop("At character {at}: brackets are nested too deep.")


class FormulaRefused(ValueError):
    """An expression cannot be read; ``template`` says why, with the character it is about."""

    def __init__(self, template: str, at: int, found: str = "") -> None:
        super().__init__(template)
        self.template, self.at, self.found = template, at + 1, found


@dataclass(frozen=True, slots=True)
class Formula:
    """An expression ready to be asked. ``names``: what it looks at, in order of first mention."""

    names: tuple[str, ...]
    part: Part

    def ask(self, values: Mapping[str, Value | None], constants: Mapping[str, float]) -> bool | None:
        """Return whether it is true of what its names hold."""
        return truth(self.part({**values, **constants}))


@lru_cache(maxsize=4096)
def read(text: str) -> Formula:
    """Read an expression.

    Raises:
        FormulaRefused: it is none.
    """
    reader = _Reader(text)
    part = reader.either()
    reader.end()
    return Formula(tuple(reader.names), part)


def truth(value: Known) -> bool | None:
    """Return what a value means where a condition is wanted: a positive number is true (A3), a text says nothing."""
    if isinstance(value, str):
        value = number_of(value)
    return None if value is None else value > 0


class _Reader:
    """Reads an expression from left to right, what binds least first."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = self._begin = 0
        self._depth = 0
        self.names: dict[str, None] = {}
        self._kind = self._token = ""
        self._advance()

    def either(self) -> Part:
        parts = [self._both()]
        while self._takes("||"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else _either(parts)

    def end(self) -> None:
        if self._kind:
            raise self._unexpected()

    def _both(self) -> Part:
        parts = [self._compared()]
        while self._takes("&&"):
            parts.append(self._compared())
        return parts[0] if len(parts) == 1 else _both(parts)

    def _compared(self) -> Part:
        left = self._sum()
        if self._kind == "sign" and self._token in _COMPARED:
            compare = _COMPARED[self._token]
            self._advance()
            return _compared(compare, left, self._sum())
        return left

    def _sum(self) -> Part:
        return self._chain(_SUMS, lambda: self._chain(_PRODUCTS, self._signed))

    def _chain(self, signs: Mapping[str, Callable[[float, float], float]], operand: Callable[[], Part]) -> Part:
        left = operand()
        while self._kind == "sign" and self._token in signs:
            combine = signs[self._token]
            self._advance()
            left = _counted(combine, left, operand(), self._text)
        return left

    def _signed(self) -> Part:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise FormulaRefused(_TOO_DEEP, self._begin)
        if self._takes("-"):
            part = _counted(operator.sub, lambda _values: 0.0, self._signed(), self._text)
        elif self._takes("!"):
            part = _opposite(self._signed())
        else:
            part = self._single()
        self._depth -= 1
        return part

    def _single(self) -> Part:
        kind, said = self._kind, self._token
        if kind == "number":
            self._advance()
            return _constant(float(said))
        if kind == "text":
            self._advance()
            return _constant(said[1:-1])
        if kind == "name":
            self._advance()
            if said in {"true", "false"}:
                return _constant(said == "true")
            if said in _FUNCTIONS and self._takes("("):
                return self._call(said)
            name = said.replace("`", "")
            self.names[name] = None
            return lambda values: values.get(name)
        if self._takes("("):
            part = self.either()
            self._wants(")")
            return part
        raise self._unexpected()

    def _call(self, name: str) -> Part:
        parts = [self.either()]
        while name != "abs" and self._takes(","):
            parts.append(self.either())
        self._wants(")")
        return _called(_FUNCTIONS[name], parts)

    def _takes(self, sign: str) -> bool:
        if self._kind == "sign" and self._token == sign:
            self._advance()
            return True
        return False

    def _wants(self, sign: str) -> None:
        if not self._takes(sign):
            raise self._unexpected()

    def _advance(self) -> None:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            rest = self._text[self._at :]
            self._begin = self._at + len(rest) - len(rest.lstrip())
            if rest.strip():
                raise FormulaRefused(_UNEXPECTED, self._begin, rest.strip()[0])
            self._kind = self._token = ""
            return
        self._kind, self._token = str(found.lastgroup), found[str(found.lastgroup)]
        self._begin, self._at = found.start(self._kind), found.end()
        if self._kind == "name" and self._token in _WORDS:
            self._kind, self._token = "sign", _WORDS[self._token]

    def _unexpected(self) -> FormulaRefused:
        if not self._kind:
            return FormulaRefused(_ENDS, self._begin)
        return FormulaRefused(_UNEXPECTED, self._begin, self._token)


def _constant(value: Known) -> Part:
    return lambda _values: value


def _number(value: Known) -> float | None:
    if value is None or isinstance(value, str):
        return None if value is None else number_of(value)
    return float(value)


def _counted(combine: Callable[[float, float], float], left: Part, right: Part, text: str) -> Part:
    def part(values: Mapping[str, Known]) -> Known:
        first, second = _number(left(values)), _number(right(values))
        if first is None or second is None:
            return None
        try:
            found = combine(first, second)
        except (ZeroDivisionError, ValueError, OverflowError) as error:
            _note(text, type(error).__name__)
            return None
        return found if math.isfinite(found) else None

    return part


@lru_cache(maxsize=4096)
def _note(text: str, error: str) -> None:
    """Log that an expression came to no number, once for each and not with every reading."""
    log.of(__name__).warning("an expression comes to no number and is unknown", expression=text, error=error)


def _called(function: Callable[[list[float]], float], parts: list[Part]) -> Part:
    def part(values: Mapping[str, Known]) -> Known:
        numbers = [_number(one(values)) for one in parts]
        known = [number for number in numbers if number is not None]
        return function(known) if len(known) == len(numbers) else None

    return part


def _compared(compare: Callable[[Any, Any], bool], left: Part, right: Part) -> Part:
    def part(values: Mapping[str, Known]) -> Known:
        first, second = left(values), right(values)
        if isinstance(first, str) and isinstance(second, str):
            return compare(first, second)
        number, other = _number(first), _number(second)
        return None if number is None or other is None else compare(number, other)

    return part


def _opposite(one: Part) -> Part:
    def part(values: Mapping[str, Known]) -> Known:
        answer = truth(one(values))
        return None if answer is None else not answer

    return part


def _both(parts: list[Part]) -> Part:
    def part(values: Mapping[str, Known]) -> Known:
        answers = [truth(one(values)) for one in parts]
        return False if False in answers else None if None in answers else True

    return part


def _either(parts: list[Part]) -> Part:
    def part(values: Mapping[str, Known]) -> Known:
        answers = [truth(one(values)) for one in parts]
        return True if True in answers else None if None in answers else False

    return part
