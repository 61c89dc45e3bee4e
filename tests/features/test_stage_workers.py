"""Workers of both stages of a definition with two keys, as processes on a real broker."""

import subprocess
import time
from pathlib import Path
from uuid import uuid4

import pytest

from features.records import FeatureCodec
from features.stages import Stage
from features.verify import Replay, ReplayReport
from streams.positions import PositionReader
from streams.replay import offset_bounds, read_ranges
from streams.topics import dead_letter_topic
from tests.features import shops
from tests.features.shops import payments, prepared, send, stage_worker

pytestmark = [
    pytest.mark.broker,
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def wait_drained(
    bootstrap: str, stages: list[Stage], workers: list[subprocess.Popen[bytes]]
) -> None:
    """Wait until each stage has committed the end of its input, the first first."""
    reader = PositionReader(bootstrap)
    deadline = time.monotonic() + 90
    try:
        for stage in stages:
            inputs = {stage.input: stage.events.partitions}
            while lag := sum(reader.lag(stage.group, inputs).values()):
                assert [worker.poll() for worker in workers] == [None] * len(workers)
                assert time.monotonic() < deadline, f"{stage.role} is {lag} behind"
                time.sleep(0.02)
    finally:
        reader.close()


def replayed(bootstrap: str, stage: Stage) -> ReplayReport:
    return Replay(
        bootstrap, stage.topics, stage.definition, stage.events,
        labels=stage.labels, stage=stage.number,
    ).run()  # fmt: skip


def test_each_event_gets_a_record_of_all_keys(bootstrap: str, tmp_path: Path) -> None:
    stages = prepared(bootstrap, f"t{uuid4().hex[:8]}", shops.both_keys)
    first, last = stages
    send(bootstrap, first.input, payments(0, 1500))
    with (
        stage_worker(bootstrap, first, "both_keys", tmp_path) as one,
        stage_worker(bootstrap, last, "both_keys", tmp_path) as two,
    ):
        wait_drained(bootstrap, stages, [one, two])
    for stage in stages:
        report = replayed(bootstrap, stage)
        assert report.identical, (stage.role, report.mismatches)
        assert report.rows == 1500 - 30
        assert (report.repeated, report.pending) == (0, 0)

    codec = FeatureCodec(last.definition, last.events, last.labels)
    bounds = offset_bounds(bootstrap, last.output, last.events.partitions)
    origins: set[tuple[int, int]] = set()
    for batch in read_ranges(bootstrap, last.output, bounds):
        rows = codec.decode(batch)
        assert rows.origin_partitions is not None
        assert rows.origin_offsets is not None
        origins |= set(
            zip(rows.origin_partitions.tolist(), rows.origin_offsets.tolist(), strict=True)
        )
        assert batch.timestamps_ms.tolist() == rows.event_times_ms.tolist()
    dead = dead_letter_topic(first.input)
    letters = read_ranges(bootstrap, dead, offset_bounds(bootstrap, dead, 1))
    assert sum(map(len, letters)) == 30
    assert len(origins) == 1500 - 30
