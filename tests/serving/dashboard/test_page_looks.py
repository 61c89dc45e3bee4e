"""The page for everybody: both themes, a phone, the keyboard, screen readers; and its speed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page, expect

from streams.wire import Metric, Window
from tests.serving.dashboard.conftest import SECTIONS, TIMEOUT_MS, Shown
from tests.serving.dashboard.filled_log import END_MS

pytestmark = pytest.mark.broker

expect.set_options(timeout=TIMEOUT_MS)

DAY_MS = 86_400_000
MANY, DAYS, UPDATES = 200, 30, 5
MOST_MS = 100.0


@pytest.fixture(scope="module", params=["dark", "light", "phone"])
def themed(shown: Shown, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page in each of the two themes, and on a phone; what the browser complains of fails its
    last test."""
    shown.log.tell_health()
    if request.param == "phone":
        page = shown.open(width=390, height=844, theme="light")
    else:
        page = shown.open(theme=request.param)
    complaints: list[str] = []

    def complain(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    page.on("console", complain)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    assert complaints == []  # a policy that was broken is told there too
    page.context.close()


@pytest.mark.parametrize("section", SECTIONS)
def test_axe_finds_nothing_serious(themed: Page, shown: Shown, section: str) -> None:
    shown.go(themed, "drift/distance_km" if section == "drift" else section)
    if section == "drift":
        expect(themed.locator("#drift-cell svg[role=img]")).to_be_visible()
    found = Axe().run(themed, options={"resultTypes": ["violations"]}).response["violations"]
    bad = [
        (each["id"], each["impact"], [node["html"][:200] for node in each["nodes"][:3]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert bad == []


def test_the_theme_follows_the_system_and_the_switch(shown: Shown) -> None:
    page = shown.open(theme="light")
    root = page.locator("html")
    expect(root).to_have_attribute("data-theme", "light")
    page.emulate_media(color_scheme="dark")
    expect(root).to_have_attribute("data-theme", "dark")
    page.click("#theme")  # from the system's to light
    expect(root).to_have_attribute("data-theme", "light")
    page.reload()
    expect(root).to_have_attribute("data-theme", "light")  # it is remembered
    expect(page.locator("#theme")).to_have_attribute("aria-label", "Colours: light")
    page.context.close()


def test_nothing_is_wider_than_a_phone(shown: Shown) -> None:
    page = shown.open(width=360, height=740)
    wide = {}
    for section in SECTIONS:
        shown.go(page, "drift/distance_km" if section == "drift" else section)
        over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if over > 0:
            wide[section] = over
    assert wide == {}
    bar = page.locator("#nav").bounding_box()
    assert bar is not None
    assert bar["y"] + bar["height"] == pytest.approx(740, abs=1)  # the bar is at the bottom
    page.context.close()


def test_the_keyboard_alone_gets_everywhere(shown: Shown) -> None:
    page = shown.open()
    press = page.keyboard.press
    press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.locator("#nav-drift").focus()
    press("Enter")
    expect(page.locator("#section-title")).to_have_text("Drift")
    expect(page.locator("#section-title")).to_be_focused()
    for _ in range(12):  # past the controls, to the heat map
        press("Tab")
        if page.evaluate("document.activeElement.classList.contains('heat-scroll')"):
            break
    expect(page.locator(".heat-scroll")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press("ArrowDown")
    expect(page.locator("#heat-readout")).to_contain_text("PSI")
    first = page.inner_text("#heat-readout")
    press("ArrowDown")
    expect(page.locator("#heat-readout")).not_to_have_text(first)
    press("Enter")
    expect(page.locator("#drift-cell")).to_contain_text("two distributions")
    press("Escape")
    expect(page.locator(".heat-scroll")).to_be_focused()
    page.context.close()


def test_a_dialog_keeps_the_focus_and_gives_it_back(shown: Shown) -> None:
    page = shown.open("actions")
    page.locator("#access").focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog input")).to_be_focused()
    page.keyboard.type("not the token, not at all")
    page.keyboard.press("Enter")
    expect(page.locator("dialog [role=alert]")).not_to_be_empty()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator("#access")).to_be_focused()
    page.context.close()


def test_going_about_keeps_nothing(shown: Shown) -> None:
    """A page stays open for days: what a section made goes with it."""
    page = shown.open()
    browser = page.context.new_cdp_session(page)

    def kept(rounds: int, least: int = 0) -> int:
        """Return how many listeners there are afterwards, once ``least`` or fewer are left."""
        for _ in range(rounds):
            for section in SECTIONS:
                shown.go(page, section)
        shown.go(page, "actions")
        for _ in range(20):  # what is free is collected little by little
            browser.send("HeapProfiler.collectGarbage")
            page.wait_for_timeout(50)
            counts: dict[str, int] = browser.send("Memory.getDOMCounters")
            if counts["jsEventListeners"] <= least:
                break
        return counts["jsEventListeners"]

    before = kept(1)
    assert kept(5, before + 10) <= before + 10
    page.context.close()


def test_an_update_of_200_features_and_30_days_stays_under_100_ms(shown: Shown) -> None:
    """From the text of an event to the finished layout, with the newest figures open as a
    table; the last test, as it fills the log."""
    shown.log.tell_metrics([m for day in range(DAYS) for m in _day(day)])
    page = shown.open("drift")
    page.wait_for_function(  # a row is 17 px high
        "n => document.querySelector('.heat canvas').clientHeight > n * 17", arg=MANY
    )
    page.locator("details summary", has_text="as a table").click()
    expect(page.locator(".drift-table tbody tr")).to_have_count(40)
    took = []
    for update in range(UPDATES):
        before = page.evaluate("performance.getEntriesByName('draw drift').length")
        shown.log.tell_metrics(_day(DAYS - 1, better=0.01 * (update + 1)))
        page.wait_for_function(
            "n => performance.getEntriesByName('draw drift').length > n", arg=before
        )
        page.wait_for_timeout(300)  # one batch may come in two events
        took.append(max(map(sum, zip(*(_newest(page, name) for name in ("take", "draw")),
                                     strict=False))))  # fmt: skip
    print("an update took", [round(ms, 1) for ms in took], "ms")
    assert float(np.median(took)) < MOST_MS
    page.get_by_role("button", name="Show all 207 features").click()
    expect(page.locator(".drift-table tbody tr")).to_have_count(MANY + 7)
    page.context.close()


def _newest(page: Page, name: str) -> list[float]:
    entries = "performance.getEntriesByName(name + ' drift').slice(-2).map(e => e.duration)"
    found: list[float] = page.evaluate(f"name => {entries}", name)
    return found


def _day(day: int, better: float = 0.0) -> list[Metric]:
    draw = np.random.default_rng(day)
    end = END_MS - (DAYS - 1 - day) * DAY_MS
    return [
        Metric("psi", f"wide_{i:03d}", float(value) - better, 0.25, 4_000,
               Window(end - 7 * DAY_MS, end), 3, p_value=0.5, effect=0.02)
        for i, value in enumerate(0.05 + 0.3 * draw.random(MANY) ** 4)
    ]  # fmt: skip
