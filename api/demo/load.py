"""A fleet as large and as fast as one likes, to see what an installation bears: ``fixwright simulate``."""

import hashlib
import hmac
import math
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import credentials, passwords
from assets import devices as registry
from assets.models import Device
from ingest.simulator import Member
from kernel.errors import NotFound
from people.models import OrgUnit

PREFIX = "sim-"


def members(session: Session, secret: bytes, *, devices: int, rate: float, now: datetime) -> list[Member]:
    """Return so many devices that together publish ``rate`` messages a second; those that are missing are registered.

    Raises:
        NotFound: there is no company to register them in.
    """
    company = session.scalars(select(OrgUnit).where(OrgUnit.parent_id.is_(None)).order_by(OrgUnit.id).limit(1)).first()
    if company is None:
        raise NotFound("There is no company yet. Start Fixwright once first.")
    keys = [f"{PREFIX}{number:05d}" for number in range(devices)]
    known = set(session.scalars(select(Device.key).where(Device.key.in_(keys))))
    for key in keys:
        if key not in known:
            draft = registry.DeviceDraft(key, f"Simulated {key}")
            device = registry.register(session, draft, unit=company, actor="system", now=now)
            credentials.issue(session, device, passwords.hashed(_password(secret, key)), actor="system", now=now)
    return [Member(key, _password(secret, key), _wave(number), devices / rate) for number, key in enumerate(keys)]


def _password(secret: bytes, key: str) -> str:
    return hmac.new(secret, f"simulated device {key}".encode(), hashlib.sha256).hexdigest()[:32]


def _wave(number: int) -> Callable[[int], dict[str, float]]:
    """Return what a device measures: three smooth curves, shifted by its number."""

    def read(now_ms: int) -> dict[str, float]:
        angle = now_ms / 600_000 * 2 * math.pi + number
        return {
            "temperature": round(60 + 10 * math.sin(angle), 2),
            "pressure": round(6 + math.cos(angle), 3),
            "vibration": round(2 + 0.5 * math.sin(3 * angle), 3),
        }

    return read
