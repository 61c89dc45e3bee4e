"""A version answers the past on a real broker, beside what answered then."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from features.records import FeatureCodec, FeatureRows
from serving.feedback.reading import TopicsReader
from serving.shadowing.figures import Figures
from serving.shadowing.past import (
    Outcome,
    PastShadow,
    Progress,
    feature_ranges,
    registered_version,
)
from serving.shadowing.periods import periods
from serving.shadowing.row_file import RowFile
from streams.control import ControlWriter
from streams.errors import ConfigurationError, DefinitionError
from streams.wire import Registered
from tests.serving.feedback.feedback_log import DEFINITION, FeedbackLog, event_ms
from tests.serving.monitored import EVENTS, LABELS, PARTITIONS, feature_rows
from training.answers import Answers
from training.dataset.histories import Histories
from training.scores import log_losses

pytestmark = pytest.mark.broker

N, STEP = 3_000, 150


class ByDistance:
    """A model: the score is the one feature; counts how often each event is asked about."""

    def __call__(self, rows: FeatureRows) -> NDArray[np.float64]:
        """Return (n,) scores."""
        return rows.numeric[:, 0]


class HistoryLength:
    """A model of the last 3 events of an entity: the score is a tenth of their number."""

    last = 3

    def __call__(self, rows: Histories) -> Answers:
        """Return the answers to n histories."""
        return Answers((rows.index >= 0).sum(axis=1) / 10)


@pytest.fixture(scope="module")
def log(bootstrap: str) -> FeedbackLog:
    """A past: features and live answers of both partitions, labels of the first."""
    log = FeedbackLog.new(bootstrap)
    for partition in range(PARTITIONS):
        for n in range(0, N, STEP):  # record batches of their own: less is read at once
            features(log, range(n, n + STEP), partition)
            log.predict(range(n, min(n + STEP, N - 10)), partition=partition)
            if partition == 0:
                log.label(range(n, min(n + STEP, N - 100)))
    features(log, range(100), 0)  # a stretch that a crash made the feature stage write again
    for version, definition in ((7, 1), (8, 9)):
        known = Registered(version, f"c{version}", "memory", "0" * 64, {}, {}, None, definition)
        ControlWriter(bootstrap).append_model_event(log.pipeline.topics.models, known)
    return log


def features(log: FeedbackLog, numbers: range, partition: int) -> None:
    """Append features, dated as their events; every fourth distance is high."""
    times = [event_ms(n) for n in numbers]
    distances = [0.9 if n % 4 == 0 else 0.2 for n in numbers]
    rows = feature_rows(partition, times, distances, numbers[0], DEFINITION)
    values = FeatureCodec(DEFINITION, EVENTS, LABELS).encode(rows)
    log.produce(log.pipeline.topics.features, partition, values, times_ms=times)


def run(
    log: FeedbackLog,
    home: Path,
    model: ByDistance | HistoryLength,
    first: int | None = None,
    out: Path | None = None,
) -> tuple[Outcome, list[Progress]]:
    """Return what it comes to, from an event time on."""
    registered = registered_version(log.bootstrap, log.pipeline, 7)
    ranges = feature_ranges(log.bootstrap, log.pipeline, 1, first, None, (True, True))
    task = log.pipeline.model.task
    past = PastShadow(log.bootstrap, log.pipeline, home, registered, lambda _: model, ranges)
    figures = Figures(task, periods("UTC", "day"))
    told: list[Progress] = []
    if out is None:
        return past.run(figures, lambda _: None, told.append), told
    with RowFile(out, task) as rows:
        return past.run(figures, rows.add, told.append), told


def test_rows_are_compared_and_scored(log: FeedbackLog, tmp_path: Path) -> None:
    """Each event that both answered counts once; labels where they came."""
    found, told = run(log, tmp_path, ByDistance(), out=tmp_path / "rows.parquet")
    figures = found.figures.to_json()
    numbers = np.arange(N - 10)
    live = (10 * (numbers % 10) + 1) / 100
    answers = np.where(numbers % 4 == 0, 0.9, 0.2)
    assert (figures["rows"], found.without_live) == (2 * (N - 10), 2 * 10)
    assert figures["labelled"] == N - 100
    assert figures["mean_difference"] == pytest.approx(np.abs(live - answers).mean())
    assert figures["decisions_differ"] == pytest.approx(np.mean((live >= 0.5) != (answers >= 0.5)))
    targets = (numbers % 4 == 0)[: N - 100].astype(float)
    losses = [log_losses(each[: N - 100], targets) for each in (live, answers)]
    score = figures["scores"]["log_loss"]
    assert score["live"] == pytest.approx(losses[0].mean())
    assert score["version"] == pytest.approx(losses[1].mean())
    assert score["difference"]["mean"] == pytest.approx((losses[1] - losses[0]).mean())
    assert score["difference"]["low"] < score["difference"]["mean"] < score["difference"]["high"]
    assert sum(day["rows"] for day in figures["periods"].values()) == figures["rows"]
    assert figures["live_versions"] == {"1": figures["rows"]}
    assert told[-1].done == told[-1].total == 2 * N + 100
    table = pq.read_table(tmp_path / "rows.parquet").to_pandas().set_index("event_id")
    assert len(table) == figures["rows"]
    row = table.loc["e0-8"]
    assert (row["live"], row["version"], row["label"], row["live_version"]) == (0.81, 0.9, 1.0, 1)
    assert table["label"].notna().sum() == N - 100


def test_a_range_has_the_histories_of_what_was_before_it(log: FeedbackLog, tmp_path: Path) -> None:
    """The first events of a range see the entity's events before it."""
    found, _ = run(log, tmp_path, HistoryLength(), first=event_ms(2_000))
    figures = found.figures.to_json()
    assert figures["rows"] == 2 * (N - 10 - 2_000)
    numbers = np.arange(2_000, N - 10)
    assert figures["mean_difference"] == pytest.approx(
        np.abs((10 * (numbers % 10) + 1) / 100 - 0.3).mean()
    )


