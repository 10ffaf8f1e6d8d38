"""Errors become answers, once, here: problem+json (RFC 9457) for programs, a page for people."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException

from api.web import pages
from kernel import errors, i18n, log

STATUS: dict[type[errors.FixwrightError], int] = {
    errors.Invalid: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Stale: 412,
    errors.Forbidden: 403,
    errors.Unauthenticated: 401,
    errors.TooMany: 429,
    errors.Gone: 410,
    errors.TooLarge: 413,
    errors.Unsupported: 415,
    errors.Unavailable: 503,
}
TITLES = {
    400: i18n.noop("The request cannot be read"),
    401: i18n.noop("Please sign in"),
    403: i18n.noop("Not allowed"),
    404: i18n.noop("Nothing here"),
    405: i18n.noop("Not possible here"),
    409: i18n.noop("Not possible now"),
    410: i18n.noop("No longer valid"),
    412: i18n.noop("Changed meanwhile"),
    413: i18n.noop("Larger than allowed"),
    415: i18n.noop("Not a kind we can use"),
    422: i18n.noop("Please check the input"),
    429: i18n.noop("Too many attempts"),
    500: i18n.noop("Something went wrong"),
    503: i18n.noop("Not available right now"),
}


UNREADABLE = i18n.noop("The address or the form holds what cannot be read: {fields}.")
"""For people; programs are told of each field what was expected."""


def install(app: FastAPI) -> None:
    """Give the application its one table of errors."""
    app.add_exception_handler(errors.FixwrightError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(StaleDataError, _stale)
    app.add_exception_handler(IntegrityError, _conflict)
    app.add_exception_handler(DataError, _unfit)
    for unreachable in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(unreachable, _unavailable)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.FixwrightError)  # noqa: S101 - registered for this class only
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    if status == STATUS[errors.Unauthenticated] and not _is_api(request):
        return RedirectResponse(pages.sign_in_url(request), status_code=303)
    detail = _in_words(request, error.sentence, **error.values)
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, errors.TooMany) else {}
    if status == STATUS[errors.Unauthenticated]:
        headers["WWW-Authenticate"] = "Bearer"
    extra = {"errors": [{"field": error.field, "reason": detail}]} if error.field else {}
    return answer(request, status, detail, headers=headers, **extra)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    faults = [
        {"field": ".".join(str(part) for part in fault["loc"][1:]) or str(fault["loc"][0]), "reason": fault["msg"]}
        for fault in error.errors()
    ]
    if _is_api(request):
        return answer(request, 422, "; ".join(f"{one['field']}: {one['reason']}" for one in faults), errors=faults)
    fields = ", ".join(dict.fromkeys(one["field"] for one in faults))
    return answer(request, 422, _in_words(request, UNREADABLE, fields=fields))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    return answer(request, error.status_code, "", headers=dict(error.headers or {}))


async def _stale(request: Request, _error: Exception) -> Response:
    return answer(
        request, 412, i18n.noop("Somebody else changed this meanwhile. Load it again and repeat your change.")
    )


async def _conflict(request: Request, error: Exception) -> Response:
    log.of(__name__).warning("refused by the database", path=request.url.path, error=str(error).splitlines()[0])
    return answer(request, 409, i18n.noop("This collides with something that exists already."))


async def _unfit(request: Request, error: Exception) -> Response:
    log.of(__name__).warning("not a value for the database", path=request.url.path, error=str(error).splitlines()[0])
    return answer(request, 422, i18n.noop("The request holds a number or a text that is beyond what can be kept."))


async def _unavailable(request: Request, error: Exception) -> Response:
    log.of(__name__).warning("database unreachable", path=request.url.path, error=type(error).__name__)
    detail = i18n.noop("The database does not answer. Please try again in a moment.")
    return answer(request, 503, detail, headers={"Retry-After": "3"})


async def _unexpected(request: Request, error: Exception) -> Response:
    # The server logs the traceback itself; this line ties it to the address.
    log.of(__name__).error("unexpected error", path=request.url.path, error=type(error).__name__)
    return answer(request, 500, i18n.noop("The error was written to the log."))


def _in_words(request: Request, sentence: str, **values: object) -> str:
    token = i18n.language.set(getattr(request.state, "language", "en"))
    try:
        return i18n.gettext(sentence, **values)
    finally:
        i18n.language.reset(token)


def _is_api(request: Request) -> bool:
    return request.url.path.startswith(("/api/", "/health/", "/metrics"))


def answer(
    request: Request,
    status: int,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    **extra: Any,  # noqa: ANN401
) -> Response:
    """Return an error as problem+json for programs, as a page for people."""
    title = TITLES.get(status, TITLES[500])
    if _is_api(request):
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **extra}
        return JSONResponse(body, status, headers, media_type="application/problem+json")
    return pages.error(request, status, title, detail, headers=headers or {})
