"""How devices come in by themselves: a type's shared secret, a one-time claim code, a trusted authority (ING-7).

For provisioning over HTTP and for the embedded broker. An unknown device is refused unless it shows one of the three;
a secret or an authority may ask for a person's approval first (``assets.applications``). Secrets and codes never come
here either: the edge draws one, shows it once, and hands over its fingerprint.

Whoever holds the secret of a type must not become a device that is there already. So a device that comes again gets
credentials only while it was never heard of, through the same enrolment; afterwards a person must give them.

Ten wrong proofs lock their source until the quarter of an hour after the present one has ended.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from assets import applications, chain, credentials, devices, wording
from assets.models import Asset, AssetType, Device, DeviceApplication, Enrolment
from kernel import audit, ids, limits
from kernel.errors import Conflict, Invalid, TooMany, Unauthenticated
from kernel.i18n import noop
from people.models import OrgUnit

KINDS: Final = {
    "secret": noop("Shared secret"),
    "claim": noop("Claim code"),
    "chain": noop("Trusted certificate"),
}
GUESSES: Final = 10
WINDOW: Final = timedelta(minutes=15)
ASKS_A_MINUTE: Final = 120
LONGEST_CLAIM: Final = timedelta(days=90)
CODE_LENGTH: Final = 16
"""Letters of a claim code, about five bits each."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A device as it introduces itself."""

    key: str
    name: str | None = None
    said: dict[str, Any] = field(default_factory=dict)


# What a person sets up --------------------------------------------------------------------------------------------


def offer_secret(
    session: Session,
    secret: str,
    *,
    asset_type: AssetType,
    unit: OrgUnit,
    name: str | None,
    needs_approval: bool,
    actor: str,
    now: datetime,
) -> Enrolment:
    """Let devices of a type come in with a shared secret of 128 random bits or more; they belong to the org unit."""
    made = Enrolment(
        kind="secret",
        name=wording.optional(name, "name") or asset_type.name,
        proof=ids.fingerprint(secret),
        asset_type_id=asset_type.id,
        needs_approval=needs_approval,
    )
    return _added(session, made, unit, actor, now)


def offer_claim(
    session: Session,
    code: str,
    *,
    unit: OrgUnit,
    name: str | None = None,
    asset: Asset | None = None,
    device_key: str | None = None,
    expires_at: datetime,
    actor: str,
    now: datetime,
) -> Enrolment:
    """Let one device come in with a code, once; it measures the asset, if one is given, from then on.

    Raises:
        Invalid: the code expires in the past or in more than 90 days, or the key is not one a device can have.
        Conflict: there is a device of this key already.
    """
    if not now < expires_at <= now + LONGEST_CLAIM:
        raise Invalid("Choose at most {days} days.", field="days", days=LONGEST_CLAIM.days)
    key = (device_key or "").strip() or None
    if key is not None:
        if not devices.KEY.fullmatch(key):
            raise Invalid(
                "A key has 1 to 64 letters, digits, dots, hyphens and underscores, and begins with a letter or digit.",
                field="key",
            )
        if session.scalar(select(Device.id).where(Device.key == key)) is not None:
            raise Conflict("The key {key} is taken. Please choose another.", field="key", key=key)
    made = Enrolment(
        kind="claim",
        name=wording.optional(name, "name") or key or (asset.code if asset else "–"),
        proof=ids.fingerprint(plain(code)),
        asset_id=asset.id if asset else None,
        device_key=key,
        expires_at=expires_at,
    )
    return _added(session, made, unit, actor, now)


def trust_authority(
    session: Session,
    pem: str,
    *,
    unit: OrgUnit,
    name: str | None,
    asset_type: AssetType | None = None,
    needs_approval: bool,
    actor: str,
    now: datetime,
) -> Enrolment:
    """Let devices come in whose certificates an authority has signed itself.

    Raises:
        Invalid: this is no certificate of an authority, or one that has run out.
        Conflict: it is trusted already.
    """
    authority = chain.authority(pem, now)
    if session.scalar(select(Enrolment.id).where(Enrolment.proof == authority.fingerprint)) is not None:
        raise Conflict("This authority is known already.", field="certificate")
    made = Enrolment(
        kind="chain",
        name=wording.optional(name, "name") or authority.name,
        proof=authority.fingerprint,
        certificate=authority.pem,
        asset_type_id=asset_type.id if asset_type else None,
        needs_approval=needs_approval,
        expires_at=authority.ends_at,
    )
    return _added(session, made, unit, actor, now)


