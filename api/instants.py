"""Instants that a request may name: with an offset, and showable in every zone.

The first and last days of the calendar are left out: in some zones they lie before the year 1 or after 9999, where
neither the database nor a page can go.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime
from pydantic_core import PydanticCustomError

_A_DAY = timedelta(days=1)
FIRST = datetime.min.replace(tzinfo=UTC) + _A_DAY
LAST = datetime.max.replace(tzinfo=UTC) - _A_DAY


def _showable(moment: datetime) -> datetime:
    if not FIRST <= moment <= LAST:
        raise PydanticCustomError("instant_range", "Input should lie within the years 1 to 9999")
    return moment


Instant = Annotated[AwareDatetime, AfterValidator(_showable)]
