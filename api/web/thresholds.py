"""The form of the commonest rule: one metric against one limit a severity. To a definition, and back where it fits.

Limits, deadband and lengths may come from attributes, each with what is typed beside it as its default. A definition
that says more (groups, several metrics, counts) does not fit the form and is edited as text.
"""

import json
from typing import Any

from fastapi import Request
from pydantic import BaseModel

from api.web import forms
from kernel.errors import FixwrightError, Invalid
from rules.conditions import AlarmDefinition, Automatic, ByHand, Comparison, Duration, Simple
from rules.faults import DefinitionRefused
from rules.leaf import FromAttribute, OtherMetric, Supply, plain
from rules.models import SEVERITIES

USUAL = "usual"
"""Stands in the form for what the company does."""


class ThresholdForm(BaseModel):
    """The form as it is sent; an empty limit means no rule of that severity.

    What ends in ``_from`` names the attribute that supplies a number, which is then its default.
    """

    key: str = ""
    name: str = ""
    name_zh: str = ""
    type: str = ""
    asset: str = ""
    metric: str = ""
    operator: str = ">="
    limit_critical: str = ""
    limit_major: str = ""
    limit_minor: str = ""
    limit_warning: str = ""
    limit_info: str = ""
    seconds: str = ""
    deadband: str = ""
    clear: str = "automatic"
    off_delay_s: str = ""
    limit_critical_from: str = ""
    limit_major_from: str = ""
    limit_minor_from: str = ""
    limit_warning_from: str = ""
    limit_info_from: str = ""
    seconds_from: str = ""
    deadband_from: str = ""
    off_delay_s_from: str = ""
    message: str = ""
    order_from: str = "major"
    text: str = ""
    after: str = ""

    def limit(self, severity: str) -> str:
        """Return what was typed as the limit of a severity."""
        return str(getattr(self, f"limit_{severity}"))

    def source(self, field: str) -> str:
        """Return the attribute that was typed beside a field."""
        return str(getattr(self, f"{field}_from")).strip()

    @property
    def has_sources(self) -> bool:
        """Whether any number comes from an attribute."""
        return any(name.endswith("_from") and name != "order_from" and value for name, value in self)


def definition(form: ThresholdForm) -> dict[str, Any]:
    """Return the definition a form describes.

    Raises:
        Invalid: a field cannot be read, or no limit is given at all.
    """
    seconds = _supply(form, "seconds", form.seconds) or 0.0
    deadband = _supply(form, "deadband", form.deadband) or 0.0
    create: dict[str, Any] = {}
    for severity in SEVERITIES:
        limit = _limit(form, severity)
        if limit is None:
            continue
        compare = {"type": "compare", "metric": form.metric, "operator": form.operator, "limit": limit}
        rule: dict[str, Any] = {"condition": compare | ({"deadband": deadband} if deadband else {})}
        if seconds:
            rule["kind"] = {"type": "duration", "seconds": seconds}
        create[severity] = rule
    if not create:
        raise Invalid("Give a limit to at least one severity.", field="limit_critical")
    made: dict[str, Any] = {"schema": 1, "create": create}
    if form.clear == "automatic":
        off_delay_s = _supply(form, "off_delay_s", form.off_delay_s) or 0.0
        made["clear"] = {"type": "automatic"} | ({"off_delay_s": off_delay_s} if off_delay_s else {})
    if form.message.strip():
        made["message"] = form.message.strip()
    return made


def _limit(form: ThresholdForm, severity: str) -> float | dict[str, Any] | None:
    field = f"limit_{severity}"
    limit = forms.number(form.limit(severity), field)
    if limit is None and form.source(field):
        raise Invalid("Give the limit that holds where the attribute is not set.", field=field)
    return limit if limit is None else _supply(form, field, form.limit(severity))


def _supply(form: ThresholdForm, field: str, typed: str) -> float | dict[str, Any] | None:
    """Return a number, or the attribute that supplies it with the number as its default."""
    number = forms.number(typed, field)
    attribute = form.source(field)
    return {"attribute": attribute, "default": number or 0.0} if attribute else number


def definition_of(form: ThresholdForm) -> dict[str, Any]:
    """Return the definition a form describes, by its fields or as text.

    Raises:
        Invalid: it cannot be read.
    """
    if not form.text.strip():
        return definition(form)
    try:
        read = json.loads(form.text)
    except ValueError as error:
        raise Invalid("This is no JSON: {reason}", field="text", reason=str(error)) from error
    if not isinstance(read, dict):
        raise Invalid("A definition is a JSON object.", field="text")
    return read


def orders_from(form: ThresholdForm) -> Any:  # noqa: ANN401 - one of the severities, or None
    """Return the least severity that opens an order; for what the company does, what it does as delivered.

    Raises:
        Invalid: there is no such severity.
    """
    if form.order_from == USUAL:
        return "major"
    if form.order_from and form.order_from not in SEVERITIES:
        raise Invalid("There is no such severity.", field="order_from")
    return form.order_from or None


def form_of(found: AlarmDefinition) -> ThresholdForm | None:
    """Return the form of a definition, or None where it says more than the form can."""
    rules = list(found.create.by_severity())
    _, first = rules[0]
    leaf = first.condition
    if not isinstance(leaf, Comparison) or not leaf.is_simple or not isinstance(first.kind, Simple | Duration):
        return None
    if not isinstance(found.clear, Automatic | ByHand) or any(rule.schedule is not None for _, rule in rules):
        return None
    for _, rule in rules[1:]:
        other = rule.condition
        if not isinstance(other, Comparison) or not other.is_simple or rule.kind != first.kind:
            return None
        if (other.metric, other.operator, other.deadband) != (leaf.metric, leaf.operator, leaf.deadband):
            return None
    supplies: dict[str, Supply] = {"deadband": leaf.deadband}
    for severity, rule in rules:
        if isinstance(rule.condition, Comparison):
            supplies[f"limit_{severity.key}"] = rule.condition.limit
    if isinstance(first.kind, Duration):
        supplies["seconds"] = first.kind.seconds
    if isinstance(found.clear, Automatic):
        supplies["off_delay_s"] = found.clear.off_delay_s
    typed = {name: _text(value, name) for name, value in supplies.items() if not isinstance(value, OtherMetric)}
    sources = {f"{name}_from": one.attribute for name, one in supplies.items() if isinstance(one, FromAttribute)}
    return ThresholdForm(
        metric=leaf.metric, operator=leaf.operator, clear=found.clear.type, message=found.message, **typed, **sources
    )


def refused(request: Request, error: FixwrightError) -> dict[str, str]:
    """Return a refusal by the form's fields, in the reader's language; of a definition all its faults."""
    if not isinstance(error, DefinitionRefused):
        return forms.refused(request, error)
    found: dict[str, str] = {}
    for problem in error.problems:
        found.setdefault(_field(problem.field), forms.said(request, problem.template, problem.values))
    return found


def _field(path: str) -> str:
    """Return the field of the form that a path into the definition is about."""
    steps = path.split(".")
    last = steps[-1]
    if last in {"metric", "operator", "deadband", "seconds", "off_delay_s", "message"}:
        return last
    if last in {"attribute", "default"} and steps[-2] in {"deadband", "seconds", "off_delay_s"}:
        return steps[-2]
    if steps[0] == "create" and len(steps) > 1:
        return f"limit_{steps[1]}"
    return "text"


def _text(value: float | FromAttribute, field: str) -> str:
    """Return a number as it is typed; of a length or deadband none at all stands for zero."""
    number = plain(value)
    return f"{number:.10g}" if number or field.startswith("limit_") else ""