def close(session: Session, enrolment: Enrolment, *, actor: str, now: datetime) -> None:
    """Let nobody in this way any more; who came in stays.

    Raises:
        Conflict: it is closed already.
    """
    if enrolment.revoked_at is not None:
        raise Conflict("This is closed already.")
    enrolment.revoked_at = now
    _tell(session, enrolment, "enrolment.close", {"revoked_at": None}, {"revoked_at": now}, actor, now)


# What a device asks -----------------------------------------------------------------------------------------------


def join_with_secret(session: Session, secret: str, asking: Asking, *, now: datetime) -> Device | DeviceApplication:
    """Return the device that may now get credentials, or the application that waits or was declined.

    Raises:
        Unauthenticated: there is no such secret.
        Conflict: there is a device of this key that somebody else may be.
        Invalid, TooMany: as ``devices.register`` and ``applications.apply``.
    """
    offered = _live(session, "secret", Enrolment.proof == ids.fingerprint(secret), now)
    if offered is None:
        raise _wrong()
    return _joined(session, offered, asking, now)


def join_with_code(session: Session, code: str, asking: Asking, *, now: datetime) -> Device:
    """Use up a claim code and return the device that may now get credentials.

    Raises:
        Unauthenticated: there is no such code, it was used, has run out, or is another device's.
        Conflict, Invalid: as ``devices.register`` and ``devices.bind``.
    """
    claim = _live(session, "claim", Enrolment.proof == ids.fingerprint(plain(code)), now)
    if claim is None or claim.used_at is not None or claim.device_key not in (None, asking.key):
        raise _wrong()
    device = _registered(session, claim, asking, now)
    if claim.asset_id is not None:
        asset = session.get_one(Asset, claim.asset_id)
        devices.bind(session, device, asset, actor=_actor(claim), now=now)
    claim.used_at = now
    _tell(session, claim, "enrolment.use", None, {"device_id": device.id}, _actor(claim), now)
    return device


def join_with_certificate(
    session: Session, certificate: bytes, *, said: dict[str, Any], now: datetime
) -> Device | DeviceApplication:
    """Return the device that a certificate (DER) lets in from now on, or the application that waits or was declined.

    The caller has seen that the device holds its private key.

    Raises:
        Unauthenticated: no trusted authority signed it, or it has run out.
        Conflict, Invalid, TooMany: as ``join_with_secret``.
    """
    leaf = chain.leaf(certificate, now)
    authorities = session.scalars(
        select(Enrolment).where(Enrolment.kind == "chain", Enrolment.revoked_at.is_(None), Enrolment.expires_at > now)
    )
    if leaf is None:
        raise _wrong()
    trusted = next((one for one in authorities if chain.is_signed(leaf, one.certificate or "")), None)
    if trusted is None:
        raise _wrong()
    found = _joined(session, trusted, Asking(leaf.common_name, None, said), now)
    if isinstance(found, Device):
        credentials.accept_certificate(session, found, True, actor=_actor(trusted), now=now)
    return found


def plain(code: str) -> str:
    """Return a code as it is kept: without the hyphens and blanks it is read out with."""
    return "".join(code.split()).replace("-", "").upper()


# How often --------------------------------------------------------------------------------------------------------


def require_room(session: Session, source: str, now: datetime) -> None:
    """Make sure that a source is not locked and does not ask too often. The caller commits the count at once.

    Raises:
        TooMany: it is, or does.
    """
    key = f"provision/wrong/{source}"
    if any(limits.used(session, key, window=WINDOW, now=moment) >= GUESSES for moment in (now, now - WINDOW)):
        raise TooMany("Too many wrong secrets came from here. It is locked for a while.", retry_after_s=900)
    limits.spend(session, f"provision/{source}", limit=ASKS_A_MINUTE, window=timedelta(minutes=1), now=now)


