"""Who is asking, and may they: the session of a request, its viewer, and the right each route declares.

Every route declares one of ``needs("right")``, ``signed_in`` or ``anyone``; a generated test walks them all and
a route without a declaration fails the build.

One request is one transaction. It commits when the function ends and before the answer is sent (the
dependency is function-scoped), so a failing commit is a failing answer. No more requests than the pool has
connections are inside at once, so none can wait for a connection while holding a thread another one needs.
"""

import asyncio
import hmac
import ipaddress
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.runtime import Runtime
from api.web import pages
from kernel import clock, ids
from kernel.errors import Forbidden, Unauthenticated
from people import notices, scope
from people.models import Account, SignIn, Token
from people.scope import Viewer

COOKIE = "fixwright_session"
SAFE = {"GET", "HEAD", "OPTIONS"}
_FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
_SEEN_EVERY = timedelta(minutes=1)


def runtime(request: Request) -> Runtime:
    """Return the parts of this process."""
    found: Runtime = request.app.state.runtime
    return found


async def session(request: Request) -> AsyncIterator[Session]:
    """Open the request's one transaction and commit it when the function has ended well."""
    places: asyncio.Semaphore = request.app.state.places
    async with places:
        opened = request.app.state.runtime.sessions()
        try:
            yield opened
            await run_in_threadpool(opened.commit)
        finally:
            await run_in_threadpool(opened.close)


Parts = Annotated[Runtime, Depends(runtime)]
Db = Annotated[Session, Depends(session, scope="function")]


async def sent_csrf(request: Request) -> str | None:
    """Return the anti-forgery token that came with the request, in its header or its form."""
    if request.method in SAFE or "authorization" in request.headers:
        return None
    if header := request.headers.get("x-csrf-token"):
        return header
    if request.headers.get("content-type", "").startswith(_FORM_TYPES):
        value = (await request.form()).get("csrf_token")
        return value if isinstance(value, str) else None
    return None


def identify(request: Request, db: Db, csrf: Annotated[str | None, Depends(sent_csrf)]) -> Viewer | None:
    """Return who is asking, by bearer token or session cookie, or None for a stranger.

    Raises:
        Unauthenticated: a token or cookie was sent and is not, or no longer, good.
        Forbidden: a cookie came with a changing request but without its anti-forgery token.
    """
    viewer = _by_token(request, db) if "authorization" in request.headers else _by_cookie(request, db, csrf)
    request.state.viewer = viewer
    request.state.language = pages.language_of(request, viewer)
    return viewer


def _by_token(request: Request, db: Session) -> Viewer:
    scheme, _, secret = request.headers["authorization"].partition(" ")
    now = clock.now()
    token = None
    if scheme.lower() == "bearer":
        token = db.scalars(select(Token).where(Token.secret_hash == ids.fingerprint(secret.strip()))).one_or_none()
    if token is None or token.revoked_at is not None or token.expires_at <= now or not token.account.is_active:
        raise Unauthenticated("The token is not valid, or no longer.")
    if token.last_used_at is None or now - token.last_used_at > _SEEN_EVERY:
        db.execute(update(Token).where(Token.id == token.id).values(last_used_at=now))
    viewer = scope.viewer_of(db, token.account)
    return viewer if token.rights is None else viewer.limited_to(frozenset(token.rights))


def _by_cookie(request: Request, db: Session, csrf: str | None) -> Viewer | None:
    secret = request.cookies.get(COOKIE)
    if not secret:
        return None
    now = clock.now()
    sign_in = db.scalars(select(SignIn).where(SignIn.secret_hash == ids.fingerprint(secret))).one_or_none()
    if sign_in is None or sign_in.expires_at <= now or not sign_in.account.is_active:
        return None
    if request.method not in SAFE and not hmac.compare_digest(csrf or "", sign_in.csrf_token):
        raise Forbidden("This form is no longer valid. Please load the page again and send it once more.")
    request.state.csrf_token = sign_in.csrf_token
    if now - sign_in.seen_at > _SEEN_EVERY:
        hours = request.app.state.runtime.settings.session_hours
        db.execute(
            update(SignIn).where(SignIn.id == sign_in.id).values(seen_at=now, expires_at=now + timedelta(hours=hours))
        )
    if request.method == "GET" and not pages.wants_fragment(request):
        request.state.notices = notices.unread(db, sign_in.account_id)
    return scope.viewer_of(db, db.get_one(Account, sign_in.account_id))


Visitor = Annotated[Viewer | None, Depends(identify)]
"""Whoever asks, known or not. A route that takes only this is public and says so with ``anyone``."""


class Needs:
    """The dependency of a route that needs a right; the generated test reads ``right``."""

    def __init__(self, right: str) -> None:
        self.right = right

    def __call__(self, viewer: Visitor) -> Viewer:
        """Let a viewer through who holds the right anywhere; the scope of the query decides over the record."""
        if viewer is None:
            raise Unauthenticated("Please sign in.")
        if not viewer.may(self.right):
            raise Forbidden("Your role does not include this: {right}", right=self.right)
        return viewer


def needs(right: str) -> Any:  # noqa: ANN401 - FastAPI's own type of a dependency
    """Declare which right a route asks for.

    As in ``viewer: Annotated[Viewer, needs("orders.read")]``.
    """
    return Depends(Needs(right))


def _signed_in(viewer: Visitor) -> Viewer:
    if viewer is None:
        raise Unauthenticated("Please sign in.")
    return viewer


SignedIn = Annotated[Viewer, Depends(_signed_in)]
"""Declares a route that any account may use, for its own things."""


def _anyone(visitor: Visitor) -> Viewer | None:
    return visitor


Anyone = Annotated[Viewer | None, Depends(_anyone)]
"""Declares a public route."""


Route = TypeVar("Route", bound=Callable[..., Any])


def open_to_all(route: Route) -> Route:
    """Declare a route that reads neither session nor account, e.g. a health check."""
    route.is_open_to_all = True  # type: ignore[attr-defined]  # the generated test reads it
    return route


def address_of(request: Request) -> str:
    """Return the caller's address; X-Forwarded-For is believed only from a trusted proxy.

    Walks the header from the right and stops at the first address that is not a trusted proxy, so that a
    forged left part changes nothing.
    """
    trusted = request.app.state.runtime.settings.trusted_proxies
    address = request.client.host if request.client else "unknown"
    for hop in reversed(request.headers.get("x-forwarded-for", "").split(",")):
        if address not in trusted or not _is_address(hop.strip()):
            break
        address = hop.strip()
    return address


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
