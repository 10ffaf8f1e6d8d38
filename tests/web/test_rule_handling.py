"""How the alarms of a rule are handled, as people say it in a form (ALM-4, ALM-5)."""

from collections.abc import Callable

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.web.rule_handling import typed_of, values_of
from kernel import db
from kernel.models import AuditEntry
from rules import handling
from rules.handling import Handling
from rules.models import AlarmType
from tests import factories
from tests.factories import Company

ClientOf = Callable[..., httpx.Client]


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("stopped, cleaning", ("stopped", "cleaning")),
        ("3，true , 1.5", (3, True, 1.5)),
        ('"3", "true"', ("3", "true")),
        ("{}, null, NaN, 1e400", ("{}", "null", "NaN", "1e400")),
        (" , ", ()),
    ],
)
def test_ALM_5_values_are_what_was_typed(typed: str, values: tuple[object, ...]) -> None:
    assert values_of(typed) == values
    assert values_of(typed_of(values_of(typed))) == values


def test_ALM_5_handling_is_changed_in_a_form_audited_and_seen_on_the_rule(
    client_of: ClientOf, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        rule_id = factories.alarm_type(session, company).id
    client, address = client_of("administrator"), f"/rules/{rule_id}/handling"
    assert 'name="latches"' in client.get(address).text

    refused = client.post(address, data={"attribute": "state", "values": ""})
    assert refused.status_code == 422
    assert 'value="state"' in refused.text, "what was typed stays"

    said = {"latches": "1", "attribute": "state", "values": "stopped, 3, true"}
    assert client.post(address, data=said).status_code == 303
    with database() as session:
        assert handling.of(session.get_one(AlarmType, rule_id)) == Handling(True, False, "state", ("stopped", 3, True))
        assert "rule.handle" in set(session.scalars(select(AuditEntry.action)))
    assert "state = stopped, 3, true" in client.get(f"/rules/{rule_id}").text
    assert client_of("administrator", "quarry").get(address).status_code in {403, 404}
