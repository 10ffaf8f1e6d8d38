"""Condition trees as they stand in JSON: groups of comparisons, and the ways to walk them.

For ``rules.conditions``, whose definitions hold them; what a single comparison may look at is in ``rules.leaf``.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from rules.leaf import Among, Between, Boolean, Comparison, Expression, Leaf, Node, Silent, Text

# Groups ---------------------------------------------------------------------------------------------------------


class All(Node):
    """True when every part is; false as soon as one is false."""

    type: Literal["all"]
    of: tuple["Condition", ...] = Field(min_length=1, strict=False)


class AnyOf(Node):
    """True as soon as one part is; false when every part is."""

    type: Literal["any"]
    of: tuple["Condition", ...] = Field(min_length=1, strict=False)


class Not(Node):
    """The opposite; unknown stays unknown."""

    type: Literal["not"]
    of: "Condition"


Condition = Annotated[
    Comparison | Between | Among | Boolean | Text | Silent | Expression | All | AnyOf | Not, Field(discriminator="type")
]


# Walking a tree -------------------------------------------------------------------------------------------------


def leaves(tree: Condition) -> Iterator[Leaf]:
    """Yield everything a tree asks, from left to right."""
    for _, leaf in placed(tree, ""):
        yield leaf


def placed(tree: Condition, path: str) -> Iterator[tuple[str, Leaf]]:
    """Yield everything a tree asks, from left to right, each with the path of its field."""
    match tree:
        case Not():
            yield from placed(tree.of, f"{path}.of")
        case All() | AnyOf():
            for place, part in enumerate(tree.of):
                yield from placed(part, f"{path}.of.{place}")
        case leaf:
            yield path, leaf


def comparisons(tree: Condition) -> Iterator[Comparison]:
    """Yield the comparisons with a limit, from left to right."""
    for leaf in leaves(tree):
        if isinstance(leaf, Comparison):
            yield leaf


def map_comparisons(tree: Condition, change: Callable[[Comparison], Comparison]) -> Condition:
    """Return the tree with each comparison that has a limit replaced by ``change(comparison)``."""
    return map_leaves(tree, lambda leaf: change(leaf) if isinstance(leaf, Comparison) else leaf)


def map_leaves(tree: Condition, change: Callable[[Leaf], Leaf]) -> Condition:
    """Return the tree with everything that it asks replaced by ``change(leaf)``."""
    match tree:
        case Not():
            return tree.model_copy(update={"of": map_leaves(tree.of, change)})
        case All() | AnyOf():
            return tree.model_copy(update={"of": tuple(map_leaves(part, change) for part in tree.of)})
        case leaf:
            return change(leaf)


def depth(tree: Condition) -> int:
    """Return how deep groups are nested."""
    match tree:
        case Not():
            return 1 + depth(tree.of)
        case All() | AnyOf():
            return 1 + max(depth(part) for part in tree.of)
        case _:
            return 0


def json_depth(stored: object, most: int) -> int:
    """Count the levels of nested JSON, up to ``most``, without recursion: a hostile one cannot exhaust the stack."""
    levels, level = 0, [stored]
    while level and levels <= most:
        levels += 1
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list | tuple):
                inner.extend(value)
        level = inner
    return levels
