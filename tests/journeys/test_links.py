"""UX: no page of the demo leads anywhere that is not there, or that the one who follows the link may not see."""

import re
from collections import deque
from html import unescape

import httpx
import pytest

from tests.running import Product

NOT_FOLLOWED = ("/logout", "/live", "/static/")
MOST = 160


def shape(address: str) -> str:
    """Return an address without its numbers and values: one of each shape is enough."""
    path, _, query = address.partition("?")
    names = sorted(part.partition("=")[0] for part in query.split("&"))
    return re.sub(r"[0-9]+", "0", path) + "?" + "&".join(names) + ("-" if "sort=-" in query else "")


@pytest.mark.parametrize("who", ["administrator", "dispatcher", "storekeeper", "zhang.wei"])
def test_every_link_that_somebody_is_shown_leads_to_a_page(running: Product, who: str) -> None:
    with httpx.Client(base_url=running.address, timeout=30) as browser:
        door = browser.get("/login").text
        password = re.search(rf'value="{re.escape(who)}"><input type="hidden" name="password" value="([^"]+)"', door)
        assert password is not None
        browser.post("/login", data={"username": who, "password": password[1], "next": "/"})
        waiting, known, dead = deque([("/", "the start")]), set[str](), list[str]()
        while waiting and len(known) < MOST:
            address, seen_on = waiting.popleft()
            if shape(address) in known:
                continue
            known.add(shape(address))
            answer = browser.get(address)
            if answer.is_redirect:
                waiting.appendleft((answer.headers["location"], seen_on))
            elif answer.is_error:
                dead.append(f"{answer.status_code} {address}, shown on {seen_on}")
            elif answer.headers["content-type"].startswith("text/html"):
                for link in map(unescape, re.findall(r'href="(/[^"#]*)', answer.text)):
                    if not link.startswith(("//", *NOT_FOLLOWED)):
                        waiting.append((link, address))
    assert dead == []
    assert len(known) > 25
