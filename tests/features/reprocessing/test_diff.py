"""Two versions of the features compared on a log where every difference is known."""

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from features.aggregations import Count, Sum
from features.definition import Category, Definition, HourOfDay, Number
from features.reprocessing.diff import compare
from features.reprocessing.diff_reading import Side
from features.reprocessing.rebuild import RebuildJob, run_rebuild
from streams.errors import StateError
from streams.expressions import Value
from streams.kafka_client import producer
from streams.topics import Topics, ensure_topics
from tests.features.payments import PARTITIONS, PAYMENTS, payments, read_all, send

pytestmark = [
    pytest.mark.broker,
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

V1 = Definition(
    1,
    {
        "amount": Number(Value("amount")),
        "count": Count("5m", "1m"),
        "sum": Sum(Value("amount"), "5m", "1m"),
        "channel": Category("channel"),
        "hour": HourOfDay(),
        "gone": Number(Value("amount")),
        "kind": Category("channel"),
    },
)
V2 = Definition(
    2,
    {
        "hour": HourOfDay("Asia/Kolkata"),
        "channel": Category("channel"),
        "amount": Number(Value("amount")),
        "count": Count("1h", "1m"),
        "sum": Sum(Value("amount"), "5m", "1m"),
        "kind": Number(Value("amount")),
        "come": Number(Value("amount")),
    },
)


@pytest.fixture
def job(bootstrap: str, tmp_path: Path) -> RebuildJob:
    """The job of version 1 of a pipeline with 3,000 events."""
    topics = Topics(f"t{uuid4().hex[:8]}", 1)
    ensure_topics(bootstrap, [*topics.specs(PARTITIONS), *Topics(topics.name, 2).specs(PARTITIONS)])
    send(bootstrap, topics, payments(0, 3000))
    return RebuildJob(bootstrap, topics, V1, PAYMENTS, tmp_path, online=False)


def of(job: RebuildJob, definition: Definition) -> RebuildJob:
    return replace(job, definition=definition, topics=Topics(job.topics.name, definition.version))


def sides(job: RebuildJob, right: Definition = V2) -> tuple[Side, Side]:
    left = Side(job.topics, job.definition, job.events)
    return left, Side(Topics(job.topics.name, right.version), right, job.events)


def columns(job: RebuildJob) -> dict[tuple[int, int], dict[str, float | str | None]]:
    """Return (partition, event offset) → features, read the slow way."""
    found = {}
    for batch in read_all(job.bootstrap, job.topics.features):
        for value in batch.values:
            record = msgspec.json.decode(value or b"")
            found[batch.partition, record["source"]["offset"]] = record["features"]
    return found


def test_figures_are_those_of_the_columns_read_the_slow_way(job: RebuildJob) -> None:
    run_rebuild(job)
    run_rebuild(of(job, V2))
    report = compare(job.bootstrap, *sides(job), sample=3)
    a, b = columns(job), columns(of(job, V2))
    assert report.rows == len(a) == len(b) == 2910
    assert (report.missing_left, report.missing_right) == (0, 0)
    assert (report.only_left, report.only_right, report.other_kind) == (
        ["gone"],
        ["come"],
        ["kind"],
    )
    found = {feature.name: feature for feature in report.features}
    assert list(found) == ["amount", "count", "sum", "channel", "hour"]
    for name in ("amount", "sum", "channel"):
        assert (found[name].rows, found[name].differing) == (2910, 0)
    assert found["amount"].correlation == pytest.approx(1.0)
    assert found["hour"].differing == sum(a[p]["hour"] != b[p]["hour"] for p in a) > 0
    x, y = (np.array([side[p]["count"] for p in sorted(a)], dtype=float) for side in (a, b))
    count = found["count"]
    assert count.differing == (x != y).sum() > 0
    assert count.mean_absolute == pytest.approx(np.abs(y - x).mean())
    assert count.max_absolute == np.abs(y - x).max()
    assert count.correlation == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert count.quantiles is not None
    assert count.quantiles["0.5"] == pytest.approx(np.median(y - x), rel=0.02)
    differing = [p for p in sorted(a) if any(a[p][n] != b[p][n] for n in found)]
    assert report.rows_equal == 2910 - len(differing)
    assert [(row.partition, row.offset) for row in report.sample] == differing[:3]
    for row in report.sample:
        place = row.partition, row.offset
        assert row.features == {
            n: (a[place][n], b[place][n]) for n in found if a[place][n] != b[place][n]
        }
    assert not report.equal


def test_a_version_equals_itself_though_records_are_repeated(job: RebuildJob) -> None:
    same = Definition(2, V1.features)
    run_rebuild(job)
    run_rebuild(of(job, same))
    again = read_all(job.bootstrap, f"{job.topics.name}.features.v2")
    client = producer(job.bootstrap)
    for batch in again:
        for value in batch.values[: len(batch) // 2]:
            client.produce(batch.topic, value, b"k", batch.partition)
    assert client.flush(30) == 0
    report = compare(job.bootstrap, *sides(job, same))
    assert report.equal
    assert (report.rows, report.rows_equal) == (2910, 2910)
    assert report.records > 2 * 2910


def test_what_one_side_lacks_is_told_apart_from_what_it_has_not_reached(job: RebuildJob) -> None:
    same = Definition(2, V1.features)
    run_rebuild(job)
    rows = columns(job)
    places = sorted(place for place in rows if place[0] == 0)
    gap, reached = places[5], places[300]
    client = producer(job.bootstrap)
    for batch in read_all(job.bootstrap, job.topics.features)[:1]:
        for value in batch.values:
            record = msgspec.json.decode(value or b"")
            offset = record["source"]["offset"]
            if offset != gap[1] and offset <= reached[1]:
                record["definition"] = 2
                client.produce(
                    f"{job.topics.name}.features.v2", msgspec.json.encode(record), b"k", 0
                )
    assert client.flush(30) == 0
    report = compare(job.bootstrap, *sides(job, same))
    assert (report.rows, report.missing_left, report.missing_right) == (300, 0, 1)
    assert report.outside_left == len(rows) - 301
    assert report.outside_right == 0
    assert not report.equal
    part = compare(job.bootstrap, *sides(job, same), ranges={0: (places[10][1], places[20][1])})
    assert part.equal
    assert (part.rows, part.outside_left) == (10, 0)


def test_a_foreign_record_is_an_error_that_says_where(job: RebuildJob) -> None:
    run_rebuild(job)
    client = producer(job.bootstrap)
    client.produce(f"{job.topics.name}.features.v2", b'{"features":{}}', b"k", 1)
    assert client.flush(30) == 0
    with pytest.raises(StateError, match="partition 1, offset 0 is no feature record"):
        compare(job.bootstrap, *sides(job))
