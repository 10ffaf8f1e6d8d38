"""``Idempotency-Key``: a program that repeats a POST, because it heard no answer, changes nothing a second time.

The key is claimed in the request's own transaction, before the route runs, and the answer is kept in it after
the route ran and before the commit. So the change and the memory of it exist together or not at all, and of
fifty equal requests at once one works while the others wait for its row and then repeat its answer. A refused
request is rolled back with its claim: nothing was changed, so asking again is harmless.

``remembering`` gives this to every POST of a router. Keys count for 24 hours; ``sweep`` forgets older ones.
"""

import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.routing import APIRoute
from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api.access import Db, Visitor, address_of
from kernel import clock
from kernel.errors import Invalid
from kernel.models import IdempotencyKey

KEPT = timedelta(hours=24)
REPEATED = "Idempotent-Replayed"
_PENDING = 0
_Answering = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(slots=True)
class _Claim:
    """A key on its way through one request: what it stands for, and where its answer will be kept."""

    key: str
    digest: str
    session: Session | None = None
    owner: str = ""


class _Repeated(Exception):
    """The request was answered before; ``row`` holds the answer."""

    def __init__(self, row: IdempotencyKey) -> None:
        super().__init__()
        self.row = row


def claim(
    request: Request,
    db: Db,
    viewer: Visitor,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            description="On a POST: a value of your own choice. The same request with the same key within 24 hours "
            "changes nothing again and repeats the first answer; another request with the same key is refused.",
        ),
    ] = None,
) -> None:
    """Claim the request's key, or find the answer it had.

    Raises:
        Invalid: the key was used for another request.
    """
    mine: _Claim | None = getattr(request.state, "idempotency", None)
    if mine is None or idempotency_key is None:
        return
    mine.session, mine.owner = db, viewer.actor if viewer else f"stranger:{address_of(request)}"
    now = clock.now()
    db.execute(delete(IdempotencyKey).where(*_named(mine), IdempotencyKey.at <= now - KEPT))
    fresh = insert(IdempotencyKey).values(
        owner=mine.owner, key=mine.key, digest=mine.digest, status=_PENDING, body=b"", headers={}, at=now
    )
    # Waits for a request that holds the same key until that one has committed or failed.
    if db.execute(fresh.on_conflict_do_nothing().returning(IdempotencyKey.key)).scalar_one_or_none() is not None:
        return
    row = db.scalars(select(IdempotencyKey).where(*_named(mine))).one()
    if row.digest != mine.digest:
        raise Invalid("This Idempotency-Key was used for another request.", field="Idempotency-Key")
    raise _Repeated(row)


_CLAIM = Depends(claim)


def remembering(router: APIRouter) -> APIRouter:
    """Return the router with its POST routes remembering their answers."""
    for route in router.routes:
        if isinstance(route, APIRoute) and "POST" in (route.methods or ()) and _CLAIM not in route.dependencies:
            route.dependencies.insert(0, _CLAIM)
            _remember(route)
    return router


def sweep(session: Session, now: datetime) -> None:
    """Forget the keys that no longer count."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.at <= now - KEPT))


def _remember(route: APIRoute) -> None:
    # FastAPI asks a route for its handler, and commits what function-scoped dependencies hold only after it.
    plainly = route.get_route_handler

    def get_route_handler() -> _Answering:
        answering = plainly()

        async def handle(request: Request) -> Response:
            if "idempotency-key" not in request.headers:
                return await answering(request)
            request.state.idempotency = mine = await _claim_of(request)
            try:
                response = await answering(request)
            except _Repeated as before:
                return _answer_again(before.row)
            if mine.session is not None:
                await run_in_threadpool(_keep, mine, response)
            return response

        return handle

    route.get_route_handler = get_route_handler  # type: ignore[method-assign]  # the hook FastAPI offers


async def _claim_of(request: Request) -> _Claim:
    digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    body = await request.body()
    # A browser or program invents another boundary for the same files and fields each time.
    _, _, boundary = request.headers.get("content-type", "").partition("boundary=")
    digest.update(body.replace(boundary.strip('"').encode(), b"") if boundary else body)
    return _Claim(request.headers["idempotency-key"], digest.hexdigest())


def _keep(mine: _Claim, response: Response) -> None:
    assert mine.session is not None  # noqa: S101 - claimed
    if "no-store" in response.headers.get("cache-control", ""):
        # It holds a secret that is shown once. Asking again is then a new request, as without a key.
        mine.session.execute(delete(IdempotencyKey).where(*_named(mine)))
        return
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    mine.session.execute(
        update(IdempotencyKey)
        .where(*_named(mine))
        .values(status=response.status_code, body=bytes(response.body), headers=headers)
    )


def _answer_again(row: IdempotencyKey) -> Response:
    return Response(row.body, row.status, {**row.headers, REPEATED: "true"})


def _named(mine: _Claim) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return IdempotencyKey.owner == mine.owner, IdempotencyKey.key == mine.key
