"""Saved views: a list as one person filtered it, kept under a name with their account (ALM-13).

A view is the address of a list and no more. Whoever opens the address sees the same filter over what their own
rights reach, so that it can be handed on.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl, urlencode

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kernel import audit
from kernel.errors import Conflict, Invalid, NotFound
from people.models import SavedView
from people.scope import Viewer

MOST: Final = 30
LONGEST_NAME: Final = 60
LONGEST_QUERY: Final = 1000


def of(session: Session, viewer: Viewer, place: str) -> Sequence[SavedView]:
    """Return a person's views of one list, by name."""
    return session.scalars(
        select(SavedView)
        .where(SavedView.account_id == viewer.account_id, SavedView.place == place)
        .order_by(SavedView.name, SavedView.id)
        .limit(MOST)
    ).all()


def plain(query: str) -> str:
    """Return the filter in a query: empty parameters and the cursor of a page are no part of it."""
    return urlencode([(key, value) for key, value in parse_qsl(query) if key != "after"])


def keep(session: Session, viewer: Viewer, place: str, name: str, query: str, *, now: datetime) -> SavedView:
    """Keep a filter under a name; one of the same name is replaced.

    ``query`` is the part of an address behind its question mark.

    Raises:
        Invalid: the name is empty or too long, or the filter is.
        Conflict: there are too many already.
    """
    name = " ".join(name.split())
    if not 0 < len(name) <= LONGEST_NAME:
        raise Invalid("A name has 1 to {most} characters.", field="name", most=LONGEST_NAME)
    filtered = plain(query)
    if len(filtered) > LONGEST_QUERY:
        raise Invalid("This filter is too long to be kept.", field="name")
    mine = (SavedView.account_id == viewer.account_id, SavedView.place == place)
    known = session.scalars(select(SavedView).where(*mine, SavedView.name == name).with_for_update()).one_or_none()
    before = None if known is None else {"query": known.query}
    if known is None:
        if (session.scalar(select(func.count()).where(*mine)) or 0) >= MOST:
            raise Conflict("At most {most} views can be kept. Remove one first.", most=MOST)
        known = SavedView(account_id=viewer.account_id, place=place, name=name, query=filtered, at=now)
        session.add(known)
    known.query, known.at = filtered, now
    session.flush()
    audit.record(
        session, "view.keep", subject=f"saved_view:{known.id}", actor=viewer.actor, at=now, before=before,
        after={"name": name, "query": filtered}, company_id=viewer.company_id,
    )  # fmt: skip
    return known


def drop(session: Session, viewer: Viewer, view_id: int, *, now: datetime) -> None:
    """Remove one of a person's own views.

    Raises:
        NotFound: it is not theirs, or there is none.
    """
    known = session.scalars(
        select(SavedView).where(SavedView.id == view_id, SavedView.account_id == viewer.account_id)
    ).one_or_none()
    if known is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    session.delete(known)
    audit.record(
        session, "view.drop", subject=f"saved_view:{view_id}", actor=viewer.actor, at=now,
        before={"name": known.name, "query": known.query}, company_id=viewer.company_id,
    )  # fmt: skip
