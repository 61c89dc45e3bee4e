"""The page in Chromium, on the real server and broker: what it shows, live."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from streams.wire import Alert, Metric, Related, ShiftedBin, Window
from tests.serving.dashboard.conftest import SECTIONS, TIMEOUT_MS, Shown
from tests.serving.dashboard.filled_alerts import DAY_MS, drift_alert
from tests.serving.dashboard.filled_log import END_MS

pytestmark = pytest.mark.broker

expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def page(shown: Shown) -> Page:
    """A page that the tests of this file go about in; what fails in it fails its test."""
    shown.log.tell_health()
    return shown.open()


def body(page: Page) -> str:
    """Return what the section says."""
    return page.inner_text(".section-body")


def test_the_header_tells_name_event_time_and_connection(page: Page, shown: Shown) -> None:
    expect(page.locator("#pipeline")).to_have_text(shown.log.pipeline.name)
    expect(page.locator("#versions")).to_have_text("features v1 · model 3 live")
    expect(page.locator("#clock")).to_contain_text("15 Mar 2020")
    expect(page.locator("#connection-text")).to_have_text("Live")


def test_the_overview_draws_every_topic_and_process(page: Page, shown: Shown) -> None:
    shown.go(page, "overview")
    expect(
        page.locator(".flow a.process[aria-label^='inference, process, running']")
    ).to_be_visible()
    expect(page.locator(".flow a.topic[aria-label^='events, topic']")).to_be_visible()
    expect(page.locator(".flow .pipe").first).to_be_attached()
    assert "3\nto be looked at" in body(page)
    expect(page.locator(".alerts li")).to_have_count(2)


def test_alerts_tell_state_cause_effect_onset_related_and_action(page: Page, shown: Shown) -> None:
    shown.go(page, "alerts")
    expect(page.locator(".alerts > li")).to_have_count(3)
    first = page.locator(".alerts > li", has_text="Critical")
    for text in ("Confirmed", "PSI 0.61 (limit 0.25)", "effect 0.31", "began 12 Mar 2020",
                 "loss +0.043", "action retrain"):  # fmt: skip
        expect(first).to_contain_text(text)
    first.locator("summary").click()
    expect(first).to_contain_text("partition 1, offset 81234")
    expect(first).to_contain_text("PSI · gap_min")
    page.get_by_role("button", name="Resolved").click()
    expect(page.locator(".alerts > li")).to_have_count(1)


def test_a_cell_of_the_heat_map_shows_both_distributions(page: Page, shown: Shown) -> None:
    shown.go(page, "drift/distance_km")
    cell = page.locator("#drift-cell")
    expect(cell).to_contain_text("distance_km: two distributions")
    expect(cell.locator("svg[role=img]")).to_be_visible()
    assert cell.locator("rect.hatched").count() > 5  # the training's
    assert cell.locator("rect.solid").count() > 5  # the window's
    expect(page.locator("#heat-readout")).to_contain_text("out of bounds")
    # By the pointer: the first row is the worst one, the last column the newest window.
    page.keyboard.press("Escape")
    expect(cell).to_be_empty()
    box = page.locator(".heat canvas").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] - 4, box["y"] + 28)
    expect(cell).to_contain_text("two distributions")


def test_performance_shows_each_version_with_intervals_and_marks(page: Page, shown: Shown) -> None:
    shown.go(page, "performance")
    chart = page.locator(".card[aria-label='Log loss']")
    expect(chart.locator("svg[role=img] path.curve")).to_have_count(3)
    expect(chart.locator("svg[role=img] path.band")).to_have_count(3)
    expect(page.locator(".card[aria-label^='Label']")).to_have_count(0)  # health has how they come
    for kind in ("alert", "training", "live"):
        expect(chart.locator(f"svg[role=img] line.mark-{kind}").first).to_be_attached()
    chart.get_by_role("button", name="Show as a table").click()
    expect(chart.locator("tbody tr")).to_have_count(32)
    chart.get_by_role("button", name="Show the picture").click()


def test_fairness_shows_groups_with_intervals(page: Page, shown: Shown) -> None:
    shown.go(page, "fairness")
    ratio = page.locator(".card[aria-label='Selection ratio']")
    expect(ratio).to_contain_text("1 beyond the limit")
    expect(ratio.locator("svg[role=img]")).to_have_attribute(
        "aria-label", "Selection ratio by group: member=no 0.74"
    )


def test_the_rollout_shows_shares_and_the_confidence_sequence(page: Page, shown: Shown) -> None:
    shown.go(page, "rollout")
    text = body(page)
    for told in ("model 4 · canary · 10.0 %", "In shadow", "model 5", "Promote", "latency_p99_ms",
                 "experiment wider-windows: ship"):  # fmt: skip
        assert told in text
    expect(page.locator("svg[role=img] path.band").first).to_be_attached()


def test_experiments_and_trainings(page: Page, shown: Shown) -> None:
    shown.go(page, "experiments")
    assert "model 2 is better by 0.018" in body(page)
    shown.go(page, "trainings")
    text = body(page)
    assert "log loss 0.581 is not below 0.566 of model 2" in text
    assert "51,300" in text  # the rows of model 3


def test_health_shows_latency_lag_and_processes(page: Page, shown: Shown) -> None:
    shown.log.tell_health()
    shown.go(page, "health")
    expect(page.locator(".card[aria-label='Event to prediction'] svg[role=img]")).to_be_visible()
    expect(page.locator(".card[aria-label='Processes']")).to_contain_text("trainer")
    lag = page.locator(".card[aria-label='Lag'] tbody tr")
    expect(lag).to_have_count(1)
    expect(lag).to_contain_text("0: 20")  # of 120: partition 0 had 100 read, partition 1 110
    lag.locator("summary").click()
    expect(lag).to_contain_text("1: 110 of 120, 10 behind")
    delay = page.locator(".card[aria-label='How labels come']")
    expect(delay).to_contain_text("half within 38 min")
    expect(delay.locator("svg[role=img] path.curve")).to_have_count(2)


def test_records_are_found_by_topic_text_and_time(page: Page, shown: Shown) -> None:
    events = shown.log.pipeline.topics.events
    shown.go(page, f"topics/{events}.dlq")
    records = page.locator("#records li.record")
    expect(records).to_have_count(3)
    shown.go(page, f"topics/{events}")
    expect(records).to_have_count(25)
    page.get_by_label("That hold the text").fill("ride-0042")
    page.get_by_label("From", exact=True).select_option("time")
    page.get_by_label("Record time, UTC").fill("2020-03-15T20:00:00")
    page.get_by_role("button", name="Read", exact=True).click()
    expect(records).to_have_count(1)
    expect(records).to_contain_text('"id": "ride-0042"')


def test_an_alarm_appears_by_itself_and_is_said(page: Page, shown: Shown) -> None:
    shown.go(page, "drift")
    expect(page.locator("#nav-alerts .count")).to_have_text("2")
    shown.log.tell_alert(drift_alert("gap_min", END_MS, "confirmed", 0.47))
    expect(page.locator("#nav-alerts .count")).to_have_text("3")
    expect(page.locator("#announcer")).to_contain_text("Confirmed: gap_min is not as in")
    expect(page.locator(".toast")).to_contain_text("PSI 0.47")
    page.locator(".toast a").first.click()
    expect(page.locator(".alerts > li:focus")).to_contain_text("gap_min")


def test_what_the_log_holds_is_shown_as_text_whatever_it_is(shown: Shown) -> None:
    """Records come from anywhere: nothing of them becomes markup, a script or a link to one."""
    evil = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    page = shown.open("drift")
    window = Window(END_MS - 7 * DAY_MS, END_MS)
    shown.log.tell_metrics([Metric("psi", evil, 9.9, 0.25, 4_000, window, 3, effect=0.9)])
    shown.log.tell_alert(Alert(
        "evil", "data_drift", evil, evil, 9.9, 0.25, 4_000, window, 3, evil, {}, evil, key=evil,
        group=evil, link="javascript:window.hacked=1", bins=(ShiftedBin(evil, 0.1, 0.9),),
        related=(Related(evil, evil, 1.0),), reference=evil,
    ))  # fmt: skip
    shown.log.tell_event(evil)
    page.locator("details summary", has_text="as a table").click()
    row = page.locator(".drift-table tr", has_text="<script>")
    row.get_by_role("button").click()
    expect(page.locator("#drift-cell")).to_contain_text("onerror=")
    shown.go(page, "alerts")
    alert = page.locator(".alerts > li", has_text="onerror=")
    alert.locator("summary").click()
    expect(alert.locator("dl")).to_contain_text("javascript:window.hacked=1")
    assert alert.locator("a[href^=javascript]").count() == 0
    shown.go(page, f"topics/{shown.log.pipeline.topics.events}")
    expect(page.locator("#records li.record", has_text="onerror=")).to_have_count(1)
    for section in SECTIONS:
        shown.go(page, section)
    assert page.locator("main img, main script, .toast img").count() == 0
    assert page.evaluate("window.hacked") is None
    page.context.close()


def test_no_request_leaves_the_origin(shown: Shown) -> None:
    page = shown.open("overview")
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_selector('#connection[data-state="live"]')
    for section in SECTIONS:
        shown.go(page, section)
    assert any(url.endswith("/static/fonts/inter.woff2") for url in asked)  # it is its own
    assert [url for url in asked if not url.startswith(shown.url)] == []
    page.context.close()
