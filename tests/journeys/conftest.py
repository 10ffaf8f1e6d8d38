"""One running product, one browser and one administrator's token for every journey of a run.

The product ends with the last journey, not with the run: its simulated machines would take a good part of a core from
every test that follows.
"""

from collections.abc import Generator, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, expect

from tests.journeys.person import PATIENCE_MS, Enter, entrance
from tests.running import Product, installed

expect.set_options(timeout=PATIENCE_MS)
HERE = Path(__file__).parent
STARTED = pytest.StashKey[Product]()


@pytest.fixture(scope="session")
def running(pytestconfig: pytest.Config) -> Iterator[Product]:
    """Run the demo for the journeys, after which it must stop on Ctrl-C and leave no process."""
    with installed() as product:
        pytestconfig.stash[STARTED] = product
        product.start()
        yield product
        leave(product)


def leave(product: Product) -> None:
    """Press Ctrl-C, unless that has been done."""
    if product.process is not None:
        product.interrupt()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """Press Ctrl-C after the last journey."""
    yield
    product = item.config.stash.get(STARTED, None)
    is_last = nextitem is None or HERE not in nextitem.path.parents
    if is_last and product is not None:
        leave(product)


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
