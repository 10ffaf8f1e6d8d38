"""Edge nodes and devices that nobody registered: their births ask to be let in, and a person decides (ING-7)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import applications
from assets.models import Device
from kernel import log
from kernel.errors import FixwrightError
from people.models import OrgUnit

_LONGEST_NAME: Final = 100
_METRICS_TOLD: Final = 50

_log = log.of(__name__)


@dataclass(frozen=True, slots=True)
class Stranger:
    """Who was born and is not known. ``gateway`` is the key of the node it stands behind, None for a node."""

    key: str
    name: str
    group: str
    gateway: str | None
    metrics: list[str]


def let_ask(session: Session, strangers: Iterable[Stranger], *, now: datetime) -> None:
    """Let strangers ask to be let in: a device where its node belongs, a node at the only company there is.

    A node that might be of several companies is not proposed to any; its messages are among the rejected ones.
    """
    for stranger in strangers:
        gateway = None
        if stranger.gateway is not None:
            gateway = session.scalars(select(Device).where(Device.key == stranger.gateway)).one_or_none()
        unit = _only_company(session) if gateway is None else session.get(OrgUnit, gateway.unit_id)
        if unit is None:
            continue
        said = {"group": stranger.group, "metrics": stranger.metrics[:_METRICS_TOLD]}
        try:
            applications.apply(
                session,
                key=stranger.key,
                origin="sparkplug",
                unit=unit,
                gateway=gateway,
                name=stranger.name[:_LONGEST_NAME],
                said=said,
                now=now,
            )
        except FixwrightError as error:
            # Too many wait, or the key is another's: the message is set aside anyway, with its reason.
            _log.info("a sparkplug stranger could not ask", key=stranger.key, reason=str(error))


def _only_company(session: Session) -> OrgUnit | None:
    companies = session.scalars(select(OrgUnit).where(OrgUnit.kind == "company").limit(2)).all()
    return companies[0] if len(companies) == 1 else None
