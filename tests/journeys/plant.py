"""What a journey finds in place before it begins: machines and devices of its own, made through the JSON interface.

The demo company lives on while the journeys run; each uses machines that no other touches.
"""

import itertools
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
import paho.mqtt.client as mqtt

from tests.running import Product
from tests.waiting import until

_numbers = itertools.count(1)


@dataclass(slots=True)
class Machine:
    """An asset made for one journey."""

    id: int
    code: str
    name: str
    name_zh: str

    def called(self, language: str) -> str:
        """Return its name in a language."""
        return self.name_zh if language == "zh" else self.name


def machine(client: httpx.Client, *, kind: str = "compressor", site: str = "Suzhou Plant") -> Machine:
    """Register a machine of a kind at a site of the demo company."""
    number = next(_numbers)
    kinds = {one["key"]: one["id"] for one in items(client, "/types")}
    sites = {one["name"]: one["id"] for one in items(client, "/sites")}
    made = Machine(0, f"TRIP-{number:03d}", f"Machine of journey {number}", f"旅程{number}号机")
    body = {
        "code": made.code, "name": made.name, "name_zh": made.name_zh, "type_id": kinds[kind], "site_id": sites[site]
    }  # fmt: skip
    made.id = client.post("/assets", json=body).raise_for_status().json()["id"]
    return made


def label(client: httpx.Client, made: Machine) -> str:
    """Stick a label on a machine; return the address its square holds."""
    address: str = client.post("/tags", json={"asset_id": made.id}).raise_for_status().json()["address"]
    return address


def order(client: httpx.Client, made: Machine, title: str, **fields: Any) -> dict[str, Any]:
    """Open an order by hand."""
    body = {"asset_id": made.id, "title": title, **fields}
    opened: dict[str, Any] = client.post("/orders", json=body).raise_for_status().json()
    return opened


def step(client: httpx.Client, order_id: int, *verbs: str, **words: Any) -> dict[str, Any]:
    """Take one step after the other on an order; ``words`` goes with the last one."""
    answer: dict[str, Any] = {}
    for verb in verbs:
        said = words if verb == verbs[-1] else {}
        answer = client.post(f"/orders/{order_id}/{verb}", json=said).raise_for_status().json()
    return answer


def items(client: httpx.Client, path: str, **asked: Any) -> list[dict[str, Any]]:
    """Return the first page of a list."""
    found: list[dict[str, Any]] = client.get(path, params={"limit": 200, **asked}).raise_for_status().json()["items"]
    return found


def order_of(client: httpx.Client, made: Machine, **asked: Any) -> dict[str, Any]:
    """Wait for the order of a machine and for the person it is given to."""

    def given() -> dict[str, Any]:
        found = items(client, "/orders", asset=made.id, **asked)
        return found[0] if found and found[0]["assignee"] else {}

    return until(given, timeout_s=60, every_s=0.2, what=f"an order on {made.code}, given to somebody")


class Controller:
    """A device on a machine that speaks MQTT, as the machine's own controller would."""

    def __init__(self, product: Product, key: str, password: str) -> None:
        self.key = key
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=key)
        self._client.username_pw_set(key, password)
        self._client.connect("127.0.0.1", product.mqtt_port)
        self._client.loop_start()
        until(self._client.is_connected, what=f"the device {key} is let in")

    @classmethod
    def on(cls, product: Product, client: httpx.Client, made: Machine) -> "Controller":
        """Register a device on a machine and connect it."""
        body = {"key": made.code.lower(), "asset_id": made.id}
        issued = client.post("/devices", json=body).raise_for_status().json()
        return cls(product, issued["username"], issued["password"])

    def say(self, what: str, payload: object) -> None:
        """Publish under one of the device's own topics and wait until the broker has taken it."""
        text = payload if isinstance(payload, str) else json.dumps(payload)
        self._client.publish(f"fw/v1/{self.key}/{what}", text, qos=1).wait_for_publish(30)

    def measure(self, metric: str, value: float, *, over_s: int, until_ms: int) -> None:
        """Publish a reading a second of a stretch of device time, all at once."""
        stretch = range(until_ms - over_s * 1000, until_ms + 1, 1000)
        self.say("telemetry", [{"ts": at, "values": {metric: value}} for at in stretch])

    def overheat(self) -> None:
        """Let a compressor have been too hot for a while, some time ago."""
        self.measure("temperature", 108.0, over_s=30, until_ms=int(time.time() * 1000) - 90_000)

    def cool_down(self) -> None:
        """Let it be cool again, until now."""
        self.measure("temperature", 75.0, over_s=60, until_ms=int(time.time() * 1000))

    def leave(self) -> None:
        """Hang up."""
        self._client.disconnect()
        self._client.loop_stop()
