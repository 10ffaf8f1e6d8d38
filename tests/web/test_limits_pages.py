"""How much a device may send, as people say it in a form (ING-16)."""

from collections.abc import Callable

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.web.limits import LimitForm
from assets.models import AssetType, Device
from ingest import limits
from ingest.limits import Limit
from kernel import clock, db
from kernel.errors import Invalid
from kernel.models import AuditEntry
from tests import factories
from tests.factories import Company

ClientOf = Callable[..., httpx.Client]


@pytest.fixture
def device(database: sessionmaker[Session], company: Company) -> Device:
    """Return a device on a machine whose type inherits from another."""
    with db.transaction(database) as session:
        made = factories.device(session, company, on=factories.asset(session, company))
        kind = session.query(AssetType).one()
        above = AssetType(company_id=kind.company_id, key="rotating", name="Rotating machine")
        session.add(above)
        session.flush()
        kind.parent_id = above.id
        return made


def kinds(database: sessionmaker[Session]) -> tuple[int, int]:
    with database() as session:
        above, below = session.scalars(select(AssetType).order_by(AssetType.parent_id.nulls_first())).all()
        return above.id, below.id


def test_ING_16_rates_are_read_as_typed_and_both_empty_inherits() -> None:
    assert LimitForm().wanted() is None
    assert LimitForm(messages="0,5", points=" 200 ").wanted() == Limit(0.5, 200)
    for half in (LimitForm(messages="5"), LimitForm(points="5"), LimitForm(messages="many", points="5")):
        with pytest.raises(Invalid):
            half.wanted()


def test_ING_16_what_applies_to_a_device_comes_from_itself_else_the_nearest_type(
    database: sessionmaker[Session], device: Device
) -> None:
    above_id, below_id = kinds(database)
    with database() as session:
        found = session.get_one(Device, device.id)
        above, below = session.get_one(AssetType, above_id), session.get_one(AssetType, below_id)
        said = {"actor": "account:1", "now": clock.now()}
        seen = [limits.source_of_device(session, found)]
        for say in (
            lambda: limits.set_type(session, above, Limit(1, 10), **said),
            lambda: limits.set_type(session, below, Limit(2, 20), **said),
            lambda: limits.set_device(session, found, Limit(3, 30), **said),
        ):
            say()
            seen.append(limits.source_of_device(session, found))
            rates = limits.load(session).rates(found.id, below.id, limits.Rates())
            assert seen[-1] is not None
            assert seen[-1].limit == Limit(rates.messages, rates.points), "as ingest has it"
        assert [one and (one.limit.messages, one.kind and one.kind.key) for one in seen] == [
            None, (1, "rotating"), (2, below.key), (3, None)
        ]  # fmt: skip


def test_ING_16_a_device_s_limit_is_set_in_a_form_audited_and_lifted_again(
    client_of: ClientOf, database: sessionmaker[Session], device: Device
) -> None:
    client, address = client_of("administrator"), f"/devices/{device.id}/limits"
    assert address in client.get(f"/devices/{device.id}").text
    assert "the settings of this installation" in client.get(address).text

    refused = client.post(address, data={"messages": "-5", "points": "12"})
    assert refused.status_code == 422
    assert 'value="-5"' in refused.text, "what was typed stays"
    assert client.post(address, data={"messages": "5", "points": ""}).status_code == 422

    assert client.post(address, data={"messages": "5", "points": "0"}).status_code == 303
    page = client.get(address).text
    assert 'value="5"' in page
    assert "this device" in page
    assert client.post(address, data={"messages": "", "points": ""}).status_code == 303
    with database() as session:
        assert limits.of_device(session, session.get_one(Device, device.id)) is None
        entries = session.scalars(select(AuditEntry).where(AuditEntry.action == "intake.limit")).all()
    assert [(one.subject, one.after) for one in entries] == [
        (f"device:{device.id}", {"messages": 5.0, "points": 0.0}), (f"device:{device.id}", None)
    ]  # fmt: skip


def test_ING_16_a_type_s_limit_is_set_in_a_form_and_seen_below_it_and_on_its_devices(
    client_of: ClientOf, database: sessionmaker[Session], device: Device
) -> None:
    client, (above, below) = client_of("administrator"), kinds(database)
    assert f"/types/{above}/limits" in client.get(f"/types/{above}").text
    assert client.post(f"/types/{above}/limits", data={"messages": "7", "points": "70"}).status_code == 303
    assert "this type" in client.get(f"/types/{above}/limits").text
    for address in (f"/types/{below}/limits", f"/devices/{device.id}/limits"):
        page = client.get(address).text
        assert "Rotating machine</a>" in page, "whose word it is"
        assert "7 a second" in page
        assert 'value="7"' not in page, "inherited, not its own"


def test_ING_16_nobody_else_s_limits_are_seen_or_set(
    client_of: ClientOf, database: sessionmaker[Session], device: Device
) -> None:
    above, _ = kinds(database)
    stranger, said = client_of("administrator", "quarry"), {"messages": "1", "points": "1"}
    assert stranger.get(f"/devices/{device.id}/limits").status_code == 404
    assert stranger.post(f"/devices/{device.id}/limits", data=said).status_code == 404
    assert stranger.get("/types/999999/limits").status_code == 404
    assert stranger.post(f"/types/{above}/limits", data=said).status_code == 403, "types are the whole company's"
    assert client_of("technician").post(f"/devices/{device.id}/limits", data=said).status_code == 403
    with database() as session:
        assert not limits.load(session).of_device
        assert not limits.load(session).of_type
