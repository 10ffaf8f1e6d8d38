"""What is wrong with a definition or override, field by field, in sentences for the person who wrote it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as made_by
from typing import Any, Final

from pydantic import ValidationError

from kernel import errors, i18n
from rules.formulas import FormulaRefused

_SENTENCES: Final = {
    "dict_type": i18n.noop("An object with fields is needed."),
    "extra_forbidden": i18n.noop("There is no such field."),
    "finite_number": i18n.noop("A finite number is needed."),
    "float_type": i18n.noop("A number is needed."),
    "greater_than": i18n.noop("It must be more than {gt:g}."),
    "greater_than_equal": i18n.noop("It must not be less than {ge:g}."),
    "int_type": i18n.noop("A whole number is needed."),
    "less_than_equal": i18n.noop("It must not be more than {le:g}."),
    "literal_error": i18n.noop("It must be one of {expected}."),
    "missing": i18n.noop("This is missing."),
    "model_attributes_type": i18n.noop("An object with fields is needed."),
    "model_type": i18n.noop("An object with fields is needed."),
    "string_pattern_mismatch": i18n.noop("This cannot be the key of a metric."),
    "string_too_long": i18n.noop("At most {max_length} characters fit."),
    "string_type": i18n.noop("A text is needed."),
    "too_short": i18n.noop("At least {min_length} must be given."),
    "tuple_type": i18n.noop("A list is needed."),
    "union_tag_invalid": i18n.noop("The type must be one of {expected_tags}."),
    "union_tag_not_found": i18n.noop("The type is missing."),
}
_OTHERWISE: Final = i18n.noop("This does not have the form that is needed here.")
_NO_FIELDS: Final = frozenset(
    {
        *("compare", "all", "any", "not", "simple", "duration", "repeating", "by_hand", "automatic", "rule"),
        *(
            "between",
            "among",
            "boolean",
            "text",
            "previous",
            "difference",
            "rate",
            "window",
            "no_data",
            "quiet",
            "expression",
        ),
        *("one", "by_metric", "[key]", "[number]", "[metric]", "[attribute]", "[weekly]"),
    }
)
"""What pydantic puts into a path beside the names of fields: the member of a union, and that a key is meant."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one field; ``field`` is its path, as in ``create.critical.condition.limit``."""

    field: str
    template: str
    values: Mapping[str, Any] = made_by(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The fault in the reader's language."""
        return i18n.gettext(self.template, **self.values)


class DefinitionRefused(errors.Invalid):
    """The definition or override breaks the grammar; ``problems`` lists every fault found, never none."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems[0].template, field=problems[0].field, **problems[0].values)
        self.problems = list(problems)


def found_by(error: ValidationError) -> list[Problem]:
    """Return what pydantic found, in our words."""
    problems = []
    for fault in error.errors(include_url=False, include_input=False):
        path = [str(part) for part in fault["loc"] if part not in _NO_FIELDS]
        context = fault.get("ctx", {})
        if fault["type"] == "value_error":
            told = context["error"]
            template = str(told)
            values = {"at": told.at, "found": told.found} if isinstance(told, FormulaRefused) else {}
        else:
            template, values = _SENTENCES.get(fault["type"], _OTHERWISE), context
        problems.append(Problem(".".join(path) or "definition", template, values))
    return problems
