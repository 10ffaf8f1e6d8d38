"""The address where devices come in by themselves: with a type's secret, a claim code, or a certificate.

Public, because a device that asks has no account yet; limited by address, and locked after ten wrong proofs.
"""

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.access import Anyone, Db, address_of
from assets import chain, credentials, enrolment, passwords
from assets.enrolment import Asking
from assets.models import Device, DeviceApplication
from kernel import clock
from kernel.errors import Forbidden, Invalid, Unauthenticated

router = APIRouter(prefix="/provision", tags=["devices"])


class ProvisionIn(BaseModel):
    """A device that asks to come in. It shows one of ``secret``, ``code`` and ``certificate``."""

    key: str = Field("", max_length=80, description="What it wants to be called; a certificate says so itself.")
    name: str | None = Field(None, max_length=200)
    said: dict[str, Any] = Field(default_factory=dict, description="What it tells of itself: serial, model, firmware.")
    secret: str | None = Field(None, max_length=200, description="The shared secret of its type.")
    code: str | None = Field(None, max_length=60, description="A claim code; it works once.")
    certificate: str | None = Field(None, max_length=20_000, description="Its certificate, in PEM.")
    time: str | None = Field(None, max_length=40, description="With a certificate: its time, ISO 8601 with offset.")
    signature: str | None = Field(
        None,
        max_length=2_000,
        description="With a certificate: base64 of the signature over `fixwright-provision {common name} {time}`.",
    )


class ProvisionOut(BaseModel):
    """What became of it. The password is told this once; a device with a certificate needs none."""

    status: Literal["ready", "waiting"]
    key: str
    username: str | None = None
    password: str | None = None
    topic: str | None = None


@router.post("", status_code=201, responses={202: {"model": ProvisionOut}})
def provision(request: Request, response: Response, db: Db, _: Anyone, body: ProvisionIn) -> ProvisionOut:
    """Let a device in by what it shows: 201 with its credentials, or 202 while a person has to approve.

    Ask again after 202. 401: what it shows lets nobody in; ten such lock the address for a while (429).
    403: a person declined it. 409: a device of this key is known already.
    """
    now, source = clock.now(), address_of(request)
    response.headers["Cache-Control"] = "no-store"
    enrolment.require_room(db, source, now)
    db.commit()  # what is counted stays counted, whatever becomes of the request
    try:
        found = _joined(db, body)
    except Unauthenticated:
        db.rollback()
        enrolment.count_wrong(db, source, now)
        db.commit()
        raise
    if isinstance(found, DeviceApplication):
        if found.state == "declined":
            raise Forbidden("A person has declined this device.")
        response.status_code = 202
        return ProvisionOut(status="waiting", key=found.key)
    return _ready(db, found, has_certificate=body.certificate is not None)


def _joined(db: Session, body: ProvisionIn) -> Device | DeviceApplication:
    now = clock.now()
    asking = Asking(body.key, body.name, body.said)
    if body.certificate is not None:
        der = chain.der_of(body.certificate)
        leaf = chain.leaf(der, now)
        if leaf is None or not chain.holds_key(leaf, body.time or "", body.signature or "", now):
            raise Unauthenticated("This secret, code or certificate lets nobody in.")
        if body.key not in ("", leaf.common_name):
            raise Invalid("The certificate names another device.", field="key")
        return enrolment.join_with_certificate(db, der, said=body.said, now=now)
    if body.secret is not None:
        return enrolment.join_with_secret(db, body.secret, asking, now=now)
    if body.code is not None:
        return enrolment.join_with_code(db, body.code, asking, now=now)
    raise Invalid("Show a secret, a code or a certificate.", field="secret")


def _ready(db: Session, device: Device, *, has_certificate: bool) -> ProvisionOut:
    password = None
    if not has_certificate:
        password = passwords.draw()
        actor = f"enrolment:{device.enrolment_id}"
        credentials.issue(db, device, passwords.hashed(password), actor=actor, now=clock.now())
    topic = f"fw/v1/{device.key}/telemetry"
    return ProvisionOut(status="ready", key=device.key, username=device.key, password=password, topic=topic)
