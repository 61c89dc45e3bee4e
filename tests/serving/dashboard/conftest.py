"""The page in a real browser, on a real server, on a real broker; one of each per file of tests.

Not per session: Playwright's synchronous interface keeps an event loop running, and other tests of
the same process want loops of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.serving.dashboard.filled_log import FilledLog, fill
from tests.serving.dashboard.served_page import TOKEN

CHROMIUM = Path("/usr/bin/chromium")
TIMEOUT_MS = 30_000.0
SECTIONS = (
    "overview", "alerts", "drift", "performance", "fairness", "rollout", "experiments", "trainings",
    "health", "topics", "actions",
)  # fmt: skip
NAME = "KAPPA_TEST_PAGE_NAME"


@dataclass
class Shown:
    """A dashboard that is served: its address, and the log behind it."""

    url: str
    log: FilledLog
    browser: Browser

    def open(
        self, section: str = "overview", width: int = 1280, height: int = 860, theme: str = "dark"
    ) -> Page:
        """Return a new page of a browser of its own memory, at a section that has its data."""
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if theme == "dark" else "light",
            reduced_motion="reduce",
        )
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        page.goto(f"{self.url}#{section}")
        page.wait_for_selector('#connection[data-state="live"]')
        self.go(page, section)
        return page

    @staticmethod
    def go(page: Page, section: str) -> None:
        """Go to a section, and wait for what it shows."""
        page.evaluate("section => { location.hash = section }", section)
        # Locators: a handle, as wait_for_selector gives one, would keep what it is of.
        page.locator(f"#nav-{section.split('/')[0]}[aria-current]").wait_for()
        page.locator(".section-body .card").first.wait_for()

    @staticmethod
    def log_in(page: Page) -> None:
        """Let a page act."""
        page.click("#access")
        page.fill("dialog input[name=token]", TOKEN)
        page.click("dialog button[type=submit]")
        page.wait_for_selector("#access:disabled")


@pytest.fixture(scope="module")
def shown(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A filled log, its dashboard in a process of its own, and a browser."""
    folder = tmp_path_factory.mktemp("page")
    with browser() as opened:
        log = fill(bootstrap, folder, os.environ.get(NAME))
        with served(log.pipeline.name, bootstrap, folder) as url:
            yield Shown(url, log, opened)


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, for as long as the block lasts; skips where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is absent: the package chromium has it")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def served(name: str, bootstrap: str, folder: Path) -> Iterator[str]:
    """A process that serves a pipeline's dashboard; yields the page's address."""
    module = "tests.serving.dashboard.served_page"
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", module, name, bootstrap, str(folder)],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _url(process, folder)
    finally:
        process.terminate()
        process.wait(30)


def _url(process: subprocess.Popen[bytes], folder: Path, within_s: float = 90.0) -> str:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if (folder / "url").exists():
            return (folder / "url").read_text()
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise TimeoutError(f"no dashboard: {(folder / 'log').read_text()[-2000:]}")
