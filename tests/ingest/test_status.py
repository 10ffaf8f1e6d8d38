"""Presence of very many devices at once."""

from datetime import timedelta

from sqlalchemy.orm import Session

from ingest import status
from ingest.registry import Registry
from kernel import clock
from tests import plant


def test_more_devices_are_heard_at_once_than_a_statement_has_parameters(session: Session) -> None:
    works = plant.build(session, machines=2)
    first, second = works.devices
    now = clock.now()
    heard = dict.fromkeys(range(second.id, second.id + 70_000), clock.to_ms(now))
    status.seen(session, heard, {}, now=now)
    session.expire_all()
    assert (first.is_online, first.last_seen_at) == (False, None)
    assert second.is_online
    assert second.last_seen_at is not None
    assert abs(second.last_seen_at - now) < timedelta(seconds=1)
    registry = Registry()
    assert [device.key for device in registry.reload(session, heard)] == [second.key]
