"""Server-sent events: what is sent at first, what changes, and going on after a break."""

import asyncio
from collections.abc import Callable

import msgspec

from serving.dashboard.board import Board, Fixed
from serving.dashboard.documents.alerts import Alerts
from serving.dashboard.documents.figures import Drift, Fairness
from serving.dashboard.drift_map import DriftMap
from serving.dashboard.streaming import events
from tests.serving.dashboard.figures import DAY_MS, metric

Event = tuple[str, str, str]


def new_board() -> tuple[Board, DriftMap]:
    drift = DriftMap()
    drift.take(metric("psi", 1, 0.1, feature="amount"))
    fairness = Fairness(fields=[], metrics=[], windows=[], revision=1)
    return Board({"drift": drift, "fairness": Fixed(fairness)}), drift


def told(
    board: Board, n: int, last: str | None = None, then: Callable[[int], None] = lambda _: None
) -> list[Event]:
    """Return the first n events as (name, id, data); ``then`` is called after each."""

    async def run() -> list[Event]:
        found: list[Event] = []
        async for block in events(board, last, lambda: len(found) >= n, 0.01, 0.05):
            lines = dict(line.split(": ", 1) for line in block.decode().strip().split("\n"))
            if "event" in lines:
                found.append((lines["event"], lines["id"], lines["data"]))
                then(len(found))
        return found

    return asyncio.run(asyncio.wait_for(run(), 30))


def test_at_first_every_section_comes_whole() -> None:
    board, _ = new_board()
    (name, _, data), (other, _, _) = told(board, 2)
    assert (name, other) == ("drift", "fairness")
    document = msgspec.json.decode(data, type=Drift)
    assert document.whole
    assert document.revision == 1


def test_then_what_changes_and_of_drift_what_is_new() -> None:
    board, drift = new_board()

    def change(n: int) -> None:
        if n == 2:
            with board.changing():
                drift.take(metric("psi", 2, 0.7, feature="amount"))

    name, _, data = told(board, 3, then=change)[2]
    document = msgspec.json.decode(data, type=Drift)
    assert name == "drift"
    assert not document.whole
    assert [w.end_ms for w in document.windows] == [2 * DAY_MS]


def test_a_reader_goes_on_where_it_was() -> None:
    board, drift = new_board()
    at = told(board, 2)[-1][1]
    drift.take(metric("psi", 2, 0.7, feature="amount"))
    board.put("fairness", Fairness(fields=["sex"], metrics=[], windows=[]))
    names = [name for name, _, _ in told(board, 3, at)]
    assert names == ["drift", "fairness", "ping"]
    first = msgspec.json.decode(told(board, 1, at)[0][2], type=Drift)
    assert not first.whole


def test_an_id_of_another_process_gets_everything() -> None:
    board, _ = new_board()
    for last in ("cafe:1.1", f"{board.boot}:1", f"{board.boot}:x.y", "nonsense"):
        assert [name for name, _, _ in told(board, 2, last)] == ["drift", "fairness"]


def test_a_silent_connection_is_seen_to_be_alive() -> None:
    board, _ = new_board()
    assert [name for name, _, _ in told(board, 4)][2:] == ["ping", "ping"]


def test_a_section_that_is_put_in_gets_the_next_revision() -> None:
    board = Board({"alerts": Fixed(Alerts(alerts=[], standing=0, total=0, revision=4))})
    board.put("alerts", Alerts(alerts=[], standing=0, total=9))
    assert board.revisions() == {"alerts": 5}
    assert msgspec.json.decode(board.whole("alerts"), type=Alerts).total == 9
