"""Gapless number series, e.g. work order numbers by company and year."""

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kernel.models import Counter


def draw(session: Session, name: str) -> int:
    """Return the next number of a series, from 1; drawers queue until the drawer before them commits."""
    row = insert(Counter).values(name=name, value=1)
    return session.execute(
        row.on_conflict_do_update(index_elements=[Counter.name], set_={"value": Counter.value + 1}).returning(
            Counter.value
        )
    ).scalar_one()
