"""What one asset does differently from its alarm type: other limits, deadbands or durations.

An override is a small patch; the shape of the definition stays, so that an edit of the type reaches every asset.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from kernel import i18n
from rules import conditions
from rules.conditions import (
    AlarmDefinition,
    Automatic,
    ClearRule,
    Comparison,
    Condition,
    CreateRule,
    Delay,
    Duration,
    Finite,
    Kind,
    NotNegative,
    Seconds,
    Severity,
)
from rules.faults import DefinitionRefused, Problem, found_by
from rules.leaf import OtherMetric

_NOT_COMPARED = i18n.noop("The rule does not compare {metric}.")
_NO_NUMBER = i18n.noop("The limit of {metric} is another metric.")
_SEVERAL_LIMITS = i18n.noop("The rule compares {metric} with several limits.")
_REVERSED = i18n.noop("{limit:g} comes before {other:g}, the limit of a lesser severity, which then could never win.")

Target = Literal["critical", "major", "minor", "warning", "info", "clear"]


def _shape(patch: object) -> str:
    return "by_metric" if isinstance(patch, dict) else "one"


Limits = Annotated[
    Annotated[Finite, Tag("one")] | Annotated[dict[str, Finite], Tag("by_metric")], Discriminator(_shape)
]
Deadbands = Annotated[
    Annotated[NotNegative, Tag("one")] | Annotated[dict[str, NotNegative], Tag("by_metric")],
    Discriminator(_shape),
]


class Overrides(BaseModel):
    """A patch, as JSON holds it.

    ``limits`` and ``deadbands`` name a severity or ``clear`` and give a number, or a number a metric where the
    rule compares several: ``{"limits": {"critical": 95.0, "major": {"pressure": 3.5}}}``. ``durations_s`` sets
    the seconds of a duration rule, or the off-delay under ``clear``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    limits: dict[Target, Limits] = Field(default_factory=dict)
    deadbands: dict[Target, Deadbands] = Field(default_factory=dict)
    durations_s: dict[Target, Seconds] = Field(default_factory=dict)


def with_overrides(definition: AlarmDefinition, patch: Overrides | Mapping[str, Any]) -> AlarmDefinition:
    """Return the definition with the patch applied; an empty patch returns it unchanged.

    Raises:
        DefinitionRefused: the patch names a rule, metric or duration that the definition lacks, is ambiguous, is
            negative where it may not be, or puts the limit of a worse severity before that of a lesser one.
    """
    wanted = patch if isinstance(patch, Overrides) else _parse(patch)
    problems: list[Problem] = []
    patched = definition
    for target in dict.fromkeys([*wanted.limits, *wanted.deadbands, *wanted.durations_s]):
        patched = _patch_target(patched, target, wanted, problems)
    if not problems and wanted.limits:
        problems.extend(_reversed_limits(definition, patched))
    if problems:
        raise DefinitionRefused(problems)
    return patched


def _parse(patch: Mapping[str, Any]) -> Overrides:
    try:
        return Overrides.model_validate(patch)
    except ValidationError as error:
        raise DefinitionRefused(found_by(error)) from None


def _patch_target(
    definition: AlarmDefinition, target: Target, wanted: Overrides, problems: list[Problem]
) -> AlarmDefinition:
    if target == "clear":
        return definition.model_copy(update={"clear": _patch_clear(definition, wanted, problems)})
    rule: CreateRule | None = getattr(definition.create, target)
    if rule is None:
        problems.append(Problem(target, i18n.noop("The rule has no such severity.")))
        return definition
    tree = _patch_tree(rule.condition, target, wanted, problems)
    kind = _patch_kind(rule.kind, target, wanted, problems)
    changed = rule.model_copy(update={"condition": tree} | ({"kind": kind} if kind is not rule.kind else {}))
    return definition.model_copy(update={"create": definition.create.model_copy(update={target: changed})})


