"""One running product, one browser and one administrator's token for every journey of a run."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, expect

from tests.journeys.person import PATIENCE_MS, Enter, entrance
from tests.running import Product, running

__all__ = ["running"]

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def product(browser: Browser, request: pytest.FixtureRequest) -> Product:
    """Return the running demo; started only where there is a browser to look at it with."""
    assert browser.is_connected()
    started: Product = request.getfixturevalue("running")
    return started


@pytest.fixture
def enter(browser: Browser, product: Product) -> Iterator[Enter]:
    """Return a function that lets a person in; see ``tests.journeys.person``."""
    with entrance(browser, product) as let_in:
        yield let_in


@pytest.fixture(scope="session")
def office(product: Product) -> Iterator[httpx.Client]:
    """Return a client of the JSON interface that acts for the administrator."""
    with product.api() as client:
        yield client


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return two pictures as a phone would take them."""
    folder = tmp_path_factory.mktemp("photos")
    made = []
    for number, colour in enumerate(("#7a3b1d", "#1d4f7a"), 1):
        picture = Image.new("RGB", (2400, 1800), colour)
        ImageDraw.Draw(picture).text((200, 200), f"photo {number}", fill="white", font_size=200)
        made.append(folder / f"photo-{number}.jpg")
        picture.save(made[-1])
    return made
