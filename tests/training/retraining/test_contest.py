"""Champion and challenger, full and warm starts: trainings on a real broker with real ranks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streams.kafka_client import producer
from tests.training.pipelines import (
    DEFINITION,
    EVENTS,
    LABELS,
    STEP_MS,
    Log,
    Outcome,
    is_positive,
    new_log,
    time_ms,
)
from training.loop.launch import WarmRanks
from training.networks.declared import Tabular
from training.package import load_parts
from training.retraining.comparison import objection
from training.retraining.job import TrainedModel, TrainingJob, run_training
from training.retraining.predecessor import Predecessor
from training.spec import Model, Training

pytestmark = pytest.mark.broker
THEN, NOISE_ENDS, NOW = 1_200, 1_800, 2_200
MODEL = Model(network=Tabular(hidden=(8,)), epochs=3, batch=64, learning_rate=1e-2)
ALL = Training(window=None, validation=0.3)
SINCE_NOISE = replace(ALL, window=f"{NOW - THEN}s")  # whose validation slice has none of it


@pytest.fixture(scope="module")
def log(bootstrap: str) -> Log:
    """A log whose labels say nothing from event THEN to NOISE_ENDS."""
    filled = new_log(bootstrap)
    filled.fill(0, THEN)
    filled.fill(THEN, NOW, labels_until=THEN)
    writer, rng = producer(bootstrap), np.random.default_rng(1)
    for number in range(THEN, NOW):
        known_ms = time_ms(number) + STEP_MS // 2
        result = float(is_positive(np.array(number)))
        if number < NOISE_ENDS:
            result = float(rng.random() < 0.4)
        label = Outcome(f"e{number}", f"d{number % 2}", known_ms, result)
        filled.append_label(writer, number % 2, msgspec.json.encode(label), known_ms)
    writer.flush(30)
    return filled


@pytest.fixture(scope="module")
def ranks() -> Iterator[WarmRanks]:
    """Ranks that start quickly, for all tests of this file."""
    with WarmRanks() as launch:
        yield launch


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def job(
    log: Log, home: Path, cutoff: int, training: Training, live: Predecessor | None = None
) -> TrainingJob:
    return TrainingJob(
        log.bootstrap, log.topics, DEFINITION, EVENTS, LABELS, MODEL, training,
        time_ms(cutoff), home, "test", 1, live,
    )  # fmt: skip


@pytest.fixture(scope="module")
def champion(log: Log, home: Path, ranks: WarmRanks) -> TrainedModel:
    """The model that is live, trained before the noise."""
    return run_training(job(log, home, THEN, ALL), launch=ranks)


def as_live(trained: TrainedModel) -> Predecessor:
    return Predecessor(6, trained.package.as_uri(), trained.sha256)


def test_the_first_model_has_nothing_to_be_compared_with(champion: TrainedModel) -> None:
    assert champion.comparison is not None
    assert champion.comparison.not_compared == "no model is live yet"
    assert champion.manifest["parent"] is None


def test_a_challenger_taught_by_noise_is_worse_and_says_by_how_much(
    log: Log, home: Path, ranks: WarmRanks, champion: TrainedModel
) -> None:
    trained = run_training(job(log, home, NOW, SINCE_NOISE, as_live(champion)), launch=ranks)
    found = trained.comparison
    assert found is not None
    assert found.n == 300, "0.3 of 1,000 examples, all later than the champion's cut-off"
    assert found.from_ms == time_ms(NOW - 300)
    assert found.scores["log_loss"].difference.low > 0.1
    assert found.scores["brier"].difference.low > 0
    assert found.scores["log_loss"].champion == pytest.approx(champion.metrics["log_loss"], abs=0.1)
    why = objection(found, "not_worse")
    assert why is not None
    assert "against model 6 on 300 later examples" in why
    assert trained.manifest["parent"] is None, "it was compared with it, and is not its child"


def test_the_champion_does_not_decide_what_the_challenger_is(
    log: Log, home: Path, ranks: WarmRanks, champion: TrainedModel
) -> None:
    alone = run_training(job(log, home, THEN, ALL, as_live(champion)), launch=ranks)
    assert alone.sha256 == champion.sha256
    assert alone.comparison is not None
    assert "0 examples of the validation slice are later" in str(alone.comparison.not_compared)


def test_a_model_against_its_like_may_go_live(
    log: Log, home: Path, ranks: WarmRanks, champion: TrainedModel
) -> None:
    """The one of half a log earlier is the champion of today's: equal, so no objection."""
    early = run_training(job(log, home, THEN // 2, ALL), launch=ranks)
    again = run_training(job(log, home, THEN, ALL, as_live(early)), launch=ranks)
    assert again.sha256 == champion.sha256
    assert again.comparison is not None
    assert again.comparison.n == 360
    assert objection(again.comparison, "not_worse") is None


def test_a_warm_start_goes_on_from_the_live_model(
    log: Log, home: Path, ranks: WarmRanks, champion: TrainedModel
) -> None:
    told: list[str] = []
    still = replace(MODEL, learning_rate=1e-9)  # so what it begins with is what it ends with
    declared = replace(SINCE_NOISE, start="warm")
    warm = replace(job(log, home, NOW, declared, as_live(champion)), model=still)
    trained = run_training(warm, told.append, launch=ranks)
    parent = load_parts(champion.package.as_uri())
    child = load_parts(trained.package.as_uri())
    assert "a warm start from model 6" in told
    assert child.encoding == parent.encoding
    assert child.weights.keys() == parent.weights.keys()
    for name, weight in parent.weights.items():
        np.testing.assert_allclose(child.weights[name], weight, atol=1e-6)
    assert trained.manifest["parent"] == {"version": 6, "sha256": champion.sha256}
    assert trained.comparison is not None
    difference = trained.comparison.scores["log_loss"].difference
    assert abs(difference.mean) < 0.05, "the same network, calibrated anew"


def test_another_network_starts_in_full_and_says_why(
    log: Log, home: Path, ranks: WarmRanks, champion: TrainedModel
) -> None:
    told: list[str] = []
    other = replace(MODEL, network=Tabular(hidden=(4,)), epochs=1)
    warm = replace(job(log, home, THEN, replace(ALL, start="warm"), as_live(champion)), model=other)
    trained = run_training(warm, told.append, launch=ranks)
    assert any(line.startswith("a full start: model 6 is Tabular(hidden=(8,)") for line in told)
    assert trained.manifest["parent"] is None


def test_a_champion_that_is_gone_is_told_and_does_not_keep_the_new_one_back(
    log: Log, home: Path, ranks: WarmRanks, champion: TrainedModel, tmp_path: Path
) -> None:
    gone = Predecessor(9, (tmp_path / "gone").as_uri(), "aa")
    trained = run_training(job(log, home, THEN, ALL, gone), launch=ranks)
    assert trained.sha256 == champion.sha256
    assert trained.comparison is not None
    assert str(trained.comparison).startswith("not compared: model 9 can't answer: ")
    assert objection(trained.comparison, "better") is None
