"""Feast's SDK and command line see what is written, by the views' rules."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr

from features.store.reader import OnlineReader
from streams.errors import SourceError
from streams.settings import Settings
from tests.features.feast_session import DEFINITION, HOUR_MS, TWO_KEYS
from tests.features.payments import PAYMENTS, START_MS, Payment
from tests.features.redis_server import redis_server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "payments_test"
CARD = list(DEFINITION.features)
A = dict(zip(CARD, [2.0, 5.5, 11.0, "web", 2.0], strict=True))
NEW = dict(zip(CARD, [0.0, None, 7.0, None, None], strict=True))

# The command `feast`, twice in one process, as it takes seconds to import.
APPLY_AND_LIST = """
import sys
from feast.cli.cli import cli
for command in (["apply"], ["feature-views", "list"]):
    cli(["-c", sys.argv[1], *command], standalone_mode=False)
"""
NOTHING = dict.fromkeys(CARD)


class Session:
    """What one run of the session printed, and where it left its files."""

    def __init__(self, home: Path, address: str | None) -> None:
        self.home = home
        self.settings = Settings(online_store=SecretStr(address) if address else None)
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.environment["KAPPA_ONLINE_STORE"] = address or "sqlite"
        self.seen: dict[str, Any] = msgspec.json.decode(
            # Feast tells of its work on the same stream.
            self.run("-m", "tests.features.feast_session", str(home / "feast"), PROJECT)
            .strip()
            .rpartition("\n")[2]
        )

    def run(self, *arguments: str) -> str:
        """Run Python in a process of its own; return what it printed."""
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=180,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def session(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    home = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        yield Session(home, None)
        return
    with redis_server(home) as address:
        yield Session(home, address)


def test_rows_are_read_by_the_sdk_and_expire_by_event_time(session: Session) -> None:
    assert session.seen["written"] == 3
    assert session.seen["cards"] == {"a": A, "new": NEW, "old": NOTHING, "nobody": NOTHING}


def test_each_key_has_its_view_with_the_time_to_live_of_its_windows(session: Session) -> None:
    assert session.seen["by card"] == {"a": {"count_1h": 3.0}}
    assert session.seen["by channel"] == {"web": {"channel_count_1d": 40.0}}
    views = session.seen["views"]
    assert views["features_v7"] == [["card"], 2 * 3600]  # 1h and the lateness of 1h
    assert views["features_v8"] == [["card"], 2 * 3600]
    assert views["features_v8_channel"] == [["channel"], 25 * 3600]
    assert views["features_v9"] == [["card"], 9 * 86_400]  # as it is told


def test_a_late_row_changes_nothing_whichever_way_it_comes(session: Session) -> None:
    assert session.seen["late"] == 0
    assert session.seen["after late"] == A
    newer, older = session.seen["feast write"]
    assert newer == dict(zip(CARD, [3.0, None, 21.0, "shop", 0.5], strict=True))
    assert older == newer


def test_a_users_own_view_of_any_types_is_materialized_and_removed(session: Session) -> None:
    own = session.seen["own view"]
    assert own["materialized"] == {
        "a": {"visits": 7, "score": 0.5, "vip": True, "tags": ["x", "y"]},
        "b": {"visits": -5, "score": 0.25, "vip": False, "tags": ["z"]},
    }
    assert own["made again"]["a"] == dict.fromkeys(["visits", "score", "vip", "tags"])


def test_the_configuration_holds_no_address(session: Session) -> None:
    address = session.settings.online_store_address
    for path in (session.home / "feast").rglob("*"):
        if address and path.is_file():
            assert address.encode() not in path.read_bytes(), path


def test_the_reader_needs_no_feast_and_computes_the_rest_from_the_request(
    session: Session,
) -> None:
    reader = OnlineReader(session.home, DEFINITION, PAYMENTS, session.settings, project=PROJECT)
    imported = session.run("-c", "import sys, features.store.reader; print(*sys.modules)")
    assert "feast" not in imported.split()
    kept = {"count_1h": 3.0, "mean_1h": None, "amount": 21.0, "channel": "shop"}
    assert reader.read({"card": "a"}) == {**kept, "above_mean": None}
    # What is stored of "new" counts for two hours; amount and channel come from the request.
    now = START_MS + HOUR_MS
    values = reader.read(["new"], {"amount": 8, "channel": "web"}, now)
    fresh = {"amount": 8.0, "channel": "web", "above_mean": None}
    assert values == {"count_1h": 0.0, "mean_1h": None, **fresh}
    assert list(values) == CARD
    expired = reader.read(["new"], {"amount": 8, "channel": "web"}, now + 1)
    assert expired == {"count_1h": None, "mean_1h": None, **fresh}
    whole = Payment("p", "new", now + 1, 8.0, "web")
    assert reader.read(["new"], whole) == expired
    for wrong, message in (
        ({"amount": -1.0}, "the request is no Payment: .*>= 0"),
        ({}, "the request is no Payment: .*amount"),
    ):
        with pytest.raises(SourceError, match=message):
            reader.read({"card": "a"}, wrong, now)
    with pytest.raises(SourceError, match="entities by terminal: the definition's keys are card"):
        reader.read({"terminal": "t"})
    reader.close()


def test_the_reader_brings_the_features_of_several_keys_together(session: Session) -> None:
    reader = OnlineReader(session.home, TWO_KEYS, PAYMENTS, session.settings, project=PROJECT)
    assert reader.read({"card": "a", "channel": "web"}, {"amount": 5.0}, START_MS) == {
        "count_1h": 3.0, "channel_count_1d": 40.0, "amount": 5.0, "of_channel": 3 / 40,
    }  # fmt: skip
    # Each key's rows have a time to live of their own.
    later = reader.read(["a", "web"], {"amount": 5.0}, START_MS + 3 * HOUR_MS)
    assert (later["count_1h"], later["channel_count_1d"], later["of_channel"]) == (None, 40.0, None)
    assert reader.read(["a"])["channel_count_1d"] is None
    reader.close()


def test_the_command_line_lists_the_views_and_apply_keeps_them(session: Session) -> None:
    if session.settings.online_store:
        pytest.skip("the command line is the same for both stores, and takes long to start")
    folder = session.home / "feast"
    # Whatever lies about in the repository is not run.
    (folder / "history" / "features_v7").mkdir(parents=True, exist_ok=True)
    for path in ("stray.py", "history/features_v7/stray.py"):
        (folder / path).write_text("raise SystemExit('imported')")
    listed = session.run("-c", APPLY_AND_LIST, str(folder))
    names = [line.split()[0] for line in listed.partition("NAME")[2].splitlines()[1:]]
    assert sorted(names) == sorted(session.seen["views"])
