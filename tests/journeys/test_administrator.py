"""An administrator: a person, a device that speaks, a message that could not be read, the trail, a token."""

import re

import httpx
import pytest
from playwright.sync_api import expect

from tests.journeys import plant
from tests.journeys.person import Enter
from tests.running import Product


@pytest.mark.parametrize(("width", "language"), [(1440, "en"), (360, "zh")])
def test_an_administrator_gives_a_person_a_role_at_a_site(enter: Enter, width: int, language: str) -> None:
    me = enter("administrator", width=width, language=language)
    me.place("Settings")
    me.page.get_by_role("link", name=re.compile(f"^{me.word('People')}")).first.click()
    me.link("New person").click()
    username = f"newcomer.{width}"
    me.field("Full name").fill("New Comer")
    me.field("User name").fill(username)
    site = {"en": "Ningbo Plant", "zh": "宁波工厂"}[language]
    me.choose("Belongs to", site)
    me.choose("Role there", me.word("Technician"))
    me.button("Make the account").click()
    assert me.heading() == "New Comer"
    expect(me.card("Roles").get_by_role("row").filter(has_text=me.word("Technician"))).to_contain_text(site)

    password = me.page.get_by_text(re.compile(r"^\s*[A-Z0-9]{4}(-[A-Z0-9]{4}){3}\s*$")).first.inner_text().strip()
    newcomer = enter(width=width, language=language)
    newcomer.go("/login")
    newcomer.field("User name").fill(username)
    newcomer.field("Password").fill(password)
    newcomer.button("Sign in").click()
    newcomer.page.wait_for_url(lambda url: "/login" not in url)
    me.go("/people")
    me.link("New Comer").first.click()
    assert me.heading() == "New Comer"
    expect(me.page.get_by_text(password)).to_have_count(0)


@pytest.mark.parametrize(("width", "language"), [(1440, "zh"), (360, "en")])
def test_an_administrator_registers_a_device_hears_it_and_mends_what_it_could_not_say(
    product: Product, enter: Enter, office: httpx.Client, width: int, language: str
) -> None:
    machine = plant.machine(office)
    me = enter("administrator", width=width, language=language)
    me.place("Assets")
    me.link("Devices").click()
    me.link("Register a device").click()
    key = f"speaks-{width}"
    me.field("Key").fill(key)
    me.field("Measures the asset").fill(machine.code)
    me.button("Register and show the secret").click()
    me.sees("This is shown once")
    secret = me.page.locator("#secret").inner_text()
    me.link("I have copied it").click()
    expect(me.page.get_by_text(secret)).to_have_count(0)

    controller = plant.Controller(product, key, secret)
    controller.say("telemetry", {"temperature": 81.5})
    me.go(f"/assets/{machine.id}")
    values = (
        me.card("Values now")
        .get_by_role("row")
        .filter(has_text={"en": "Outlet temperature", "zh": "排气温度"}[language])
    )
    expect(values).to_contain_text("81.5")
    controller.say("telemetry", {"temperature": 82.5})
    expect(values).to_contain_text("82.5")

    controller.say("telemetry", "{temperature: 83}")
    controller.leave()
    me.place("Settings")
    me.page.get_by_role("link", name=re.compile(f"^{me.word('Rejected messages')}")).click()
    group = me.page.get_by_role("row").filter(has_text=key)
    expect(group).to_have_count(1)
    group.get_by_role("link").first.click()
    me.page.get_by_role("link", name=f"{key}/telemetry").click()
    me.reads("{temperature: 83}")
    me.button("Replay").click()
    me.sees("Being tried again")

    me.place("Settings")
    me.page.get_by_role("link", name=re.compile(f"^{me.word('Audit trail')}")).click()
    expect(me.page.get_by_role("row").filter(has_text="device.register").first).to_be_visible()
    me.button("Verify the chain").click()
    me.sees("The trail is whole.")


@pytest.mark.parametrize(("width", "language"), [(360, "zh"), (1440, "en")])
def test_an_administrator_makes_a_token_for_a_program_and_takes_it_back(
    product: Product, enter: Enter, width: int, language: str
) -> None:
    me = enter("administrator", width=width, language=language)
    me.go("/account")
    me.field("What is it for?").fill(f"stock import {width}")
    me.button("Make a token").click()
    me.sees("Your new token. It is shown this once.")
    secret = me.field("Token").input_value()
    asked = {"url": f"{product.address}/api/v1/sites", "headers": {"Authorization": f"Bearer {secret}"}}
    assert httpx.get(**asked).status_code == httpx.codes.OK

    row = me.page.get_by_role("row").filter(has_text=f"stock import {width}")
    me.button("Revoke", within=row).click()
    expect(row).to_have_count(0)
    assert httpx.get(**asked).status_code == httpx.codes.UNAUTHORIZED