def test_memory_does_not_grow_with_the_past(
    log: FeedbackLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is complete is let go of while the rest is read."""
    monkeypatch.setattr("serving.feedback.reading.MAX_BATCH", 100)
    monkeypatch.setattr("serving.feedback.reading.MAX_PARTITION_BYTES", 20_000)
    monkeypatch.setattr("serving.shadowing.past.EXPIRE_ROWS", 200)
    monkeypatch.setattr("serving.shadowing.past.LEAD_MS", 600_000)
    most, poll = 0, TopicsReader.poll
    registered = registered_version(log.bootstrap, log.pipeline, 7)
    ranges = feature_ranges(log.bootstrap, log.pipeline, 1, None, None, (True, True))
    ranges = {0: ranges[0]}  # all of its events but 90 have labels
    past = PastShadow(
        log.bootstrap, log.pipeline, tmp_path, registered, lambda _: ByDistance(), ranges
    )

    def watched(reader: TopicsReader, timeout_s: float) -> object:
        nonlocal most
        most = max(most, len(past.pairing))
        return poll(reader, timeout_s)

    monkeypatch.setattr(TopicsReader, "poll", watched)
    figures = Figures(log.pipeline.model.task, periods("UTC", "day"))
    past.run(figures, lambda _: None, lambda _: None)
    assert figures.all.n == N - 10
    assert most < N / 2


def test_what_can_not_be_compared_is_refused(log: FeedbackLog, tmp_path: Path) -> None:
    """An unknown version, one of a definition that is not declared, and an empty range."""
    with pytest.raises(ConfigurationError, match="no model 99"):
        registered_version(log.bootstrap, log.pipeline, 99)
    with pytest.raises(DefinitionError, match="no definition v9"):
        registered_version(log.bootstrap, log.pipeline, 8)
    with pytest.raises(ConfigurationError, match="holds nothing in that range"):
        run(log, tmp_path, ByDistance(), first=event_ms(10 * N))
