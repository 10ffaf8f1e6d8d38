"""Nothing that anybody sends to a route is an unexpected error: every one answers poison with a clear refusal.

Each route is asked as the administrator, over a record that exists, with one or two of its fields, parameters or the
name in its address replaced. What is not a value is told so (4xx); 5xx is a fault of ours, with whoever sent it none
the wiser and a trace in the log.
"""

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import routes
from tests.architecture import test_rights as rights
from tests.architecture.test_rights import HERE, World
from tests.routes import Route

world = rights.world

A_ROUTE = 5
"""Requests to each route; all in all more than three thousand."""
LEAVES = re.compile(r"/logout|/login|/password|/withdraw|/revoke|/deactivate|/memberships|/live")
"""Would end the sign-in that asks, or does not end at all."""
TEXTS = (
    "", "\x00", "a\x00b", "-1", "0", "1.5", "1e400", "NaN", "Infinity", "٣", "１", str(2**31), str(2**63), str(2**70),
    "é" * 300, "x" * 9000, "😀", "\u202e", "../../etc/passwd", "<script>alert(1)</script>", "=1+1", "%", "\\", "null",
    "[]", "{}", "a,b,c", "' OR 1=1 --", "0001-01-01", "9999-12-31", "2026-02-30", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", "Asia/Nowhere", "true",
)  # fmt: skip
VALUES = (None, 0, -1, 1.5, 2**31, 2**63, 2**70, 1e308, True, [], {}, [None], [[]], {"a": {"b": [1]}}, *TEXTS)
NAMES = ("0", "-1", "1.5", "abc", str(2**31), str(2**63), str(2**70), "a%00b", "%E4%B8%AD", "..%2f")
BODIES = (b"", b"{", b"\xff\xfe", b"[" * 5000, b'{"a":1e999}', b'"x"', b"null")


@pytest.mark.torture
def test_no_route_answers_poison_with_an_unexpected_error(world: World, seed: int) -> None:
    chance = random.Random(seed)
    faults = []
    client = world.client(world.acme, "administrator", "company")
    for route in rights.ROUTES:
        if LEAVES.search(route.path):
            continue
        for address, request in poisoned(world, route, chance):
            try:
                answer = client.request(route.method, address, **request)
            except httpx.HTTPError as error:
                faults.append(f"{error!r} {route.method} {address} {str(request)[:300]}")
                continue
            if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
                faults.append(f"{answer.status_code} {route.method} {address} {str(request)[:300]}")
    assert client.get("/api/v1/orders").is_success, "whoever asked was let in to the end"
    assert not faults, "\n".join(faults)


def poisoned(world: World, route: Route, chance: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield addresses and what to send there, each with something that is not what it should be."""
    whole = world.filled(route, "administrator", HERE if route.parameters else "company")
    for _ in range(A_ROUTE):
        address = whole
        if route.parameters and chance.random() < 0.3:
            address = re.sub(r"{[^}]*}", lambda _: chance.choice(NAMES), route.path)
        request = routes.request_for(route, world.known)
        if route.query:
            more = {name: chance.choice(TEXTS) for name in _some(sorted(route.query), chance)}
            request["params"] = {**request.get("params", {}), **more}
        if "data" in request:
            request["data"] |= {name: chance.choice(TEXTS) for name in _some(list(request["data"]), chance)}
        if "json" in request:
            body = json.dumps(_changed(request.pop("json"), chance)).encode()
            request["content"] = chance.choice(BODIES) if chance.random() < 0.1 else body
            request["headers"] = {"content-type": "application/json"}
        yield address, request


def _some(names: list[str], chance: random.Random) -> list[str]:
    return chance.sample(names, min(len(names), chance.choice((1, 1, 2))))


def _changed(value: Any, chance: random.Random) -> Any:
    """Return a JSON value with one part, at any depth, replaced."""
    if isinstance(value, dict) and value:
        name = chance.choice(list(value))
        return {**value, name: _changed(value[name], chance)}
    if isinstance(value, list) and value:
        return [_changed(value[0], chance), *value[1:]]
    return chance.choice(VALUES)
