"""A training from the log to the package, on a real broker with real ranks."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streams.errors import TrainingError
from streams.expressions import Above
from streams.kafka_client import producer
from tests.training.pipelines import (
    DEFINITION,
    EVENTS,
    LABELS,
    Log,
    Outcome,
    feature_rows,
    new_log,
    time_ms,
)
from training.loop.launch import WarmRanks
from training.networks.declared import Tabular
from training.package import load_package
from training.retraining.job import TrainedModel, TrainingJob, read_training_data, run_training
from training.spec import Model, Training

pytestmark = pytest.mark.broker
EVENTS_IN_LOG = 1200
CUTOFF = 1000


@pytest.fixture(scope="module")
def log(bootstrap: str) -> Log:
    """A log that goes on after the cut-off; labels known at the cut-off include event 999's."""
    filled = new_log(bootstrap)
    filled.fill(0, EVENTS_IN_LOG)
    return filled


@pytest.fixture(scope="module")
def ranks() -> Iterator[WarmRanks]:
    """Ranks that start quickly, for all tests of this file."""
    with WarmRanks() as launch:
        yield launch


def job(log: Log, home: Path, cutoff: int = CUTOFF, **training: object) -> TrainingJob:
    declared = {"window": None, "minimum_examples": 100, **training}
    return TrainingJob(
        log.bootstrap,
        log.topics,
        DEFINITION,
        EVENTS,
        LABELS,
        Model(network=Tabular(hidden=(8,)), epochs=3, batch=64, learning_rate=1e-2),
        Training(**declared),  # type: ignore[arg-type]
        cutoff_ms=time_ms(cutoff),
        home=home,
        command_id="test",
        ranks=2,
    )


@pytest.fixture(scope="module")
def trained(log: Log, ranks: WarmRanks, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """One model, for the tests that look at it."""
    return run_training(job(log, tmp_path_factory.mktemp("home")), launch=ranks)


def test_a_card_lies_beside_the_package(trained: TrainedModel) -> None:
    assert sorted(path.name for path in (trained.package / "card").iterdir()) == [
        "calibration.png", "card.json", "card.md"
    ]  # fmt: skip
    card = json.loads((trained.package / "card" / "card.json").read_bytes())
    assert card["model"] == trained.package.name
    overall = card["validation"]["overall"]
    assert overall["n"] == trained.metrics["n_validation"]
    assert overall["scores"]["log_loss"]["value"] == pytest.approx(
        trained.metrics["log_loss"], abs=0.1
    )
    assert card["data"]["features"] == trained.manifest["features"]


def test_the_package_answers_and_has_learnt(trained: TrainedModel) -> None:
    package = load_package(trained.package.as_uri(), trained.sha256)
    assert trained.metrics["log_loss"] < trained.metrics["base_rate_log_loss"] / 2
    rows = feature_rows(0, np.arange(10_000, 10_200))
    answers = package.predict(rows)
    assert answers.shape == (200,)
    assert answers.std() > 0.2
    assert package.manifest["data_sha256"] == trained.manifest["data_sha256"]
    assert [line["epoch"] for line in trained.history] == [0, 1, 2]


def test_the_manifest_says_what_was_read(trained: TrainedModel, log: Log) -> None:
    manifest = trained.manifest
    assert manifest["features"] == {
        "topic": log.topics.features,
        "offsets": {"0": [0, CUTOFF // 2], "1": [0, CUTOFF // 2]},
    }
    # The label of event 999 becomes known half a step before the cut-off.
    assert manifest["labels"]["offsets"] == {"0": [0, CUTOFF // 2], "1": [0, CUTOFF // 2]}
    assert manifest["counts"]["examples"] == CUTOFF
    assert manifest["counts"]["validation"] == 150
    assert manifest["cutoff_ms"] == manifest["label_cutoff_ms"] == time_ms(CUTOFF)


def test_same_job_twice_gives_the_same_model(
    trained: TrainedModel, log: Log, ranks: WarmRanks, tmp_path: Path
) -> None:
    again = run_training(job(log, tmp_path), launch=ranks)
    assert again.manifest == trained.manifest
    assert again.sha256 == trained.sha256
    for name in ("model.safetensors", "manifest.json", "reference.json", "encoding.json"):
        assert (again.package / name).read_bytes() == (trained.package / name).read_bytes()
    before = (again.package / "manifest.json").stat().st_ino
    third = run_training(job(log, tmp_path), launch=ranks)
    assert third.package == again.package
    assert (again.package / "manifest.json").stat().st_ino == before, "somebody may be loading it"
    assert not list(tmp_path.glob("training/*"))


def test_a_label_after_the_cutoff_is_not_used(bootstrap: str, tmp_path: Path) -> None:
    log = new_log(bootstrap)
    log.fill(0, 400, labels_until=300)
    before = read_training_data(job(log, tmp_path, 400)).manifest
    assert before["counts"]["examples"] == 300
    writer = producer(bootstrap)
    for number in range(300, 400):
        known_ms = time_ms(400) + (0 if number < 350 else 1)
        label = Outcome(f"e{number}", "d", known_ms, 1.0)
        log.append_label(writer, number % 2, msgspec.json.encode(label), known_ms)
    writer.flush(30)
    after = read_training_data(job(log, tmp_path, 400)).manifest
    assert after["counts"]["examples"] == 350
    assert after["data_sha256"] != before["data_sha256"]


def test_what_comes_later_changes_nothing(bootstrap: str, tmp_path: Path) -> None:
    log = new_log(bootstrap)
    log.fill(0, 300)
    before = read_training_data(job(log, tmp_path, 300))
    log.fill(300, 400)
    after = read_training_data(job(log, tmp_path, 300))
    assert after.manifest == before.manifest


def test_the_window_limits_what_is_read(log: Log, tmp_path: Path) -> None:
    manifest = read_training_data(job(log, tmp_path, window="200s")).manifest
    assert manifest["counts"]["examples"] == 200
    assert manifest["features"]["offsets"] == {"0": [400, 500], "1": [400, 500]}
    assert manifest["since_ms"] == time_ms(800)


def test_too_few_examples_are_refused(log: Log, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"1,000 labelled examples.*minimum_examples is 1,001"):
        read_training_data(job(log, tmp_path, minimum_examples=1001))


def test_a_single_class_is_refused(log: Log, tmp_path: Path) -> None:
    labels = replace(LABELS, target=Above("result", 2.0))
    with pytest.raises(TrainingError, match="of the training slice have the label 0"):
        read_training_data(replace(job(log, tmp_path), labels=labels))


def test_bad_labels_are_left_out_and_counted(bootstrap: str, tmp_path: Path) -> None:
    log = new_log(bootstrap)
    log.fill(0, 150)
    writer = producer(bootstrap)
    for value in (b"{", b'{"id": 3}'):
        log.append_label(writer, 0, value, time_ms(1))
    writer.flush(30)
    log.fill(150, 300)
    told: list[str] = []
    manifest = read_training_data(job(log, tmp_path, 300), told.append).manifest
    assert manifest["counts"]["invalid_labels"] == 2
    assert manifest["counts"]["examples"] == 300
    assert any("2 labels can't be used" in line for line in told)
