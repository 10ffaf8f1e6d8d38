"""What an EMQX cluster asks over HTTP: who may connect, and who may use a topic.

The format is that of EMQX 5. Whatever goes wrong is answered with ``deny``, because EMQX takes an error for
``ignore``, which other links of its chain may turn into an entry. Both addresses are guarded by
``FIXWRIGHT_BROKER_SECRET`` and deny everything where it is not set or not shown.
"""

import hmac
from collections.abc import Sequence
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.access import Parts, open_to_all
from api.runtime import Runtime
from assets import identity
from assets.identity import Login
from assets.models import Device
from ingest import mappings, topics
from ingest.credentials import INGEST_USER, Checker
from kernel import clock, log

router = APIRouter(prefix="/broker/emqx", tags=["broker"])
_checker = Checker()
_ABSENT = {"", "undefined", "null"}
"""How EMQX writes what a connection did not bring."""

_log = log.of(__name__)


class Connecting(BaseModel):
    """A connection as the template in our documentation describes it."""

    username: str | None = None
    password: str | None = None
    clientid: str | None = None
    cert_common_name: str | None = None


class Using(BaseModel):
    """A topic that a connection wants to publish to, or a filter it wants to subscribe to."""

    username: str | None = None
    action: str | None = None
    topic: str | None = None


class Rule(BaseModel):
    """A right that EMQX 5.8 and newer keep with the connection, so that they need not ask about each topic."""

    permission: Literal["allow", "deny"]
    action: Literal["publish", "subscribe", "all"]
    topic: str


class Verdict(BaseModel):
    """The answer. ``expire_at`` (seconds since 1970) ends a connection with the password before in time."""

    result: Literal["allow", "deny"]
    is_superuser: bool | None = None
    expire_at: int | None = None
    acl: list[Rule] | None = None


DENY = Verdict(result="deny")


def _is_guarded(parts: Parts, authorization: Annotated[str | None, Header()] = None) -> bool:
    """Return whether the broker has shown the secret that is set."""
    secret = parts.settings.broker_secret
    if secret is None:
        return False
    wanted = f"Bearer {secret.get_secret_value()}"
    return hmac.compare_digest((authorization or "").encode(), wanted.encode())


Guarded = Annotated[bool, Depends(_is_guarded)]


@router.post("/authentication", response_model_exclude_none=True)
@open_to_all
def authentication(parts: Parts, guarded: Guarded, body: Connecting | None = None) -> Verdict:
    """Say whether a connection may come in, with the rights it has then."""
    if not guarded or body is None:
        return _unguarded()
    try:
        with parts.sessions() as session:
            return _admitted(session, parts, body)
    except (SQLAlchemyError, OSError) as error:
        _log.error("a connection was refused, because who it is could not be looked up", reason=type(error).__name__)
        return DENY


@router.post("/authorization", response_model_exclude_none=True)
@open_to_all
def authorization(parts: Parts, guarded: Guarded, body: Using | None = None) -> Verdict:
    """Say whether a connection may publish to a topic or subscribe to a filter."""
    if not guarded or body is None:
        return _unguarded()
    user, topic = _given(body.username), body.topic or ""
    if user == INGEST_USER:
        return Verdict(result="allow")
    key = identity.key_of(user)
    if not topics.is_device_key(key):
        return DENY
    try:
        with parts.sessions() as session:
            live = select(Device.id).where(Device.key == key, Device.revoked_at.is_(None))
            if session.scalar(live) is None:
                return DENY
            return Verdict(result="allow") if _reaches(session, key, body.action, topic) else DENY
    except (SQLAlchemyError, OSError) as error:
        _log.error("a topic was refused, because its device could not be looked up", reason=type(error).__name__)
        return DENY


def _admitted(session: Session, parts: Runtime, body: Connecting) -> Verdict:
    user, password, client_id = _given(body.username), body.password or "", body.clientid or ""
    if user == INGEST_USER:
        return _platform(parts, password)
    login = Login(user, password, client_id, _given(body.cert_common_name) or None)
    device = session.scalars(select(Device).where(Device.key == login.key, Device.revoked_at.is_(None))).one_or_none()
    if device is None or not identity.may_use_client_id(device.credentials, device.key, client_id):
        return DENY
    shown = device.credentials
    admission = identity.admit(shown, login, key=device.key, now=clock.now(), is_right=_checker.is_right)
    if admission is None:
        return DENY
    until = None if admission.until is None else int(admission.until.timestamp())
    granted = [name for name, bridge in mappings.topics(session) if bridge == device.key]
    return Verdict(result="allow", is_superuser=False, expire_at=until, acl=_rules(device.key, granted))


def _platform(parts: Runtime, password: str) -> Verdict:
    wanted = unquote(urlsplit(parts.settings.mqtt_url or "").password or "")
    if not wanted or not hmac.compare_digest(password.encode(), wanted.encode()):
        return DENY
    return Verdict(result="allow", is_superuser=True)


def _rules(key: str, granted: Sequence[str]) -> list[Rule]:
    publishes = [*topics.patterns(key, topics.DEVICE_PUBLISHES, topics.SPARKPLUG_PUBLISHES), *granted]
    subscribes = topics.patterns(key, topics.DEVICE_SUBSCRIBES, topics.SPARKPLUG_SUBSCRIBES)
    return [
        *(Rule(permission="allow", action="publish", topic=name) for name in publishes),
        *(Rule(permission="allow", action="subscribe", topic=name) for name in subscribes),
        Rule(permission="deny", action="all", topic="#"),
    ]


def _reaches(session: Session, key: str, action: str | None, topic: str) -> bool:
    if action == "publish":
        return topics.may_publish(key, topic) or any(
            bridge == key and _takes(name, topic) for name, bridge in mappings.topics(session)
        )
    return action == "subscribe" and topics.may_subscribe(key, topic)


def _takes(topic_filter: str, topic: str) -> bool:
    """Return whether a topic filter, with ``#`` at its end or without, takes in a topic."""
    if not topic_filter.endswith("/#"):
        return topics.matches(topic_filter, topic)
    levels = topic_filter.split("/")[:-1]
    return topics.matches("/".join(levels), "/".join(topic.split("/")[: len(levels)]))


def _given(text: str | None) -> str:
    return "" if text is None or text in _ABSENT else text


def _unguarded() -> Verdict:
    _log.warning("a broker asked without the secret in FIXWRIGHT_BROKER_SECRET")
    return DENY
