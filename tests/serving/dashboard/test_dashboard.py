"""The whole dashboard: a real log, a process of its own, and what a browser would ask of it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest

from serving.dashboard.documents.rollout import ExperimentFindings
from serving.dashboard.documents.sections import SECTIONS
from serving.dashboard.flow import picture_of
from serving.dashboard.folding import Folds
from serving.dashboard.live import Live
from serving.dashboard.measuring import Measured
from tests.serving.dashboard.figures import alert
from tests.serving.dashboard.filled_log import FilledLog, fill, pipeline_of
from tests.serving.dashboard.served_page import TOKEN

WITHIN_S = 60.0


@dataclass
class Running:
    log: FilledLog
    client: httpx.Client

    def log_in(self) -> dict[str, str]:
        """Return the headers of an action."""
        origin = {"origin": str(self.client.base_url).rstrip("/")}
        answer = self.client.post("/api/login", json={"token": TOKEN}, headers=origin)
        return {**origin, "x-kappa-csrf": answer.json()["csrf"]}

    def until(self, section: str, wanted: Any) -> Any:
        """Return a section once ``wanted`` holds of it."""
        until = time.monotonic() + WITHIN_S
        while time.monotonic() < until:
            document = self.client.get(f"/api/{section}").json()
            if wanted(document):
                return document
            time.sleep(0.05)
        raise TimeoutError(f"{section} stays {str(document)[:2_000]}")


@pytest.fixture(scope="module")
def running(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("dashboard")
    log = fill(bootstrap, folder)
    module = "tests.serving.dashboard.served_page"
    command = [sys.executable, "-m", module, log.pipeline.name, bootstrap, str(folder)]
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + WITHIN_S
        while not (folder / "url").exists():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.05)
        url = (folder / "url").read_text()
        with httpx.Client(base_url=url, timeout=WITHIN_S) as client:
            found = Running(log, client)
            found.until("overview", lambda d: d["events"]["total"])
            yield found
    finally:
        process.terminate()
        assert process.wait(30) == 0


def read_events(running: Running, wanted: Any, last: str | None = None) -> list[dict[str, Any]]:
    """Return events as they come, up to the first for which ``wanted`` holds."""
    found: list[dict[str, Any]] = []
    headers = {} if last is None else {"last-event-id": last}
    with running.client.stream("GET", "/api/stream", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        until, event = time.monotonic() + WITHIN_S, {}
        for line in answer.iter_lines():
            assert time.monotonic() < until, found
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif "event" in event:
                found.append({**event, "data": json.loads(event["data"])})
                if wanted(found):
                    break
            if not line:
                event = {}
    return found


@pytest.mark.broker
def test_every_section_is_what_its_document_says(running: Running) -> None:
    for section, document in SECTIONS.items():
        answer = running.client.get(f"/api/{section}")
        assert answer.status_code == 200
        msgspec.json.decode(answer.content, type=document)
    overview = running.until("overview", lambda d: d["live"])
    assert overview["broker"] == "up"
    assert overview["newest_event_ms"] is not None
    drift = running.until("drift", lambda d: d["features"])
    assert drift["figures"][0]["metric"] == "psi"
    assert running.client.get("/api/performance").json()["marks"]
    assert running.client.get("/api/rollout").json()["judgements"]
    processes = running.client.get("/api/health").json()["processes"]
    assert {process["state"] for process in processes} >= {"running"}


@pytest.mark.broker
def test_an_alert_comes_live_and_a_reader_goes_on(running: Running) -> None:
    first = read_events(running, lambda e: {x["event"] for x in e} >= set(SECTIONS))
    last = first[-1]["id"]
    running.log.tell_alert(alert("live", 20_000, cause="seen as it comes"))
    news = read_events(running, lambda e: e[-1]["event"] == "alerts", last)
    assert not {"drift", "fairness", "experiments"} & {event["event"] for event in news}
    newest = news[-1]["data"]["alerts"][0]["newest"]
    assert (newest["key"], newest["cause"]) == ("live", "seen as it comes")
    standing = running.until("overview", lambda d: any(a["key"] == "live" for a in d["standing"]))
    assert standing["standing"]


@pytest.mark.broker
def test_a_cell_of_the_heat_map_has_both_distributions(running: Running) -> None:
    drift = running.until("drift", lambda d: d["windows"])
    window = drift["windows"][-1]
    asked = {
        "feature": drift["features"][0], "start_ms": window["start_ms"],
        "end_ms": window["end_ms"], "version": window["model_version"],
    }  # fmt: skip
    cell = running.client.get("/api/drift/cell", params=asked).json()
    assert cell["why"] is None
    assert len(cell["bins"]) == len(cell["expected"]) == len(cell["observed"])
    assert sum(cell["expected"]) == pytest.approx(1, abs=1e-4)
    missing = running.client.get("/api/drift/cell", params={**asked, "feature": "nothing"})
    assert missing.status_code == 404


@pytest.mark.broker
def test_actions_stand_in_the_log_with_their_reason(running: Running) -> None:
    headers = running.log_in()

    def act(name: str, **order: Any) -> httpx.Response:
        return running.client.post(f"/api/actions/{name}", json=order, headers=headers)

    asked = act("retrain", reason="the summer is over", window="all")
    assert asked.status_code == 200, asked.text
    command_id = asked.json()["result"]["command_id"]
    trainings = running.until(
        "trainings", lambda d: any(t["command_id"] == command_id for t in d["trainings"])
    )
    (training,) = [t for t in trainings["trainings"] if t["command_id"] == command_id]
    assert (training["state"], training["reason"]) == ("asked", "the summer is over")

    live = running.client.get("/api/overview").json()["live"]
    pinned = act("pin", version=live, reason="holidays")
    assert pinned.status_code == 200, pinned.text
    rollout = running.until("rollout", lambda d: d["definitions"][0]["pinned"] == live)
    assert (rollout["changes"][-1]["by"], rollout["changes"][-1]["reason"]) == (
        "operator", "holidays",
    )  # fmt: skip
    assert act("pin", version=live, reason="again").status_code == 409
    assert act("pin", reason="let go").status_code == 200
    back = act("rollback", reason="worse on Mondays")
    assert back.status_code == 200, back.text
    running.until("overview", lambda d: d["live"] != live)
    promoted = act("promote", version=live, reason="it was right", to="live")
    assert promoted.status_code == 200, promoted.text
    running.until("overview", lambda d: d["live"] == live)
    assert act("promote", version=live, reason="it was right").status_code == 409
    done = running.client.get("/api/actions").json()["done"]
    assert [each["action"] for each in done] == ["promote", "rollback", "pin", "pin", "retrain"]


@pytest.mark.broker
def test_dead_letters_are_sent_back_from_the_page(running: Running) -> None:
    topic = f"{running.log.pipeline.topics.events}.dlq"
    headers = running.log_in()
    order = {"topic": topic, "reason": "the type takes them now"}
    sent = running.client.post("/api/actions/retry", json=order, headers=headers).json()
    assert len(sent["result"]["sent"]) == 3
    again = running.client.post("/api/actions/retry", json=order, headers=headers).json()
    assert again["result"]["sent"] == []
    letters = running.client.get("/api/records", params={"topic": topic}).json()["records"]
    assert [letter["retried"] for letter in letters] == [1, 1, 1]
    foreign = running.client.get("/api/records", params={"topic": "__consumer_offsets"})
    assert foreign.status_code == 409


@pytest.mark.broker
def test_what_an_experiment_shows_is_read_when_it_is_asked_for(running: Running) -> None:
    (experiment,) = running.client.get("/api/experiments").json()["experiments"]
    asked = {"name": experiment["name"]}
    answer = running.client.get("/api/experiments/findings", params=asked)
    assert answer.status_code == 200, answer.text
    found = msgspec.json.decode(answer.content, type=ExperimentFindings)
    assert (found.name, found.outcomes) == (experiment["name"], 0)
    unknown = running.client.get("/api/experiments/findings", params={"name": "nothing"})
    assert unknown.status_code == 409
    assert "nothing" in unknown.json()["detail"]


@pytest.mark.broker
def test_a_replay_goes_on_behind_its_answer(running: Running) -> None:
    answer = running.client.post(
        "/api/actions/replay", json={"reason": "am I right?"}, headers=running.log_in()
    ).json()
    assert answer["state"] == "started"

    def is_done(document: Any) -> bool:
        return any(d["id"] == answer["id"] and d["state"] != "started" for d in document["done"])

    (done,) = [d for d in running.until("actions", is_done)["done"] if d["id"] == answer["id"]]
    assert done["state"] == "done", done["text"]
    assert done["result"]["features"]["pending"] > 0  # nothing has made features of this log


def test_a_broker_that_is_away_is_told_and_comes_back() -> None:
    now_ms = 1_000
    folds = Folds(pipeline_of("away"), "127.0.0.1:1", ["retrain"], lambda: now_ms)
    with Live(folds, "127.0.0.1:1"):
        until = time.monotonic() + WITHIN_S
        while json.loads(folds.board.whole("health"))["broker"]["why"] in (None, "not asked yet"):
            assert time.monotonic() < until
            folds.board.revisions()
            time.sleep(0.05)
    overview = json.loads(folds.board.whole("overview"))
    assert (overview["broker"], overview["actions"]) == ("away", [])
    assert "127.0.0.1:1" in json.loads(folds.board.whole("health"))["broker"]["why"]
    now_ms = 5_000
    folds.measured(Measured(1, 2.0, {}))
    overview = json.loads(folds.board.whole("overview"))
    assert (overview["broker"], overview["broker_since_ms"]) == ("up", 5_000)
    assert overview["actions"] == ["retrain"]


def test_the_picture_has_every_node_of_its_edges() -> None:
    folds = Folds(pipeline_of("drawn"), "", [], lambda: 0)
    overview = json.loads(folds.board.whole("overview"))
    ids = {node["id"] for node in overview["nodes"]}
    ends = {edge[end] for edge in overview["edges"] for end in ("source", "target")}
    assert ends <= ids
    columns = {node["id"]: node["column"] for node in overview["nodes"]}
    assert all(columns[e["source"]] < columns[e["target"]] for e in overview["edges"] if e["lag"])
    places = [(node["column"], node["row"]) for node in overview["nodes"]]
    assert len(set(places)) == len(places)
    assert set(picture_of(pipeline_of("drawn")).groups) >= {"features", "inference", "monitor"}
