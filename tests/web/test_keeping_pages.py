"""How long readings are kept: the card of a type, the legal hold of an asset, and the same over the API."""

from typing import Any

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from assets.keeping_tables import LegalHold, Retention
from kernel import db
from kernel.models import AuditEntry
from tests import factories
from tests.factories import Company


def test_a_type_states_lifetimes_and_inherits_again(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        kind = factories.asset_type(session, company).id
    page = client.get(f"/types/{kind}")
    assert "As the settings of this installation say." in page.text
    wrong = {"raw_days": "30", "minute_days": "10", "hour_days": "400"}
    refused = client.post(f"/types/{kind}/retention", data=wrong)
    assert refused.status_code == 422
    assert "Minutes are kept at least as long" in refused.text
    right = wrong | {"minute_days": "90"}
    assert client.post(f"/types/{kind}/retention", data=right).status_code == 303
    told = client.get(f"/api/v1/types/{kind}/retention").json()
    assert told == {"raw_days": 30, "minute_days": 90, "hour_days": 400, "stated_by": kind}
    assert client.post(f"/types/{kind}/retention", data=right | {"inherit": "1"}).status_code == 303
    assert client.get(f"/api/v1/types/{kind}/retention").json()["stated_by"] is None
    body = {"raw_days": 5, "minute_days": 0, "hour_days": 50}
    assert client.put(f"/api/v1/types/{kind}/retention", json=body).json()["raw_days"] == 5
    assert client.delete(f"/api/v1/types/{kind}/retention").json()["raw_days"] == 730
    with database() as session:
        assert session.scalars(select(Retention)).all() == []


def test_TEL_5_a_hold_is_put_and_released_and_leaves_its_trail(
    client: httpx.Client, client_of: Any, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        asset = factories.asset(session, company, "harbour").id
    assert client.post(f"/assets/{asset}/keeping", data={"reason": " "}).status_code == 422
    assert client.post(f"/assets/{asset}/keeping", data={"reason": "Claim 17"}).status_code == 303
    assert "Claim 17" in client.get(f"/assets/{asset}/keeping").text
    told = client.get(f"/api/v1/assets/{asset}/hold").json()
    assert (told["is_held"], told["reason"]) == (True, "Claim 17")
    technician = client_of("technician", "harbour")
    assert technician.post(f"/assets/{asset}/keeping/release").status_code == 403
    assert client_of("planner", "quarry").get(f"/assets/{asset}/keeping").status_code == 404
    assert client.post(f"/assets/{asset}/keeping/release").status_code == 303
    assert client.put(f"/api/v1/assets/{asset}/hold", json={"reason": "again"}).json()["is_held"]
    assert not client.delete(f"/api/v1/assets/{asset}/hold").json()["is_held"]
    with database() as session:
        assert session.scalars(select(LegalHold)).all() == []
        actions = session.scalars(select(AuditEntry.action).where(AuditEntry.subject == f"asset:{asset}")).all()
    assert actions == ["asset.hold", "asset.release", "asset.hold", "asset.release"]