def count_wrong(session: Session, source: str, now: datetime) -> None:
    """Count a wrong secret, code or certificate of a source; the tenth locks it and is written down."""
    if limits.count(session, f"provision/wrong/{source}", window=WINDOW, now=now) == GUESSES:
        after: dict[str, object] = {"wrong": GUESSES, "minutes": int(WINDOW.total_seconds() // 60)}
        audit.record(session, "provision.lock", subject=f"source:{source}"[:80], actor="system", at=now, after=after)


# How --------------------------------------------------------------------------------------------------------------


def _joined(session: Session, offered: Enrolment, asking: Asking, now: datetime) -> Device | DeviceApplication:
    known = session.scalars(select(Device).where(Device.key == asking.key).with_for_update()).one_or_none()
    if known is not None:
        if not _is_its_own(session, known, offered):
            raise Conflict("The device {key} is known already. Only a person may give it credentials.", key=known.key)
        known.enrolment_id = offered.id
        return known
    if not offered.needs_approval:
        offered.used_at = now
        return _registered(session, offered, asking, now)
    return applications.apply(
        session,
        key=asking.key,
        origin=offered.kind,
        unit=session.get_one(OrgUnit, offered.unit_id),
        asset_type=offered.asset_type,
        name=asking.name,
        said=asking.said,
        now=now,
    )


def _is_its_own(session: Session, device: Device, offered: Enrolment) -> bool:
    """Return whether a device that is known may get credentials through an enrolment: nobody was it yet."""
    is_fresh = device.revoked_at is None and device.last_seen_at is None and device.online_changed_at is None
    if device.company_id != offered.company_id or not is_fresh:
        return False
    if device.enrolment_id is not None:
        return device.enrolment_id == offered.id
    approved = select(DeviceApplication.id).where(
        DeviceApplication.device_id == device.id,
        DeviceApplication.origin == offered.kind,
        DeviceApplication.asset_type_id.is_not_distinct_from(offered.asset_type_id),
    )
    return device.password_hash is None and session.scalar(approved) is not None


def _registered(session: Session, offered: Enrolment, asking: Asking, now: datetime) -> Device:
    draft = devices.DeviceDraft(asking.key, asking.name or asking.key)
    unit = session.get_one(OrgUnit, offered.unit_id)
    device = devices.register(session, draft, unit=unit, actor=_actor(offered), now=now)
    device.enrolment_id = offered.id
    session.flush()
    return device


def _live(session: Session, kind: str, proof: ColumnElement[bool], now: datetime) -> Enrolment | None:
    found = session.scalars(
        select(Enrolment).where(Enrolment.kind == kind, proof, Enrolment.revoked_at.is_(None)).with_for_update()
    ).one_or_none()
    return found if found is not None and (found.expires_at is None or now < found.expires_at) else None


def _wrong() -> Unauthenticated:
    return Unauthenticated("This secret, code or certificate lets nobody in.")


def _actor(enrolment: Enrolment) -> str:
    return f"enrolment:{enrolment.id}"


def _added(session: Session, made: Enrolment, unit: OrgUnit, actor: str, now: datetime) -> Enrolment:
    made.company_id, made.unit_id = unit.company_id or unit.id, unit.id
    made.created_at, made.created_by = now, actor
    made.needs_approval = bool(made.needs_approval)
    session.add(made)
    session.flush()
    after: dict[str, object] = {"kind": made.kind, "name": made.name, "needs_approval": made.needs_approval}
    _tell(session, made, "enrolment.offer", None, after, actor, now)
    return made


def _tell(  # noqa: PLR0917 - one argument a column of the audit trail
    session: Session,
    enrolment: Enrolment,
    action: str,
    before: dict[str, object] | None,
    after: dict[str, object],
    actor: str,
    now: datetime,
) -> None:
    audit.record(
        session,
        action,
        subject=f"enrolment:{enrolment.id}",
        actor=actor,
        at=now,
        before=before,
        after=after,
        company_id=enrolment.company_id,
    )
