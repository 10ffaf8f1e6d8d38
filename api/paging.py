"""Keyset paging: a list answers ``{"items": […], "next": cursor}`` and never counts a hot table."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from fastapi import Query
from pydantic import BaseModel

from kernel.errors import Invalid

Item = TypeVar("Item")
Limit = Annotated[int, Query(ge=1, le=500, description="How many items at most.")]
LONGEST = 300
"""Characters of a cursor."""
Cursor = Annotated[str | None, Query(max_length=LONGEST, description="The `next` of the page before.")]


class Page(BaseModel, Generic[Item]):
    """One page of a list; ``next`` is null on the last one."""

    items: list[Item]
    next: str | None = None


def read(cursor: str | None, kinds: tuple[type, ...]) -> tuple[Any, ...] | None:
    """Return the sort key a cursor stands for, or None at the start.

    Raises:
        Invalid: it is not a cursor of this list.
    """
    if cursor is None:
        return None
    try:
        parts = msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=list[Any])
        return tuple(msgspec.convert(part, kind) for part, kind in zip(parts, kinds, strict=True))
    except (binascii.Error, msgspec.MsgspecError, UnicodeError, ValueError) as error:
        raise Invalid("This cursor does not belong to this list.", field="cursor") from error


def write(*key: Any) -> str:  # noqa: ANN401 - the parts of a sort key
    """Return the cursor that stands for a sort key."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def cut(rows: Sequence[Item], limit: int, key: Callable[[Item], tuple[Any, ...]]) -> tuple[list[Item], str | None]:
    """Cut ``limit + 1`` fetched rows to a page and the cursor of the next, if there is one."""
    page = list(rows[:limit])
    return page, write(*key(page[-1])) if len(rows) > limit and page else None
