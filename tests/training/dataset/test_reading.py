"""Reading the log for a training: what is kept on disk, and what ends it."""

from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.training.pipelines import DEFINITION, EVENTS, LABELS, Log, new_log, time_ms
from training.dataset.manifest import ReadRange
from training.dataset.reading import read_training_data
from training.networks.declared import Tabular, Transformer
from training.retraining.job import TrainingJob
from training.spec import Model, Training

pytestmark = pytest.mark.broker
JOINING = "joining features and labels"


@pytest.fixture(scope="module")
def log(bootstrap: str) -> Log:
    filled = new_log(bootstrap)
    filled.fill(0, 300, labels_until=250)
    return filled


def job(log: Log, home: Path, network: Tabular | Transformer, **changed: object) -> TrainingJob:
    training = Training(window=None, minimum_examples=100)
    return TrainingJob(
        log.bootstrap, log.topics, DEFINITION, EVENTS, LABELS, Model(network=network), training,
        time_ms(300), home, "test", 1, **changed,  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_same_content_is_joined_once(log: Log, tmp_path: Path) -> None:
    told: list[str] = []
    first = read_training_data(job(log, tmp_path, Tabular()), told.append)
    again = read_training_data(job(log, tmp_path, Tabular((3,))), told.append)
    assert told.count(JOINING) == 1
    assert again.manifest["data_sha256"] == first.manifest["data_sha256"]
    np.testing.assert_array_equal(again.prepared.train.numeric, first.prepared.train.numeric)

    file = next(tmp_path.glob("examples/*/targets.npy"))
    file.write_bytes(file.read_bytes()[:-1])
    with capture_logs() as logs:
        third = read_training_data(job(log, tmp_path, Tabular()), told.append)
    assert told.count(JOINING) == 2
    assert [line["event"] for line in logs] == ["damaged examples are made again"]
    assert third.manifest == first.manifest


def test_exactly_the_ranges_that_are_given_are_read(log: Log, tmp_path: Path) -> None:
    ranges = tuple(
        ReadRange(topic, {0: (10, 100), 1: (0, 120)})
        for topic in (log.topics.features, log.topics.labels)
    )
    data = read_training_data(job(log, tmp_path, Tabular(), ranges=ranges))
    assert data.manifest["features"] == ranges[0].to_json()
    assert data.manifest["labels"] == ranges[1].to_json()
    assert data.manifest["counts"]["feature_records"] == 210
    assert data.manifest["counts"]["examples"] == 210


def test_a_network_of_histories_gets_the_log(log: Log, tmp_path: Path) -> None:
    plain = read_training_data(job(log, tmp_path, Tabular()))
    data = read_training_data(job(log, tmp_path, Transformer(last=4, width=8, heads=2)))
    assert plain.prepared.log is None
    records, train = data.prepared.log, data.prepared.train
    assert records is not None
    assert train.log_rows is not None
    assert len(records) == 300
    np.testing.assert_array_equal(records.numeric[train.log_rows], train.numeric)
    np.testing.assert_array_equal(records.places[train.log_rows], train.places)
    assert plain.manifest["data_sha256"] != data.manifest["data_sha256"]


def test_what_is_asked_meanwhile_can_end_it(log: Log, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    with pytest.raises(StopError):
        read_training_data(job(log, tmp_path, Tabular()), check=stop)
    assert not list(tmp_path.glob("examples/*"))
