"""The examples of ``docs/http-intake.md`` are typed into a shell, and work."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from assets import passwords
from ingest import webhooks
from kernel import clock, db
from people.models import OrgUnit
from telemetry.models import Series
from tests import plant
from tests.conftest import SECRET
from tests.intake.conftest import PASSWORD, Intake
from tests.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "http-intake.md"


def test_ING_11_every_curl_example_of_the_documentation_works(intake: Intake, database: sessionmaker[Session]) -> None:
    if shutil.which("curl") is None or shutil.which("openssl") is None:
        pytest.skip("needs curl and openssl")
    with db.transaction(database) as session:
        works = intake.works
        asset = plant.asset(session, works, "P-7")
        plant.device(session, works, "press-7", asset=asset, announced=True, password_hash=passwords.hashed(PASSWORD))
        unit = session.get_one(OrgUnit, works.company.id)
        secrets = {}
        for name, proof in (("chirpstack", "token"), ("erp", "signature")):
            source = webhooks.add(session, name, proof=proof, unit=unit, actor="account:1", now=clock.now())
            secrets[name] = webhooks.secret_of(SECRET, source)
    client = intake.client("press-7")
    until(lambda: client.post("/telemetry", json={"ready": 1}).status_code == 200, what="the device is known")

    first, second = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    first = first.replace("http://localhost:8000", intake.address).replace("THE PASSWORD", PASSWORD)
    token, signed = second.split("BODY=")
    url = f"URL={intake.address}/api/v1/intake\n"
    for script, expected in (
        (first, 5),
        (f"{url}SECRET={secrets['chirpstack']}\n{token}", 2),
        (f"{url}SECRET={secrets['erp']}\nBODY={signed}", 1),
    ):
        quietly = script.replace("curl ", "curl -sS -w '\\n%{http_code}\\n' ")
        said = subprocess.run(["bash", "-e", "-c", quietly], capture_output=True, text=True, check=True, timeout=60)
        codes = re.findall(r"^(\d{3})$", said.stdout, re.MULTILINE)
        assert codes == ["202" if "SECRET" in script else "200"] * expected, said.stdout
    with database() as session:
        metrics = set(session.scalars(select(Series.metric)))
    assert {"temperature", "speed", "motor.current{phase=2}", "motor.on{phase=2}"} <= metrics