def _patch_clear(definition: AlarmDefinition, wanted: Overrides, problems: list[Problem]) -> conditions.ClearPolicy:
    match definition.clear:
        case ClearRule() as rule:
            tree = _patch_tree(rule.condition, "clear", wanted, problems)
            kind = _patch_kind(rule.kind, "clear", wanted, problems)
            update = {"condition": tree} | ({"kind": kind} if kind is not rule.kind else {})
            return rule.model_copy(update=update)
        case Automatic() as automatic if "clear" not in wanted.limits and "clear" not in wanted.deadbands:
            delay: Delay = wanted.durations_s["clear"]
            if delay < 0:
                problems.append(Problem("durations_s.clear", i18n.noop("A delay is never negative.")))
            return automatic.model_copy(update={"off_delay_s": delay})
        case policy:
            problems.append(Problem("clear", i18n.noop("The rule has no clear condition that could differ.")))
            return policy


def _patch_tree(tree: Condition, target: Target, wanted: Overrides, problems: list[Problem]) -> Condition:
    for part, patch in (("limit", wanted.limits.get(target)), ("deadband", wanted.deadbands.get(target))):
        if patch is None:
            continue
        leaves = list(conditions.comparisons(tree))
        metrics = {leaf.metric for leaf in leaves}
        if not isinstance(patch, dict) and len(metrics) > 1:
            problems.append(Problem(f"{part}s.{target}", i18n.noop("The rule compares several metrics: name one.")))
            continue
        by_metric = patch if isinstance(patch, dict) else dict.fromkeys(metrics, patch)
        problems.extend(_unfit(part, target, by_metric, leaves))
        tree = conditions.map_comparisons(tree, _changer(part, by_metric))
    return tree


def _changer(part: str, patch: dict[str, float]) -> Any:  # noqa: ANN401 - a function of one comparison
    def change(leaf: Comparison) -> Comparison:
        return leaf.model_copy(update={part: patch[leaf.metric]}) if leaf.metric in patch else leaf

    return change


def _unfit(part: str, target: Target, patch: dict[str, float], leaves: list[Comparison]) -> Iterator[Problem]:
    for metric, value in patch.items():
        touched = [leaf for leaf in leaves if leaf.metric == metric]
        if not touched:
            yield Problem(f"{part}s.{target}", _NOT_COMPARED, {"metric": metric})
        elif part == "limit" and len(touched) > 1:
            yield Problem(f"{part}s.{target}", _SEVERAL_LIMITS, {"metric": metric})
        elif part == "limit" and any(isinstance(leaf.limit, OtherMetric) for leaf in touched):
            yield Problem(f"{part}s.{target}", _NO_NUMBER, {"metric": metric})
        elif part == "deadband" and any(leaf.operator in {"=", "!="} for leaf in touched) and value:
            yield Problem(f"{part}s.{target}", conditions.DIRECTION_NEEDED)


def _patch_kind(kind: Kind, target: Target, wanted: Overrides, problems: list[Problem]) -> Kind:
    if target not in wanted.durations_s:
        return kind
    if not isinstance(kind, Duration):
        problems.append(Problem(f"durations_s.{target}", i18n.noop("The rule has no duration.")))
        return kind
    return kind.model_copy(update={"seconds": wanted.durations_s[target]})


def _reversed_limits(before: AlarmDefinition, after: AlarmDefinition) -> Iterator[Problem]:
    """Find severities whose limits stood in order and no longer do: the lesser rule could never win."""
    stood = dict(_single_limits(before))
    stands = list(_single_limits(after))
    for i, (worse, leaf) in enumerate(stands):
        for lesser, other in stands[i + 1 :]:
            if (leaf.metric, leaf.view, leaf.operator[0]) != (other.metric, other.view, other.operator[0]):
                continue
            if _beyond(stood[worse], stood[lesser]) and not _beyond(leaf, other):
                values = {"limit": leaf.number, "other": other.number}
                yield Problem(f"limits.{worse.key}", _REVERSED, values)


def _single_limits(definition: AlarmDefinition) -> Iterator[tuple[Severity, Comparison]]:
    for severity, rule in definition.create.by_severity():
        leaf = rule.condition
        if isinstance(leaf, Comparison) and leaf.operator[0] in "<>" and leaf.number is not None:
            yield severity, leaf


def _beyond(worse: Comparison, lesser: Comparison) -> bool:
    limit, other = worse.number or 0.0, lesser.number or 0.0
    return limit >= other if worse.operator.startswith(">") else limit <= other
