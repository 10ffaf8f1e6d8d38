"""How far back a device speaks for its asset, where history from before it was bound here is imported.

Its first binding may begin with its history, but never before what another device measured on that asset ended.
"""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from assets import dirty
from assets.models import Binding, Device
from kernel import audit, clock


def first_binding(session: Session, device_id: int) -> Binding | None:
    """Return the binding of a device that may begin earlier; None if it never measured anything."""
    return session.scalars(
        select(Binding).where(Binding.device_id == device_id).order_by(Binding.starts_at).limit(1)
    ).one_or_none()


def earliest(session: Session, binding: Binding) -> datetime | None:
    """Return when the devices that were on the asset before this one had left it; None if there were none."""
    return session.scalar(
        select(func.max(Binding.ends_at)).where(
            Binding.asset_id == binding.asset_id,
            Binding.device_id != binding.device_id,
            Binding.ends_at <= binding.starts_at,
        )
    )


def backdate(session: Session, device_id: int, first_ms: int, *, actor: str, now: datetime) -> None:
    """Let a device's first binding begin with its history, as far back as nothing else was bound there."""
    binding = first_binding(session, device_id)
    if binding is None:
        return
    session.refresh(binding, with_for_update=True)
    others = earliest(session, binding)
    first = clock.from_ms(first_ms)
    begins = max(first, others) if others is not None else first
    if begins >= binding.starts_at:
        return
    before, binding.starts_at = binding.starts_at, begins
    session.flush()
    audit.record(
        session,
        "device.backdate",
        subject=f"device:{device_id}",
        actor=actor,
        at=now,
        before={"asset_id": binding.asset_id, "starts_at": before},
        after={"asset_id": binding.asset_id, "starts_at": begins},
        company_id=session.get_one(Device, device_id).company_id,
    )
    dirty.mark_device(session, device_id, clock.to_ms(begins), clock.to_ms(before), now)
