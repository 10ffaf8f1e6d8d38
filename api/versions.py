"""Lost updates, prevented: a row's version is its ``ETag``, and ``If-Match`` makes a change conditional on it."""

from typing import Annotated

from fastapi import Depends, Header, Response

from kernel.errors import Invalid


def give(response: Response, version: int) -> None:
    """Tell the client which version it was given."""
    response.headers["ETag"] = f'"{version}"'


def _wanted(
    if_match: Annotated[str | None, Header(description='The `ETag` of what you changed, e.g. `"3"`.')] = None,
) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    number = if_match.strip().removeprefix("W/").strip('"')
    if not number.isascii() or not number.isdigit() or len(number) > 15:  # noqa: PLR2004 - no version is that large
        raise Invalid("If-Match must hold the ETag you were given.", field="If-Match")
    return int(number)


IfMatch = Annotated[int | None, Depends(_wanted)]
"""The version the client means to change; None when it did not say."""
