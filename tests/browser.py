"""A real browser for tests: the machine's own chromium, driven by playwright, cut off from everything but loopback."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"
# Parts of a browser's own window, each a page that is drawn anew for every page a test opens, and what playwright
# switches off besides: of two such lists chromium takes the last.
WITHOUT = (
    "PreloadTopChromeWebUI",
    "PreloadTopChromeWebUILessNavigations",
    "InitialWebUI",
    "WebUIReloadButton",
    "WebUIOmniboxPopup",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "MediaRouter",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "ThirdPartyStoragePartitioning",
)
QUIET = (
    f"--disable-features={','.join(WITHOUT)}",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Whatever is not loopback does not resolve, so that a page which asks a stranger is found out.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


@contextmanager
def launched(*arguments: str) -> Iterator[Browser]:
    """Start chromium for the length of the block, with an empty profile; skip the test where there is none."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs chromium (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*QUIET, *arguments])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(browser: Browser) -> Iterator[None]:
    """Close, after the block, the windows that were opened in it."""
    before = list(browser.contexts)
    try:
        yield
    finally:
        for context in browser.contexts:
            if context not in before:
                context.close()


def faults(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical on the page as it stands, one line a place."""
    if not AXE.is_file():
        pytest.skip("needs axe-core (npm ci, or make test)")
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary'].splitlines()[-1].strip()}"
        for violation in found
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    ]
