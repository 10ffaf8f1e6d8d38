"""Which asset a person means who typed its code into a form."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets.models import Asset
from kernel.errors import Invalid
from people import scope
from people.scope import Viewer


def asset(db: Session, viewer: Viewer, code: str, *, field: str, right: str = "assets.read") -> Asset | None:
    """Return the asset of a code within sight, None where none was typed.

    Raises:
        Invalid: there is no such asset; said beside ``field``.
    """
    if not code.strip():
        return None
    found = db.scalars(
        select(Asset).where(Asset.code == code.strip(), scope.visible(Asset, viewer, right))
    ).one_or_none()
    if found is None:
        raise Invalid("There is no asset with this code.", field=field)
    return found
