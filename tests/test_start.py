"""OPS-1: one command starts everything, a second finds it again, and nothing is left when it ends.

The product runs as people run it, from an empty folder; these tests see only what its users see: the pages, the
command line, and the JSON interface with a token.
"""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import httpx
import psutil
import pytest

from tests.running import Product, installed, pages_of
from tests.waiting import until

GENEROUS_S = 180


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """Return one demo installation for this module; each test starts it when it does not run."""
    with installed() as made:
        yield made


def first_order_of_an_alarm(client: httpx.Client, since: datetime) -> dict[str, Any]:
    """Return the first order that an alarm has opened since then and that somebody has been given, or an empty one."""
    found = client.get("/orders", params={"origin": "alarm", "limit": 50}).raise_for_status().json()["items"]
    fresh = [one for one in found if datetime.fromisoformat(one["created_at"]) >= since and one["assignee"]]
    return min(fresh, key=lambda one: one["id"]) if fresh else {}


def test_OPS_1_one_command_leads_to_a_signed_in_page_and_an_order_of_an_alarm(product: Product) -> None:
    product.start()
    since = datetime.fromtimestamp(product.first_started_at, tz=UTC)

    with httpx.Client(base_url=product.address, follow_redirects=True, timeout=30) as browser:
        door = browser.get("/")
        assert door.status_code == httpx.codes.OK
        assert "/login" in str(door.url)
        people = re.findall(
            r'name="username" value="([^"]+)"><input type="hidden" name="password" value="([^"]+)"', door.text
        )
        assert "dispatcher" in dict(people), "the sign-in page offers the demo people"
        inside = browser.post(
            "/login", data={"username": "dispatcher", "password": dict(people)["dispatcher"], "next": "/"}
        )
        assert inside.status_code == httpx.codes.OK
        assert "Zhou Min" in browser.get("/account").text

    with product.api() as client:
        order = until(
            lambda: first_order_of_an_alarm(client, since), timeout_s=GENEROUS_S, every_s=0.5, what="an order"
        )
        ordered_after_s = time.time() - product.first_started_at
        alarm = client.get(f"/alarms/{order['alarm_id']}").raise_for_status().json()
    assert order["assignee"]["username"]
    assert alarm["asset_id"] == order["asset_id"]

    raised = datetime.fromisoformat(alarm["raised_at"]).timestamp()
    made = datetime.fromisoformat(order["assigned_at"]).timestamp()
    print(  # noqa: T201 - figures for people; nothing is asserted on them
        f"\nready {product.ready_after_s:.1f} s after the command, alarm at {raised - product.first_started_at:.1f} s, "
        f"its order assigned {made - raised:.2f} s later, seen after {ordered_after_s:.1f} s in all"
    )


def test_ctrl_c_leaves_no_process_and_the_next_start_finds_everything(product: Product) -> None:
    product.start()
    with product.api() as client:
        before = {one["number"]: one["title"] for one in pages_of(client, "/orders")}
    assert before

    assert product.interrupt() in {0, 130}, "ended as asked, or as a shell says that of Ctrl-C"
    assert product.living() == []
    assert "Traceback" not in product.log.read_text()
    product.start()

    with product.api() as client:
        after = {one["number"]: one["title"] for one in pages_of(client, "/orders")}
        me = client.get("/users").raise_for_status().json()["items"]
    assert before.items() <= after.items()
    assert me, "the token of the first run is still good"


def test_a_killed_process_is_followed_by_one_that_finds_every_reading_and_order(product: Product) -> None:
    product.start()
    with product.api() as client:
        orders = {one["number"] for one in pages_of(client, "/orders")}
        readings = {(one["asset_id"], one["metric"]): one["ts"] for one in pages_of(client, "/telemetry/latest")}
        machine, metric = next(iter(readings))
        last = readings[machine, metric]
        asked = {"asset": machine, "metric": metric, "from": last - 60_000, "to": last + 1}
        curve = client.get("/telemetry/range", params=asked).raise_for_status().json()
    assert curve["series"][0]["points"]

    product.kill()
    assert psutil.pid_exists(database_of(product)), "the embedded database outlives the kill and is taken over"
    product.start()

    with product.api() as client:
        assert orders <= {one["number"] for one in pages_of(client, "/orders")}
        newest = {(one["asset_id"], one["metric"]): one["ts"] for one in pages_of(client, "/telemetry/latest")}
        assert all(newest[key] >= at for key, at in readings.items())
        assert client.get("/telemetry/range", params=asked).raise_for_status().json() == curve


def test_a_service_manager_that_asks_twice_gets_everything_stopped_and_the_code_of_success(product: Product) -> None:
    product.start()
    assert product.terminate(times=2) == 0
    assert product.living() == [], "the database too"


def test_a_second_process_on_the_same_folder_is_refused_in_one_line(product: Product) -> None:
    product.start()
    refused = Product(product.folder).run("up", "--demo")

    assert product.process is not None
    held = f"The data directory {product.folder} is in use by process {product.process.pid}."
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [f"fixwright: {held} Stop that one, or set FIXWRIGHT_DATA_DIR."]


@pytest.mark.parametrize(
    ("what", "setting"), [("web_port", "FIXWRIGHT_HTTP_BIND"), ("mqtt_port", "FIXWRIGHT_MQTT_BIND")]
)
def test_an_address_in_use_is_said_in_one_line_before_anything_is_made(what: str, setting: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with installed(**{what: port}) as late:
            refused = late.run("up", "--demo")

            assert refused.returncode == 2
            busy = f"The address 127.0.0.1:{port} is in use by another program."
            assert refused.stderr.splitlines() == [f"fixwright: {busy} Stop that program, or set {setting}."]
            assert not (late.folder / "postgres").exists()


def database_of(product: Product) -> int:
    return int((product.folder / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
