"""The door, and one's own account: signing in and out, language and theme, password, sign-ins, tokens."""

from datetime import datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from api.access import COOKIE, Anyone, Db, Parts, SignedIn, address_of
from api.runtime import Runtime
from api.web import browsers, forms, pages
from kernel import clock, i18n
from kernel.errors import FixwrightError, Forbidden, Invalid, TooMany, Unauthenticated
from people import accounts, sign_in, tokens
from people.models import Account
from people.rights import RIGHTS, ROLES
from people.scope import Viewer

router = APIRouter()
DEVICE_COOKIE = "fixwright_browser"
"""Marks a browser in which somebody has signed in before; see ``people.sign_in``."""
YEAR_S = 365 * 24 * 3600
MONTH_S = 30 * 24 * 3600
THEMES = ("auto", "light", "dark")
Text = Annotated[str, Form()]


@router.get("/login")
def door(request: Request, parts: Parts, visitor: Anyone, next: str = "/") -> Response:  # noqa: A002 - the address says so
    """Ask who it is; somebody who is signed in is sent on."""
    if visitor is not None:
        return pages.go(_inside(next))
    return _door(request, parts, onward=_inside(next))


@router.post("/login")
def enter(
    request: Request,
    db: Db,
    parts: Parts,
    _visitor: Anyone,
    username: Text = "",
    password: Text = "",
    next: Text = "/",  # noqa: A002 - the field says so
) -> Response:
    """Let somebody in, with a new cookie; say the same to a wrong name as to a wrong password."""
    if request.headers.get("sec-fetch-site") == "cross-site":
        raise Forbidden("This form is no longer valid. Please load the page again and send it once more.")
    now = clock.now()
    address, device = address_of(request), request.cookies.get(DEVICE_COOKIE)
    try:
        account = accounts.authenticate(db, username, password, address=address, device=device, now=now)
    except TooMany as slow:
        errors = forms.refused(request, slow)
        headers = {"Retry-After": str(slow.retry_after_s)}
        return _door(request, parts, onward=_inside(next), status=429, errors=errors, typed=username, headers=headers)
    if account is None:
        errors = forms.refused(request, Unauthenticated("The user name or the password is wrong."))
        return _door(request, parts, onward=_inside(next), status=422, errors=errors, typed=username)
    return _let_in(request, db, parts, account, _inside(next), now)


def _let_in(
    request: Request, db: Session, parts: Runtime, account: Account, onward: str, now: datetime
) -> RedirectResponse:
    before = sign_in.current(db, request.cookies.get(COOKIE, ""), now)
    if before is not None:
        # A new sign-in replaces the browser's old one, whoever's that was.
        sign_in.end(db, before.account, before.id, actor=f"account:{before.account_id}", now=now)
    begun = sign_in.begin(
        db,
        account,
        address=address_of(request),
        agent=request.headers.get("user-agent", ""),
        lasts=timedelta(hours=parts.settings.session_hours),
        now=now,
    )
    answer = pages.go(onward)
    secure = parts.settings.is_secure
    answer.set_cookie(COOKIE, begun.secret, max_age=MONTH_S, httponly=True, samesite="lax", secure=secure)
    answer.set_cookie(
        DEVICE_COOKIE, begun.device, max_age=YEAR_S, path="/login", httponly=True, samesite="lax", secure=secure
    )
    return answer


@router.post("/logout")
def leave(request: Request, db: Db, visitor: Anyone) -> Response:
    """End this browser's sign-in; without one there is nothing to end."""
    now = clock.now()
    row = sign_in.current(db, request.cookies.get(COOKIE, ""), now)
    if row is not None and visitor is not None:
        sign_in.end(db, row.account, row.id, actor=visitor.actor, now=now)
    answer = pages.go("/login")
    answer.delete_cookie(COOKIE)
    return answer


@router.get("/preferences")
def prefer_here(_visitor: Anyone, lang: str = "", theme: str = "", next: str = "/") -> Response:  # noqa: A002
    """Remember language or theme in this browser and go back; the account's own stay as they are."""
    answer = pages.go(_inside(next))
    if lang in i18n.LANGUAGES:
        answer.set_cookie(pages.LANGUAGE_COOKIE, lang, max_age=YEAR_S, samesite="lax")
    if theme in THEMES:
        answer.set_cookie(pages.THEME_COOKIE, theme, max_age=YEAR_S, samesite="lax")
    return answer


@router.get("/account")
def own(request: Request, db: Db, viewer: SignedIn) -> Response:
    """Show one's own account."""
    return _own(request, db, viewer)


@router.post("/account")
def change_own(
    request: Request, db: Db, viewer: SignedIn, language: Text, zone: Text, theme: Text = "auto"
) -> Response:
    """Keep the language and zone one reads in, also for mail, and this browser's theme."""
    try:
        accounts.prefer(db, _self(db, viewer), language=language, zone=zone, now=clock.now())
    except FixwrightError as error:
        db.rollback()
        return _own(request, db, viewer, status=422, errors=forms.refused(request, error))
    answer = pages.go("/account", notice=i18n.noop("Your settings are kept."))
    answer.set_cookie(pages.LANGUAGE_COOKIE, language, max_age=YEAR_S, samesite="lax")
    if theme in THEMES:
        answer.set_cookie(pages.THEME_COOKIE, theme, max_age=YEAR_S, samesite="lax")
    return answer


