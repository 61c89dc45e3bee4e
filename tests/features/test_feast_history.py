"""Feast's point-in-time joins on our Parquet files give what the log says, also for equal times."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from features.store.history import History
from tests.features.history_log import FeatureLog
from tests.features.payments import DEFINITION, PAYMENTS, START_MS, Payment, prepared, send

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]

ASK = """
import json, sys
from pathlib import Path
import pandas as pd
from features.store.registry import open_repository
from features.store.views import views_of
from streams.settings import Settings
from tests.features.payments import DEFINITION, PAYMENTS

folder, asked = Path(sys.argv[1]), json.loads(sys.stdin.read())
views = views_of(DEFINITION, PAYMENTS)
store = open_repository(folder, "p", DEFINITION, PAYMENTS, views, Settings(online_store=None))
frame = pd.DataFrame(asked, columns=["card", "ms"])
frame["event_timestamp"] = pd.to_datetime(frame["ms"], unit="ms", utc=True)
names = list(DEFINITION.features)
found = store.get_historical_features(frame, [f"features_v1:{name}" for name in names]).to_df()
rows = [
    [row["card"], row["ms"], {n: None if pd.isna(row[n]) else row[n] for n in names}]
    for row in found.to_dict("records")
]
print(json.dumps(rows))
"""


def test_historical_features_are_those_of_the_newest_record_up_to_the_moment(
    bootstrap: str, tmp_path: Path
) -> None:
    log = FeatureLog(bootstrap, prepared(bootstrap, f"t{uuid4().hex[:8]}"))
    log.grow(0, 300)
    # Ten payments of one card in the same millisecond: the last one in the log counts.
    tie_ms = START_MS + 400_000
    tied = [Payment(f"tied{i}", "card3", tie_ms, float(i), "web") for i in range(10)]
    send(bootstrap, log.topics, [(b"card3", msgspec.json.encode(payment)) for payment in tied])
    log.follow()
    # In several files, each a part of the log.
    for rows_per_file in (100, 10):
        History(bootstrap, log.topics, DEFINITION, PAYMENTS, tmp_path, None, rows_per_file).run()
        log.grow(500, 100)
    moments = [START_MS - 60_000, *(START_MS + 1_000 * n for n in range(0, 300, 37))]
    asked = [[f"card{c}", at] for c in range(8) for at in moments]
    asked += [["card3", tie_ms - 1], ["card3", tie_ms], ["card3", tie_ms + 1], ["nobody", tie_ms]]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK, str(tmp_path / "feast")],
        cwd=ROOT, input=msgspec.json.encode(asked).decode(), capture_output=True, text=True,
        timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = msgspec.json.decode(done.stdout.strip().rpartition("\n")[2])
    assert [[card, at] for card, at, _ in found] == asked
    for card, at, values in found:
        assert values == wanted(log, card, at), (card, at)
    assert wanted(log, "card3", tie_ms)["amount"] == 9.0


def newest(log: FeatureLog, card: str, at_ms: int) -> Any:
    """Return the card's newest record up to a moment, the last one of equal time."""
    records: list[Any] = [record for record in log.by_place().values() if record["entity"] == card]
    return max(
        (record for record in records if record["event_time_ms"] <= at_ms),
        key=lambda record: (record["event_time_ms"], record["source"]["offset"]),
        default=None,
    )


def wanted(log: FeatureLog, card: str, at_ms: int) -> dict[str, Any]:
    """Return the features that Feast should find."""
    record = newest(log, card, at_ms)
    features: dict[str, Any] = record["features"] if record else dict.fromkeys(DEFINITION.features)
    return {name: None if value == "" else value for name, value in features.items()}
