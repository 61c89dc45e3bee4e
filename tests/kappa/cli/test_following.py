"""``kappa alerts`` and ``kappa predictions``: the newest, and with ``--follow`` what comes."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from kappa.cli.alerts import alerts, newest_of_each
from kappa.cli.predictions import predictions
from streams.kafka_client import producer
from streams.topics import Topics, ensure_topics
from streams.wire import Alert, Onset, Prediction, Related, Source, Times
from tests.kappa.cli.test_alerts_audit import PIPELINE
from tests.serving.alerting.told_server import DAY_MS, an_alert

pytestmark = pytest.mark.broker


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    made = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, made.specs(1))
    return made


@pytest.fixture
def declared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bootstrap: str, topics: Topics
) -> Path:
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("COLUMNS", "240")
    file = tmp_path / f"{topics.name}.py"
    file.write_text(PIPELINE.replace("NAME", topics.name))
    return file


@pytest.fixture
def run(declared: Path) -> Callable[..., Result]:
    app = typer.Typer()
    app.command("alerts")(alerts)
    app.command("predictions")(predictions)

    def invoke(command: str, *arguments: str) -> Result:
        result = CliRunner().invoke(app, [command, "-p", str(declared), *arguments])
        assert result.exit_code == 0, result.output
        return result

    return invoke


def append(bootstrap: str, topic: str, *values: msgspec.Struct) -> None:
    client = producer(bootstrap, linger_ms=0)
    for value in values:
        client.produce(topic, msgspec.json.encode(value), b"k", 0)
    assert client.flush(30) == 0


@contextmanager
def coming(bootstrap: str, topic: str, record: Callable[[int], msgspec.Struct]) -> Iterator[None]:
    """Let a record come every tenth of a second: a follower shows what comes once it looks."""
    over = threading.Event()

    def work() -> None:
        for number in count():
            append(bootstrap, topic, record(number))
            if over.wait(0.1):
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def ids(result: Result) -> list[str]:
    return [json.loads(line)["alert_id"] for line in result.stdout.splitlines()]


def prediction(number: int) -> Prediction:
    source, times = Source(0, number), Times(1, None, 1)
    return Prediction(f"p{number}", f"e{number}", "k", 0.5, 0, "live", 1, 1, source, times)


EXCURSIONS = (
    an_alert(1, "suspected"),
    an_alert(2, kind="performance"),
    an_alert(1, "confirmed"),
    an_alert(1, "resolved"),
    an_alert(3, "suspected"),
)


def test_by_default_each_alert_is_shown_as_it_stands_now() -> None:
    newest = newest_of_each(EXCURSIONS)
    assert [a.alert_id for a in newest] == ["a2-confirmed", "a1-resolved", "a3-suspected"]


def test_alerts_are_chosen_by_state_and_kind_or_all_are_shown(
    run: Callable[..., Result], bootstrap: str, topics: Topics
) -> None:
    append(bootstrap, topics.alerts, *EXCURSIONS)
    assert ids(run("alerts", "--json")) == ["a2-confirmed", "a1-resolved", "a3-suspected"]
    every = run("alerts", "--json", "--all")
    assert len(ids(every)) == 5
    assert [json.loads(line)["state"] for line in every.stdout.splitlines()].count("confirmed") == 2
    # An alert that is resolved now is not confirmed, whatever it was.
    assert ids(run("alerts", "--json", "--state", "confirmed")) == ["a2-confirmed"]
    assert ids(run("alerts", "--json", "--kind", "data_drift", "-n", "1")) == ["a3-suspected"]
    none = run("alerts", "--kind", "fairness")
    assert f"{topics.name} has no such alerts" in none.stdout


def test_the_table_says_how_sure_it_is_and_since_when(
    run: Callable[..., Result], bootstrap: str, topics: Topics
) -> None:
    alert = an_alert(
        1, severity="critical", p_value=1.5e-9, effect=0.72, onset=Onset(17_999 * DAY_MS),
        related=(Related("psi", "other", 0.3),),
    )  # fmt: skip
    append(bootstrap, topics.alerts, alert)
    shown = run("alerts").stdout
    for text in (
        "confirmed", "critical", "data drift: PSI of f1 is 0.41 (with other)", "1.5e-09", "0.72",
        "7 d", "2019-04-13 00:00", "2019-04-21 00:00", "retrain",
    ):  # fmt: skip
        assert text in shown


def test_a_narrow_terminal_gets_paragraphs_that_say_the_same(
    run: Callable[..., Result], bootstrap: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    append(bootstrap, topics.alerts, an_alert(1, p_value=1.5e-9, onset=Onset(17_999 * DAY_MS)))

    shown = run("alerts").stdout

    assert shown.splitlines() == [
        "2019-04-21 00:00  confirmed  warning",
        "  data drift: PSI of f1 is 0.41",
        "  since 2019-04-13 00:00; adjusted p 1.5e-09; retrain",
        f"alerts of {topics.name}, times in UTC",
    ]


def test_an_alert_that_is_over_still_says_what_it_was_and_no_action(
    run: Callable[..., Result], bootstrap: str, topics: Topics
) -> None:
    over = an_alert(1, "resolved", cause="psi of f1 is back at 0.1", action="none: resolved")
    append(bootstrap, topics.alerts, an_alert(1), over)

    shown = run("alerts").stdout

    assert "data drift: PSI of f1 is 0.41; psi of f1 is back at 0.1" in shown
    assert "none" not in shown


def test_alerts_follow_shows_what_comes_and_not_what_was(
    run: Callable[..., Result], bootstrap: str, topics: Topics
) -> None:
    append(bootstrap, topics.alerts, *EXCURSIONS)
    with coming(
        bootstrap, topics.alerts, lambda n: an_alert(100 + n, ["resolved", "confirmed"][n % 2])
    ):
        told = run("alerts", "--follow", "-n", "2", "--json", "--state", "confirmed")
        lines = run("alerts", "-f", "-n", "1").stdout
    assert len(set(ids(told))) == 2
    assert all(int(i[1:4]) >= 100 and i.endswith("confirmed") for i in ids(told))
    assert "data drift: PSI of f1" in lines
    assert lines.count("\n") == 1


def test_predictions_follow_shows_what_comes_and_not_what_was(
    run: Callable[..., Result], bootstrap: str, topics: Topics
) -> None:
    append(bootstrap, topics.predictions, prediction(7))
    with coming(bootstrap, topics.predictions, lambda n: prediction(100 + n)):
        told = run("predictions", "--follow", "-n", "3", "--json")
        lines = run("predictions", "-f", "-n", "1").stdout
    numbers = [json.loads(line)["source"]["offset"] for line in told.stdout.splitlines()]
    assert numbers[0] >= 100
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    assert "  e1" in lines


def test_ctrl_c_ends_following_in_good_order(
    declared: Path, bootstrap: str, topics: Topics
) -> None:
    command = [sys.executable, "-m", "kappa", "alerts", "-f", "--json", "-p", str(declared)]
    with (
        coming(bootstrap, topics.alerts, an_alert),
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        ) as process,
    ):
        assert process.stdout is not None
        first: Alert = msgspec.json.decode(process.stdout.readline(), type=Alert)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert first.state == "confirmed"
    assert (process.returncode, errors) == (0, "")