@router.post("/account/password")
def change_password(request: Request, db: Db, viewer: SignedIn, old: Text, new: Text) -> Response:
    """Change one's password; every other sign-in ends."""
    now = clock.now()
    here = sign_in.current(db, request.cookies.get(COOKIE, ""), now)
    keep = here.id if here else None
    try:
        done = accounts.change_password(
            db, _self(db, viewer), old=old, new=new, keep_sign_in=keep, address=address_of(request), now=now
        )
    except FixwrightError as error:
        db.rollback()
        return _own(request, db, viewer, status=422, errors=forms.refused(request, error))
    if not done:
        errors = forms.refused(request, Invalid("This is not your present password.", field="old"))
        return _own(request, db, viewer, status=422, errors=errors)
    return pages.go("/account", notice=i18n.noop("Your password is changed. Other browsers are signed out."))


@router.post("/account/sign-ins/{sign_in_id}/end")
def end_sign_in(db: Db, viewer: SignedIn, sign_in_id: int) -> Response:
    """End one of one's own sign-ins."""
    sign_in.end(db, _self(db, viewer), sign_in_id, actor=viewer.actor, now=clock.now())
    return pages.go("/account", notice=i18n.noop("That browser is signed out."))


@router.post("/account/sign-ins/end-others")
def end_other_sign_ins(request: Request, db: Db, viewer: SignedIn) -> Response:
    """End every sign-in of one's own but this one."""
    now = clock.now()
    here = sign_in.current(db, request.cookies.get(COOKIE, ""), now)
    but = here.id if here else None
    sign_in.end_all(db, _self(db, viewer), but=but, actor=viewer.actor, now=now)
    return pages.go("/account", notice=i18n.noop("All other browsers are signed out."))


@router.post("/account/tokens")
def make_token(
    request: Request,
    db: Db,
    viewer: SignedIn,
    name: Text,
    days: Text = "90",
    right: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Make a token for a program and show it, this once."""
    now = clock.now()
    try:
        lasts = timedelta(days=min(forms.whole(days, "days") or 90, tokens.LONGEST.days))
        _, secret = tokens.create(
            db, _self(db, viewer), name=name, expires_at=now + lasts, rights=right or None, by=viewer, now=now
        )
    except FixwrightError as error:
        db.rollback()
        errors = {f"token_{field}" if field else field: text for field, text in forms.refused(request, error).items()}
        return _own(request, db, viewer, status=422, errors=errors)
    # Shown in the answer itself: behind a redirect it would have to be kept somewhere.
    return _own(request, db, viewer, status=201, secret=secret)


@router.post("/account/tokens/{token_id}/revoke")
def revoke_token(db: Db, viewer: SignedIn, token_id: int) -> Response:
    """Make one of one's own tokens void."""
    tokens.revoke(db, _self(db, viewer), token_id, actor=viewer.actor, now=clock.now())
    return pages.go("/account", notice=i18n.noop("The token is void."))


def _door(
    request: Request,
    parts: Runtime,
    *,
    onward: str,
    status: int = 200,
    errors: dict[str, str] | None = None,
    typed: str = "",
    headers: dict[str, str] | None = None,
) -> Response:
    return pages.render(
        request,
        "account/login.html",
        status=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        onward=onward,
        errors=errors or {},
        typed=typed[:100],
        demo=[(role, ROLES[role][0], *account) for role, *account in parts.demo_accounts],
    )


def _own(
    request: Request,
    db: Session,
    viewer: Viewer,
    *,
    status: int = 200,
    errors: dict[str, str] | None = None,
    secret: str = "",
) -> Response:
    account, now = _self(db, viewer), clock.now()
    here = sign_in.current(db, request.cookies.get(COOKIE, ""), now)
    return pages.render(
        request,
        "account/own.html",
        status=status,
        headers={"Cache-Control": "no-store"},
        account=account,
        sign_ins=[(row, browsers.called(row.agent)) for row in sign_in.living(db, account, now)],
        this_browser=here.id if here else None,
        tokens=tokens.of_account(db, account),
        secret=secret,
        rights=[(right, RIGHTS[right]) for right in sorted(viewer.reach)],
        zones=sorted(available_timezones()),
        local_now=now.astimezone(ZoneInfo(account.zone)),
        errors=errors or {},
    )


def _self(db: Session, viewer: Viewer) -> Account:
    return db.get_one(Account, viewer.account_id)


def _inside(address: str) -> str:
    """Return an address of ours to go on to; anything that could lead elsewhere leads home."""
    plain = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if plain and not any(ord(letter) < ord(" ") for letter in address) else "/"
