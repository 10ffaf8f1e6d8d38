"""Attributes as a page: set at a level, shown where they count, taken away, and nobody's business elsewhere."""

import httpx
import pytest
from sqlalchemy.orm import Session, sessionmaker

from assets.models import Asset
from kernel import db
from tests import factories
from tests.factories import Company
from tests.web.conftest import ClientOf


@pytest.fixture
def pump(database: sessionmaker[Session], company: Company) -> Asset:
    with db.transaction(database) as session:
        return factories.asset(session, company, "harbour", code="C-1", name="Compressor one")


def test_RUL_10_a_person_sets_and_takes_away_what_rules_ask_for(client: httpx.Client, pump: Asset) -> None:
    address = f"/assets/{pump.id}/attributes"
    for of, value in ((f"asset/{pump.id}", "80"), (f"site/{pump.site_id}", "95.5"), (f"unit/{pump.unit_id}", "warm")):
        answer = client.post(address, data={"of": of, "name": "max_temperature", "value": value})
        assert answer.status_code == 303, answer.text
    page = client.get(address).text
    assert page.index(">80<") < page.index(">95.5<") < page.index(">warm<")
    listed = client.get(f"/api/v1/attributes?level=asset&subject_id={pump.id}").json()["items"]
    assert [(one["name"], one["value"]) for one in listed] == [("max_temperature", 80)]
    assert client.post(address, data={"of": f"asset/{pump.id}", "name": "max_temperature"}).status_code == 303
    assert client.get(f"/api/v1/attributes?level=asset&subject_id={pump.id}").json()["items"] == []


@pytest.mark.parametrize(("field", "value"), [("of", "asset/999999"), ("of", ""), ("name", " "), ("name", "x" * 81)])
def test_what_cannot_be_set_is_said_at_its_field(client: httpx.Client, pump: Asset, field: str, value: str) -> None:
    form = {"of": f"asset/{pump.id}", "name": "limit", "value": "1"} | {field: value}
    answer = client.post(f"/assets/{pump.id}/attributes", data=form)
    assert answer.status_code == 422
    assert "is-invalid" in answer.text


def test_whoever_may_only_read_gets_no_form(client_of: ClientOf, pump: Asset) -> None:
    reader = client_of("technician", "harbour")
    page = reader.get(f"/assets/{pump.id}/attributes")
    assert page.status_code == 200
    assert "Set an attribute" not in page.text
    assert reader.post(f"/assets/{pump.id}/attributes", data={}).status_code == 403
