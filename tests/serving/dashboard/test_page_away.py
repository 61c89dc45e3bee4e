"""The page while the broker is away: it says so, keeps what it knows, and goes on by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from infra.broker import EmbeddedBroker
from infra.ports import free_ports
from tests.serving.dashboard.conftest import TIMEOUT_MS, browser, served
from tests.serving.dashboard.filled_log import fill

pytestmark = pytest.mark.broker

expect.set_options(timeout=3 * TIMEOUT_MS)


def test_a_broker_that_goes_and_comes_is_told(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    broker = EmbeddedBroker(tmp_path / "kafka", port)
    bootstrap = broker.start()
    try:
        with browser() as opened:
            log = fill(bootstrap, tmp_path)
            with served(log.pipeline.name, bootstrap, tmp_path) as url:
                page = opened.new_page()
                page.goto(url)
                state, text = page.locator("#connection"), page.locator("#connection-text")
                expect(text).to_have_text("Live")
                expect(page.locator(".alerts li")).to_have_count(2)
                broker.stop()
                expect(text).to_have_text("Broker away")
                expect(state).to_have_attribute("data-state", "away")
                expect(page.locator(".section-body .note")).to_contain_text("does not answer")
                expect(page.locator(".alerts li")).to_have_count(2)  # what is known stays
                page.click("#nav-health")
                expect(page.locator(".section-body .note")).to_contain_text(f"127.0.0.1:{port}")
                broker.start()
                expect(text).to_have_text("Live")
                expect(page.locator(".section-body .note")).to_have_count(0)
            expect(text).to_have_text("Dashboard away")  # the page outlives its server, too
    finally:
        broker.stop()
