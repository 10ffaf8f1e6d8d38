"""Rendering: one environment, one context for every page, fragments for htmx.

A template gets the viewer, the rail its rights allow, the language and ``_``; it never queries.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api.web import assets, display
from kernel import clock, i18n
from people.scope import Viewer

FOLDER = Path(__file__).parent
LANGUAGE_COOKIE = "lang"
THEME_COOKIE = "theme"
FLASH_COOKIE = "flash"
RAIL = (
    ("now", i18n.noop("Now"), "/", "home", None),
    ("alarms", i18n.noop("Alarms"), "/alarms", "bell", "alarms.read"),
    ("orders", i18n.noop("Orders"), "/orders", "clipboard-list", "orders.read"),
    ("assets", i18n.noop("Assets"), "/assets", "building-factory-2", "assets.read"),
    ("plans", i18n.noop("Plan"), "/plans", "calendar-event", "plans.read"),
    ("parts", i18n.noop("Parts"), "/parts", "packages", "parts.read"),
    ("settings", i18n.noop("Settings"), "/settings", "settings", None),
)
BELOW = {
    "/alarms": ("/codes", "/escalation"),
    "/orders": ("/requests",),
    "/plans": ("/trends",),
    "/assets": ("/devices", "/types", "/sites", "/rules", "/backtests", "/exports", "/imports"),
    "/settings": (
        *("/people", "/teams", "/roles", "/skills", "/units"),
        *("/labels", "/mappings", "/rejected", "/deliveries", "/audit"),
    ),
}
"""Pages that are reached through a place of the rail and have addresses of their own: the place stays lit."""
PHONE_RAIL = (
    ("my", i18n.noop("My day"), "/my", "home", "orders.work"),
    ("orders", i18n.noop("Orders"), "/orders", "clipboard-list", "orders.read"),
    ("assets", i18n.noop("Assets"), "/assets", "building-factory-2", "assets.read"),
    ("parts", i18n.noop("Parts"), "/parts", "packages", "parts.read"),
)


@jinja2.pass_context
def _called(context: jinja2.runtime.Context, thing: Any) -> str:  # noqa: ANN401 - anything with two names
    """Return a thing's name in the language of this page."""
    return thing.called(context["lang"]) if thing is not None else ""


@cache
def environment() -> jinja2.Environment:
    """Return the one template environment: escaping always on, unknown names an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    display.install(made)
    made.globals["asset_url"] = assets.url
    made.filters["called"] = _called
    return made


def _rail(
    entries: Sequence[tuple[str, str, str, str, str | None]], viewer: Viewer | None, language: str, path: str
) -> list[Any]:
    words = i18n.catalogue(language)
    above = {below: href for href, pages in BELOW.items() for below in pages}
    here = above.get("/" + path.split("/")[1], path)
    return [
        {
            "key": key,
            "label": words.get(label, label),
            "href": href,
            "icon": icon,
            "count": None,
            "is_here": here == href or (href != "/" and here.startswith(f"{href}/")),
        }
        for key, label, href, icon, right in entries
        if viewer and (right is None or viewer.may(right))
    ]


def language_of(request: Request, viewer: Viewer | None = None) -> str:
    """Return the language of a page: the one chosen in this browser, the account's, or what the browser asks for."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in i18n.LANGUAGES:
        return chosen
    return viewer.language if viewer else i18n.preferred(request.headers.get("accept-language"))


def context_of(request: Request, template: str) -> dict[str, Any]:
    """Return what every page knows."""
    viewer: Viewer | None = getattr(request.state, "viewer", None)
    language = getattr(request.state, "language", None) or language_of(request)
    i18n.language.set(language)
    on_phone = template.startswith("work/")
    return {
        "request": request,
        "viewer": viewer,
        "rail": _rail(PHONE_RAIL if on_phone else RAIL, viewer, language, request.url.path),
        "lang": language,
        "theme": request.cookies.get(THEME_COOKIE, "auto"),
        "path": request.url.path,
        "query": request.query_params,
        "csrf_token": getattr(request.state, "csrf_token", ""),
        "now": clock.now(),
        "zone": ZoneInfo(viewer.zone) if viewer else UTC,
        "flashes": _flashes(request, language),
        "notices": getattr(request.state, "notices", 0),
        "is_demo": request.app.state.runtime.is_demo,
        "scan_href": "/scan",
        "manifest_url": "/manifest.webmanifest",
    }


def _flashes(request: Request, language: str) -> list[dict[str, Any]]:
    raw = request.cookies.get(FLASH_COOKIE)
    if not raw:
        return []
    try:
        kept = json.loads(unquote(raw))
        text = i18n.catalogue(language).get(kept["text"], kept["text"])
        return [{"text": text.format(**kept["values"]), "kind": kept["kind"], "undo": kept["undo"]}]
    except (ValueError, KeyError, TypeError, IndexError):
        return []


def render(
    request: Request,
    template: str,
    /,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,  # noqa: ANN401 - whatever the template shows
) -> HTMLResponse:
    """Return a page, or a fragment when the template is one."""
    context = {**context_of(request, template), **values}
    response = HTMLResponse(environment().get_template(template).render(context), status, dict(headers or {}))
    if context["flashes"]:
        response.delete_cookie(FLASH_COOKIE)
    return response


def wants_fragment(request: Request) -> bool:
    """Return whether htmx asked, for a part of a page."""
    return request.headers.get("hx-request") == "true"


def go(
    url: str,
    *,
    notice: str | None = None,
    kind: str = "good",
    undo: str | None = None,
    **values: Any,  # noqa: ANN401 - placeholders of the notice
) -> RedirectResponse:
    """Send the browser on after a change.

    ``notice`` (English with placeholders, translated when shown) appears there once, as ``good``, ``info``,
    ``warning`` or ``bad``; ``undo`` is the address that a POST takes it back with.
    """
    response = RedirectResponse(url, status_code=303)
    if notice:
        kept = {"text": notice, "kind": kind, "undo": undo, "values": values}
        response.set_cookie(FLASH_COOKIE, quote(json.dumps(kept)), max_age=60, httponly=True, samesite="lax")
    return response


def sign_in_url(request: Request) -> str:
    """Return the address of the sign-in page that leads back here."""
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"/login?next={quote(target if request.method == 'GET' else '/')}"


def error(request: Request, status: int, title: str, detail: str, *, headers: Mapping[str, str]) -> Response:
    """Return an error as a page that says what happened and what to do next."""
    words = i18n.catalogue(context_of(request, "error.html")["lang"])
    values = {"title": words.get(title, title), "detail": words.get(detail, detail), "next_step": None, "trace": None}
    context = {**context_of(request, "error.html"), "status": status, **values}
    return HTMLResponse(environment().get_template("error.html").render(context), status, dict(headers))
