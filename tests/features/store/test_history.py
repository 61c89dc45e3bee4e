"""The Parquet files hold each feature record once, whatever is repeated, killed or done again."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.definition import Definition
from features.store.history import History, HistoryProgress
from features.store.history_files import new_rows
from streams.errors import BrokerError, StateError
from streams.topics import Topics
from tests.features.history_log import FeatureLog
from tests.features.payments import DEFINITION, PARTITIONS, PAYMENTS, prepared

pytestmark = pytest.mark.broker


@pytest.fixture
def log(bootstrap: str) -> FeatureLog:
    return FeatureLog(bootstrap, prepared(bootstrap, f"t{uuid4().hex[:8]}"))


def history(
    log: FeatureLog,
    home: Path,
    rows_per_file: int = 200_000,
    topics: Topics | None = None,
    definition: Definition = DEFINITION,
) -> History:
    return History(
        log.bootstrap, topics or log.topics, definition, PAYMENTS, home, None, rows_per_file
    )


def content(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.parquet")):
        rows += pq.read_table(path, partitioning=None).to_pylist()
    return rows


def check(folder: Path, log: FeatureLog) -> None:
    """Each record of the log once, every value as it says."""
    wanted = log.by_place()
    found = content(folder)
    places = [(row["kappa_partition"], row["kappa_source_offset"]) for row in found]
    assert sorted(places) == sorted(wanted)
    for place, row in zip(places, found, strict=True):
        record: Any = wanted[place]
        assert row["card"] == record["entity"]
        assert row["kappa_event_id"] == record["event_id"]
        assert row["kappa_event_time_ms"] == record["event_time_ms"]
        for name, value in record["features"].items():
            assert row[name] == (None if value == "" else value), name


def test_each_record_is_written_once_and_runs_go_on_where_the_files_end(
    log: FeatureLog, tmp_path: Path
) -> None:
    log.grow(0, 300)
    seen: list[HistoryProgress] = []
    first = history(log, tmp_path, rows_per_file=50)
    done = first.run(seen.append)
    assert (done.rows, done.done, done.records, done.repeated) == (300, 300, 300, 0)
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    check(first.folder, log)
    files = {path: path.stat().st_mtime_ns for path in first.folder.glob("*.parquet")}
    assert len(files) == done.files >= PARTITIONS

    log.grow(300, 200)
    second = history(log, tmp_path).run()
    assert second.rows == 200
    check(first.folder, log)
    # No file that was there is touched again.
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert history(log, tmp_path).run().rows == 0


def test_stretches_that_a_worker_emitted_again_are_left_out(
    log: FeatureLog, tmp_path: Path
) -> None:
    made = log.grow(0, 200)
    log.append(made[100:])  # within one run
    writer = history(log, tmp_path)
    assert writer.run().repeated == 100
    check(writer.folder, log)
    log.append(made[150:])  # and across runs; alone it makes no file
    before = sorted(writer.folder.glob("*.parquet"))
    assert history(log, tmp_path).run().repeated == 50
    assert sorted(writer.folder.glob("*.parquet")) == before
    log.grow(200, 100)
    again = history(log, tmp_path).run()
    assert (again.rows, again.repeated) == (100, 50)
    check(writer.folder, log)


def test_what_a_killed_run_left_is_dropped_and_done_again(log: FeatureLog, tmp_path: Path) -> None:
    log.grow(0, 300)

    class KilledError(Exception):
        pass

    def kill(progress: HistoryProgress) -> None:
        if progress.files == 2:
            raise KilledError

    writer = history(log, tmp_path, rows_per_file=50)
    with pytest.raises(KilledError):
        writer.run(kill)
    (writer.folder / ".00001-left-behind.parquet.draft").write_bytes(b"half a file")
    assert 0 < len(content(writer.folder)) < 300
    writer.run()
    check(writer.folder, log)
    assert not list(writer.folder.glob(".*.draft"))


def test_following_brings_what_comes_until_it_is_told_to_stop(
    log: FeatureLog, tmp_path: Path
) -> None:
    log.grow(0, 50)
    stop = threading.Event()
    grown = threading.Event()

    def watch(progress: HistoryProgress) -> None:
        if progress.rows == 50 and not grown.is_set():
            grown.set()
            log.grow(50, 50)
        if progress.rows == 100:
            stop.set()

    writer = history(log, tmp_path)
    assert writer.run(watch, stop, every_s=0.01).rows == 100
    check(writer.folder, log)


def test_only_one_process_writes_a_history(log: FeatureLog, tmp_path: Path) -> None:
    log.grow(0, 20)
    refused: list[str] = []

    def second(_: HistoryProgress) -> None:
        with pytest.raises(StateError) as error:
            history(log, tmp_path).run()
        refused.append(str(error.value))

    history(log, tmp_path).run(second)
    assert refused
    assert "another process writes the history" in refused[0]


def _hole(folder: Path) -> None:
    files = sorted(folder.glob("00000-*.parquet"))
    files[1].unlink()


def _damage(folder: Path) -> None:
    files = sorted(folder.glob("00000-*.parquet"))
    files[-1].write_bytes(b"PAR1 and then nothing")


def _foreign(folder: Path) -> None:
    (folder / "mine.parquet").write_bytes(b"")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_hole, "a stretch is missing: put the file back"),
        (_damage, "is damaged .*: delete it, its stretch is written again"),
        (_foreign, "is no file of this history"),
    ],
)
def test_a_broken_history_is_an_error_with_its_fix(
    log: FeatureLog, tmp_path: Path, break_it: Callable[[Path], None], message: str
) -> None:
    writer = history(log, tmp_path, rows_per_file=1)
    for n in range(4):
        log.grow(100 * n, 100)
        writer.run()
    break_it(writer.folder)
    with pytest.raises(StateError, match=message):
        history(log, tmp_path).run()


def test_a_history_of_something_else_is_not_mixed_with_this_one(
    log: FeatureLog, tmp_path: Path
) -> None:
    log.grow(0, 50)
    history(log, tmp_path).run()
    changed = replace(DEFINITION, features=dict(DEFINITION.features), groups=())
    with pytest.raises(StateError, match="of another definition"):
        history(log, tmp_path, definition=changed).run()
    other = FeatureLog(log.bootstrap, prepared(log.bootstrap, f"t{uuid4().hex[:8]}"))
    other.grow(0, 50)
    with pytest.raises(StateError, match="of another features topic"):
        history(other, tmp_path).run()


def test_a_topic_shorter_than_its_history_is_an_error(log: FeatureLog, tmp_path: Path) -> None:
    log.grow(0, 50)
    writer = history(log, tmp_path)
    writer.run()
    (last,) = writer.folder.glob("00000-*.parquet")
    partition, first, end = last.stem.split("-")
    last.rename(last.with_name(f"{partition}-{first}-{int(end) + 7:020d}.parquet"))
    with pytest.raises(BrokerError, match="records are gone"):
        history(log, tmp_path).run()


def test_repeated_rows_are_those_at_or_before_the_greatest_so_far() -> None:
    offsets = np.array([4, 5, 6, 5, 6, 7, 9, 8], dtype=np.int64)
    assert new_rows(offsets, 5).tolist() == [False, True, True, False, False, True, True, False]
    assert new_rows(offsets[:0], 5).tolist() == []
