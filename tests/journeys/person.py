"""Somebody at a screen: opens pages, finds things by what is written on them, presses and types.

A journey is written in English sentences, the product's own message ids, and can be walked in any language: the
person looks for the sentence as the product says it in theirs.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Locator, Page, Response, expect

from kernel import i18n
from tests.running import Product

PATIENCE_MS = 30_000
HEIGHTS = {360: 740, 1440: 900}


@dataclass(slots=True)
class Person:
    """A person with a window: how wide it is, which language they read, what went wrong on their pages."""

    context: BrowserContext
    page: Page
    address: str
    language: str
    complaints: list[str] = field(default_factory=list)
    """Errors in the console and answers of the kind 5xx, as they happened."""

    def word(self, english: str, /, **values: object) -> str:
        """Return a sentence of the product as this person reads it."""
        said = i18n.catalogue(self.language).get(english, english)
        return said.format(**values) if values else said

    def go(self, path: str) -> None:
        """Open an address, of the product or in full."""
        self.page.goto(path if "://" in path else f"{self.address}{path}")

    def button(self, english: str, *, within: Page | Locator | None = None) -> Locator:
        """Find a button by exactly its words."""
        return (within or self.page).get_by_role("button", name=self.word(english), exact=True)

    def link(self, english: str, *, within: Page | Locator | None = None) -> Locator:
        """Find a link by exactly its words."""
        return (within or self.page).get_by_role("link", name=self.word(english), exact=True)

    def place(self, english: str) -> None:
        """Go to a place of the rail or of the bar at the foot; on a narrow screen perhaps behind "More"."""
        rail = self.page.get_by_role("navigation", name=self.word("Places"))
        there = rail.get_by_role("link", name=self.word(english), exact=True).filter(visible=True)
        if not there.count():
            rail.get_by_text(self.word("More"), exact=True).click()
        there.first.click()

    def field(self, english: str, *, within: Page | Locator | None = None) -> Locator:
        """Find an input by its label; a mark for required ones is not part of the words."""
        label = re.compile(rf"^{re.escape(self.word(english))}\s*\*?$")
        return (within or self.page).get_by_label(label).filter(visible=True)

    def choose(self, english: str, part: str) -> None:
        """Choose, in a list of that label, the first entry that reads like this."""
        entry = self.field(english).locator("option").filter(has_text=part).first
        self.field(english).select_option(label=entry.inner_text())

    def card(self, english: str) -> Locator:
        """Find a framed part of the page by its title."""
        title = self.page.get_by_role("heading", name=self.word(english), exact=True)
        return self.page.locator("section").filter(has=title)

    def tile(self, english: str) -> Locator:
        """Find one of several large answers by its words."""
        return self.page.get_by_text(self.word(english), exact=True)

    def open_up(self, english: str) -> None:
        """Unfold what stands folded behind these words; leave it when it is unfolded already."""
        pattern = re.compile(rf"^\s*{re.escape(self.word(english))}\s*(…|\.\.\.|……)?\s*$")
        summary = self.page.locator("summary").filter(has_text=pattern).filter(visible=True).first
        if summary.evaluate("element => !element.parentElement.open"):
            summary.click()

    def sees(self, english: str, /, **values: object) -> None:
        """Wait until a sentence stands on the page, alone or within another one."""
        expect(self.page.get_by_text(self.word(english, **values)).filter(visible=True).first).to_be_visible()

    def reads(self, text: str) -> None:
        """Wait until a text that is nobody's translation stands on the page: a name, a number."""
        expect(self.page.get_by_text(text).filter(visible=True).first).to_be_visible()

    def stands_at(self, english: str) -> None:
        """Wait until a line of steps has come this far."""
        here = self.page.locator("[aria-current=step]").filter(visible=True)
        expect(here.filter(has_text=self.word(english))).to_be_visible()

    def heading(self) -> str:
        """Return the page's own title."""
        return self.page.get_by_role("heading", level=1).inner_text()

    def attach(self, english: str, files: Sequence[Path]) -> None:
        """Choose pictures in a field of that name and wait until each is shown."""
        chooser = self.page.get_by_label(re.compile(rf"^{re.escape(self.word(english))}")).and_(
            self.page.locator("input[type=file]")
        )
        chooser.set_input_files([str(file) for file in files])
        expect(self.page.get_by_role("button", name=self.word("Remove this photo"))).to_have_count(len(files))


Enter = Callable[..., Person]


@contextmanager
def entrance(browser: Browser, product: Product) -> Iterator[Enter]:
    """Let people in for the length of the block; afterwards nobody may have had a broken page before them.

    ``enter(name, width=…, language=…)`` signs in the account of that name by one click; without a name it opens a
    window for a stranger.
    """
    inside: list[Person] = []

    def enter(name: str | None = None, *, width: int = 1440, language: str = "en") -> Person:
        context = browser.new_context(
            viewport={"width": width, "height": HEIGHTS[width]}, locale={"en": "en-GB", "zh": "zh-CN"}[language],
            timezone_id="America/New_York", has_touch=width < 600, reduced_motion="reduce",
        )  # fmt: skip
        context.add_cookies([{"name": "lang", "value": language, "url": product.address}])
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        person = Person(context, page, product.address, language)
        inside.append(person)
        watch(page, person.complaints)
        if name is not None:
            person.go("/login")
            person.page.locator("form").filter(has=page.locator(f"input[value='{name}']")).get_by_role("button").click()
            page.wait_for_url(lambda url: "/login" not in url)
        return person

    yield enter
    for person in inside:
        person.context.close()
    complaints = [said for person in inside for said in person.complaints]
    assert complaints == [], "\n".join(complaints)


def watch(page: Page, complaints: list[str]) -> None:
    """Write down what goes wrong on a page: errors of its scripts and console, and answers of the kind 5xx."""

    def answered(response: Response) -> None:
        if response.status >= 500:
            complaints.append(f"{response.status} {response.request.method} {response.url}")

    page.on("console", lambda said: complaints.append(f"{page.url}: {said.text}") if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    page.on("response", answered)
