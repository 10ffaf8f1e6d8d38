"""Many numbers at once: rows as arrays, where a million objects would take long, and long lists in queries."""

from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, ColumnElement, LargeBinary, Select, any_, cast, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session

Int64s = NDArray[np.int64]
Number = InstrumentedAttribute[int] | InstrumentedAttribute[int | None]


def integers(session: Session, query: Select[*tuple[Any, ...]]) -> list[Int64s]:
    """Return the columns of a query of integers, packed by the server into one value: int64, of one length.

    Raises:
        ValueError: a value is NULL.
    """
    rows = query.subquery()
    sent = [func.int8send(cast(column, BigInteger), type_=LargeBinary) for column in rows.columns]
    whole: ColumnElement[bytes] = reduce(lambda left, right: left.op("||")(right), sent)
    packed = func.string_agg(whole, literal(b"", LargeBinary), type_=LargeBinary)
    count, data = session.execute(select(func.count(), packed).select_from(rows)).one()
    values = np.frombuffer(bytes(data or b""), ">i8").astype(np.int64)
    if len(values) != count * len(sent):
        raise ValueError("a value is NULL")
    return list(np.ascontiguousarray(values.reshape(count, len(sent)).T))


def among(
    column: InstrumentedAttribute[int] | InstrumentedAttribute[int | None], numbers: Iterable[int]
) -> ColumnElement[bool]:
    """Return that a column is one of some numbers, sent as one value: ``IN`` ends at 65,535 of them."""
    return column == any_(cast(list(numbers), ARRAY(BigInteger)))
