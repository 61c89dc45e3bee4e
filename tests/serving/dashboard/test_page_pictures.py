"""The pictures of the documentation, made from the tests' log: KAPPA_TEST_SCREENSHOTS=docs/images.

Without that variable nothing is made. They show the same at every run: what depends on the clock on
the wall, or on how fast records are read, is replaced by fixed figures before a picture is taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.serving.dashboard.conftest import TIMEOUT_MS, Shown, browser, served
from tests.serving.dashboard.filled_log import fill

pytestmark = pytest.mark.broker

FOLDER = os.environ.get("KAPPA_TEST_SCREENSHOTS", "")
MOST_BYTES = 250_000
PICTURES = {
    "overview": ("overview", "dark", 1280, 1230),
    "alerts": ("alerts", "light", 1280, 1000),
    "drift": ("drift", "light", 1280, 860),
    "performance": ("performance", "dark", 1280, 860),
    "rollout": ("rollout", "light", 1280, 860),
    "phone": ("overview", "dark", 390, 844),
}

# The stream is kept, so that it can be ended before a picture is taken.
KEEP_STREAM = """
const Stream = EventSource;
window.EventSource = class extends Stream {
  constructor(...given) { super(...given); window.stream = this; }
};
"""

SETTLE = """async () => {
  window.stream.close();
  const { held, put } = await import("/static/store.js");
  const at = Date.UTC(2020, 2, 16, 0, 5);
  const flows = { events: 412, labels: 388, features: 412, inference: 412, predictions: 412,
    shadow: 412, outcomes: 388, monitor: 412, rollout: 1.2, metrics: 3.1, trainer: 0 };
  const now = held("overview");
  const flow = ({ label }) => flows[label] ?? 0;
  const node = new Map(now.nodes.map((each) => [each.id, each]));
  const nodes = now.nodes.map((each) => ({ ...each, rate: flow(each),
    records: flows[each.label] > 10 ? Math.round(3117 * flow(each)) : each.records,
    lag: each.lag === null ? null : each.label === "outcomes" ? 214 : 0 }));
  const edges = now.edges.map((each) => ({ ...each, lag: each.lag === null ? null : 0,
    rate: each.target.startsWith("topic:") ? flow(node.get(each.target))
      : Math.min(flow(node.get(each.source)), flow(node.get(each.target))) }));
  const of = (name) => ({ rate: flows[name], total: Math.round(3117 * flows[name]) });
  put("overview", { ...now, now_ms: at, live_since_ms: at - 10 * 86400000, nodes, edges,
    events: of("events"), predictions: of("predictions"), labels: of("labels") });
  const rollout = held("rollout");
  if (rollout) {
    const changes = rollout.changes.map((each, i) =>
      ({ ...each, at_ms: at - (rollout.changes.length - i) * 90000000 }));
    put("rollout", { ...rollout, changes });
  }
  await document.fonts.ready;
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""


@pytest.fixture(scope="module")
def dashboard(
    bootstrap: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Browser, str]]:
    """A browser, and the address of a dashboard of a pipeline with a name to be shown."""
    if not FOLDER:
        pytest.skip("KAPPA_TEST_SCREENSHOTS names no folder for the pictures")
    folder = tmp_path_factory.mktemp("pictures")
    with browser() as opened:
        log = fill(bootstrap, folder, "bikes")
        with served(log.pipeline.name, bootstrap, folder) as url:
            yield opened, url


def test_the_pictures_of_the_documentation(dashboard: tuple[Browser, str]) -> None:
    opened, url = dashboard
    folder = Path(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (section, theme, width, height) in PICTURES.items():
        context = opened.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if theme == "dark" else "light",
            reduced_motion="reduce",
        )
        context.set_default_timeout(TIMEOUT_MS)
        context.add_init_script(KEEP_STREAM)
        page = context.new_page()
        page.goto(f"{url}#{section}")
        expect(page.locator("#connection-text")).to_have_text("Live")
        Shown.go(page, section)
        _everything(page, section)
        page.evaluate(SETTLE)
        path = folder / f"dashboard_{name}.png"
        page.screenshot(path=path)
        assert path.stat().st_size < MOST_BYTES
        context.close()


def _everything(page: Page, section: str) -> None:
    """Wait for what comes after the section itself."""
    if section == "overview":
        expect(page.locator(".flow a.process.running")).to_have_count(7)
        expect(page.locator(".heat.still canvas")).to_be_visible()
        expect(page.locator("svg[role=img] path.curve").first).to_be_attached()
    if section == "alerts":
        page.locator(".alerts > li summary").first.click()
    if section == "drift":
        expect(page.locator("#drift-cell svg[role=img]")).to_be_visible()
