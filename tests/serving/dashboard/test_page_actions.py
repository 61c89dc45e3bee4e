"""The page's actions in Chromium: each says what it will do, does it, and stands in the log."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from streams.control import ControlFollower
from streams.wire import Command, ModelEvent, Pinned, Retrain, StageChanged
from tests.serving.dashboard.conftest import TIMEOUT_MS, Shown
from tests.serving.dashboard.served_page import TOKEN

pytestmark = pytest.mark.broker

expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def page(shown: Shown) -> Iterator[Page]:
    """A page that may act."""
    page = shown.open("actions")
    expect(page.locator(".section-body")).to_contain_text("may look, not act")
    shown.log_in(page)
    expect(page.locator(".section-body")).not_to_contain_text("may look, not act")
    yield page
    page.context.close()


def asked(page: Page, name: str) -> Locator:
    """Open an action's dialog."""
    page.get_by_role("button", name=f"{name}…", exact=True).click()
    dialog = page.locator("dialog")
    expect(dialog.get_by_role("heading")).to_have_text(name)
    return dialog


def confirmed(page: Page, dialog: Locator, button: str, why: str) -> str:
    """Say why, confirm, and return the line of what was done."""
    dialog.get_by_label("Why").fill(why)
    dialog.get_by_role("button", name=button, exact=True).click()
    expect(dialog).to_have_count(0)
    row = page.locator(".section-body tbody tr", has_text=why)
    expect(row).to_have_count(1)
    return row.inner_text()


def told(shown: Shown) -> tuple[list[ModelEvent], list[Command]]:
    """Return the models' log and the commands."""
    topics = shown.log.pipeline.topics
    found: list[list[bytes]] = []
    for topic in (topics.models, topics.commands):
        follower = ControlFollower(shown.log.bootstrap, topic)
        try:
            found.append(follower.catch_up())
        finally:
            follower.close()
    events = msgspec.json.Decoder[ModelEvent](ModelEvent)
    commands = msgspec.json.Decoder[Command](Command)
    return [events.decode(v) for v in found[0]], [commands.decode(v) for v in found[1]]


def test_retrain_is_asked_for_once_it_is_confirmed(page: Page, shown: Shown) -> None:
    dialog = asked(page, "Retrain")
    expect(dialog).to_contain_text("A retrain command is written to the log")
    bad = [
        (each["id"], each["impact"])
        for each in Axe().run(page).response["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert bad == []
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    before = len(told(shown)[1])
    dialog = asked(page, "Retrain")
    dialog.get_by_label("Window of data").fill("30d")
    assert "asked for" in confirmed(page, dialog, "Retrain", "the roads are closed")
    commands = told(shown)[1]
    assert len(commands) == before + 1
    newest = commands[-1]
    assert isinstance(newest, Retrain)
    assert (newest.window, newest.reason) == ("30d", "the roads are closed")


def test_what_is_refused_is_said_in_the_dialog_and_changes_nothing(
    page: Page, shown: Shown
) -> None:
    before = told(shown)
    dialog = asked(page, "Promote")
    dialog.locator("select[name=version]").select_option("3")
    dialog.get_by_label("Why").fill("it is live already")
    dialog.get_by_role("button", name="Promote", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("model 3 is live on definition v1 already")
    dialog.get_by_role("button", name="Cancel").click()
    assert told(shown) == before


def test_a_canary_is_rolled_back(page: Page, shown: Shown) -> None:
    dialog = asked(page, "Roll back")
    expect(dialog).to_contain_text("Model 3 answers no more")  # the live one, unless told
    dialog.locator("select[name=version]").select_option("4")
    expect(dialog).to_contain_text("Model 4 answers no more")
    line = confirmed(page, dialog, "Roll back", "it is slow on phones")
    assert "model 4 is rolled back; model 3 is live" in line
    newest = told(shown)[0][-1]
    assert isinstance(newest, StageChanged)
    assert (newest.version, newest.stage, newest.by) == (4, "rolled_back", "operator")


def test_a_version_is_promoted_and_shown_live_everywhere(page: Page, shown: Shown) -> None:
    dialog = asked(page, "Promote")
    dialog.locator("select[name=version]").select_option("5")
    expect(dialog).to_contain_text("Model 5 answers every entity in place of model 3.")
    assert "model 5 is live" in confirmed(page, dialog, "Promote", "it knows the shift")
    newest = told(shown)[0][-1]
    assert isinstance(newest, StageChanged)
    assert (newest.version, newest.stage, newest.reason) == (5, "live", "it knows the shift")
    expect(page.locator("#versions")).to_have_text("features v1 · model 5 live")


def test_the_keyboard_alone_pins_a_version(shown: Shown) -> None:
    page = shown.open("actions")
    press = page.keyboard.press
    page.get_by_role("button", name="Pin…").focus()
    press("Enter")  # who may not act yet is asked for the token first
    expect(page.locator("dialog input[name=token]")).to_be_focused()
    page.keyboard.type(TOKEN)
    press("Enter")
    dialog = page.locator("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("Pin")
    expect(dialog.get_by_label("Pin to")).to_be_focused()
    page.keyboard.type("model 5")
    expect(dialog).to_contain_text("Model 5 is live and stays live.")
    press("Tab")
    page.keyboard.type("hands off")
    press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.locator(".section-body tbody tr", has_text="hands off")).to_have_count(1)
    newest = told(shown)[0][-1]
    assert isinstance(newest, Pinned)
    assert (newest.version, newest.reason) == (5, "hands off")
    shown.go(page, "rollout")
    expect(page.locator(".section-body")).to_contain_text("pinned to 5")
    page.context.close()


def test_dead_letters_are_sent_back_each_once(page: Page, shown: Shown) -> None:
    topic = f"{shown.log.pipeline.topics.events}.dlq"
    dialog = asked(page, "Retry dead letters")
    dialog.get_by_label("Dead-letter topic").select_option(topic)
    dialog.get_by_label("Offsets").fill("1, 2")
    expect(dialog).to_contain_text(f"The original bytes of offsets 1, 2 of {topic} are appended")
    first = confirmed(page, dialog, "Send them back", "the reader is mended")
    dialog = asked(page, "Retry dead letters")
    dialog.get_by_label("Dead-letter topic").select_option(topic)
    again = confirmed(page, dialog, "Send them back", "once more, all")
    assert "2 sent back" in first
    assert "2 were sent before" in again


def test_a_replay_goes_on_and_its_result_comes_by_itself(page: Page) -> None:
    dialog = asked(page, "Replay")
    expect(dialog).to_contain_text("It only reads")
    confirmed(page, dialog, "Replay", "is the log still right?")
    row = page.locator(".section-body tbody tr", has_text="is the log still right?")
    expect(row).to_contain_text("feature records from the log's beginning")


def test_without_the_token_of_the_session_nothing_is_done(page: Page, shown: Shown) -> None:
    """Another site's page may make this browser ask: it has the cookie, not the token."""
    before = told(shown)
    status = page.evaluate("""async () => (await fetch("/api/actions/retrain", {
        method: "POST", headers: {"content-type": "application/json"},
        body: JSON.stringify({reason: "forged"}),
    })).status""")
    assert status == 403
    assert told(shown) == before
