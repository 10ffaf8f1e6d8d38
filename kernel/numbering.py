"""Gapless number series, e.g. work order numbers by company and year."""

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kernel.models import Counter


def draw(session: Session, name: str) -> int:
    """Return the next number of a series, from 1; drawers queue until the drawer before them commits."""
    return draw_many(session, name, 1)


def draw_many(session: Session, name: str, amount: int) -> int:
    """Return the first of the next ``amount`` numbers of a series."""
    row = insert(Counter).values(name=name, value=amount)
    last = session.execute(
        row.on_conflict_do_update(index_elements=[Counter.name], set_={"value": Counter.value + amount}).returning(
            Counter.value
        )
    ).scalar_one()
    return last - amount + 1
