"""What the worker writes is what Feast's own SDK reads."""

import contextlib
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.features.payments import (
    DEFINITION,
    START_MS,
    Payment,
    Progress,
    feature_worker,
    offline,
    payments,
    prepared,
    send,
)

pytestmark = [
    pytest.mark.broker,
    pytest.mark.slow,
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# Feast takes seconds to import and changes what it finds: it gets a process of its own.
READ = """
import json, sys
from feast import FeatureStore
folder, view, names = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
store = FeatureStore(repo_path=folder)
rows = [{"card": card} for card in sys.argv[4].split(",")]
found = store.get_online_features([f"{view}:{name}" for name in names], rows).to_dict()

from pathlib import Path
from features.store.table import read_online
from features.store.reader import OnlineReader
from tests.features.payments import DEFINITION, PAYMENTS
helper = read_online(Path(folder).parent, DEFINITION, PAYMENTS, sys.argv[4].split(",")[0])
reader = OnlineReader(Path(folder).parent, DEFINITION, PAYMENTS, project=sys.argv[5])
print(json.dumps([found, helper, reader.event_time_ms("card7"), reader.event_time_ms("nobody")]))
"""


def test_feast_reads_the_newest_features_and_a_late_event_changes_nothing(
    bootstrap: str, tmp_path: Path
) -> None:
    import msgspec

    name = f"t{uuid4().hex[:8]}"
    topics = prepared(bootstrap, name)
    send(bootstrap, topics, payments(0, 400, bad=False))
    newest = Payment("newest", "card7", START_MS + 900_000, 12.5, "phone")
    late = Payment("late", "card7", START_MS + 899_999, 99.0, "web")
    log = tmp_path / "worker.log"
    with (
        contextlib.closing(Progress(bootstrap, topics)) as progress,
        feature_worker(bootstrap, name, tmp_path) as worker,
    ):
        for payment in (newest, late):
            send(bootstrap, topics, [(b"card7", msgspec.json.encode(payment))])
            progress.wait_drained(worker)
        progress.wait_until(lambda: "online store open" in log.read_text(), worker, 120)
        worker.terminate()
        assert worker.wait(60) == 0
    # A snapshot promises that the online store has all before it: the stop has waited for it.
    assert list((tmp_path / "snapshots").rglob("*.snapshot"))
    names = list(DEFINITION.features)
    command = [
        sys.executable, "-W", "ignore", "-c", READ, str(tmp_path / "feast"), "features_v1",
        ",".join(names), "card7,nobody", name,
    ]  # fmt: skip
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found, helper, time_ms, unknown = msgspec.json.decode(printed.stdout)
    values, _ = offline(bootstrap, topics)
    (wanted,) = [
        record["features"]
        for record in map(msgspec.json.decode, values.values())
        if record["event_id"] == "newest"
    ]
    assert {feature: found[feature][0] for feature in names} == wanted == helper
    assert wanted["channel"] == "phone"
    assert all(found[feature][1] is None for feature in names)
    # To the millisecond, which is what keeps a late row out after a restart.
    assert (time_ms, unknown) == (newest.at, None)
