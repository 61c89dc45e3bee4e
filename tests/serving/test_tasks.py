"""Several classes and numbers on a real broker, from features and labels to predictions."""

import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from features.records import FeatureCodec
from serving.finished_run import read_answers, read_labels
from serving.inference.worker import run_inference
from serving.summary import after_first_training
from streams.control import ControlWriter
from streams.expressions import Value
from streams.kafka_client import producer
from streams.replay import offset_bounds, read_ranges
from streams.stream import LabelStream
from streams.wire import Prediction, Registered, StageChanged
from tests.training.pipelines import DEFINITION, EVENTS, PARTITIONS, Log, feature_rows, new_log
from tests.training.pipelines import time_ms as at_ms
from training.loop.launch import Check, EpochReport, go_on
from training.loop.rank import main
from training.networks.declared import Custom, Tabular
from training.networks.tasks import MultiClass, Regression, Task
from training.retraining.job import TrainingJob, run_training
from training.spec import Model, Training

pytestmark = pytest.mark.broker
EVENTS_IN_LOG = 700
KINDS = MultiClass(("low", "middle", "high"))


class Answer(msgspec.Struct):
    """The label: a class and a number."""

    id: str
    device: str
    at_ms: int
    kind: str
    number: float


def label_stream(field: str) -> LabelStream:
    return LabelStream(Answer, id="id", entity="device", event_time="at_ms", target=Value(field))


def fill(log: Log) -> None:
    """Append events whose label follows from their level, with some noise."""
    writer = producer(log.bootstrap, linger_ms=5)
    noise = np.random.default_rng(1).normal(size=EVENTS_IN_LOG)
    for partition in range(PARTITIONS):
        numbers = np.arange(partition, EVENTS_IN_LOG, PARTITIONS)
        rows = feature_rows(partition, numbers)
        for i, value in zip(numbers, FeatureCodec(DEFINITION, EVENTS).encode(rows), strict=True):
            writer.produce(log.topics.features, value, b"k", partition, timestamp=at_ms(int(i)))
        for i, level in zip(numbers, np.nan_to_num(rows.numeric[:, 0]), strict=True):
            number = 100 + 30 * level + 5 * noise[i]
            kind = KINDS.classes[int(np.digitize(number, [80, 120]))]
            known_ms = at_ms(int(i)) + 500
            label = Answer(f"e{i}", f"d{partition}", known_ms, str(kind), float(number))
            value = msgspec.json.encode(label)
            writer.produce(log.topics.labels, value, b"k", partition, timestamp=known_ms)
    assert writer.flush(30) == 0


def in_this_process(folder: Path, ranks: int, on_epoch: EpochReport, check: Check = go_on) -> None:
    """Run one rank here, where torch is imported already."""
    main(folder / "job.json")


def predictions(log: Log) -> list[Prediction]:
    topic = log.topics.predictions
    ranges = offset_bounds(log.bootstrap, topic, PARTITIONS)
    values = [v for batch in read_ranges(log.bootstrap, topic, ranges) for v in batch.values]
    return [msgspec.json.decode(v, type=Prediction) for v in values if v is not None]


def answer_all(log: Log, model: Model, home: Path) -> list[Prediction]:
    """Run the inference worker until it has answered every event."""
    stop, raised = threading.Event(), []

    def target() -> None:
        try:
            run_inference(
                log.bootstrap, log.topics, (DEFINITION,), EVENTS, model, home, "inference",
                stop=stop,
            )  # fmt: skip
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while len(found := predictions(log)) < EVENTS_IN_LOG and not raised:
            assert time.monotonic() < deadline, f"{len(found)} answers after 60 s"
    finally:
        stop.set()
        thread.join(30)
    assert raised == []
    return found


OWN = Custom("tests.training.networks.own_networks:Sum")


@pytest.mark.parametrize(
    ("task", "field"),
    [(KINDS, "kind"), (Regression(), "number")],
    ids=["classes", "regression"],
)
def test_from_the_log_to_predictions(
    task: Task, field: str, bootstrap: str, tmp_path: Path
) -> None:
    log, labels = new_log(bootstrap), label_stream(field)
    fill(log)
    model = Model(
        prior=100.0, task=task, network=Tabular((16,)), epochs=15, batch=32, learning_rate=1e-2
    )
    training = Training(window=None, minimum_examples=100)
    trained = run_training(
        TrainingJob(
            log.bootstrap, log.topics, DEFINITION, EVENTS, labels, model, training,
            cutoff_ms=at_ms(EVENTS_IN_LOG), home=tmp_path, command_id="c", ranks=1,
        ),
        launch=in_this_process,
    )  # fmt: skip
    assert trained.metrics["log_loss"] < trained.metrics["base_rate_log_loss"] - 0.2
    writer = ControlWriter(log.bootstrap)
    registered = Registered(
        1, "c", trained.package.as_uri(), trained.sha256, trained.manifest, trained.metrics, None
    )
    writer.append_model_event(log.topics.models, registered)
    writer.append_model_event(log.topics.models, StageChanged(1, "live", "a test"))

    answered = answer_all(log, model, tmp_path)
    assert {answer.model_version for answer in answered} == {1}
    for answer in answered:
        if task is KINDS:
            assert answer.probabilities is not None
            assert list(answer.probabilities) == list(KINDS.classes)
            assert sum(answer.probabilities.values()) == pytest.approx(1)
            assert answer.score == max(answer.probabilities.values())
        else:
            assert answer.spread is not None
            assert answer.spread > 0
    live = read_answers(log.bootstrap, log.topics.predictions, PARTITIONS, task)
    truth = read_labels(log.bootstrap, log.topics.labels, PARTITIONS, labels, task)
    figures = after_first_training(live, truth, None, task)["live"]
    assert figures["n"] == EVENTS_IN_LOG
    assert figures["log_loss"] < trained.metrics["base_rate_log_loss"] - 0.2
    if task is KINDS:
        assert figures["accuracy"] > 0.7


def test_a_model_of_another_task_or_network_never_answers(bootstrap: str, tmp_path: Path) -> None:
    log, labels = new_log(bootstrap), label_stream("number")
    fill(log)
    trainings = Training(window=None, minimum_examples=100)
    own = Model(prior=100.0, task=Regression(), network=OWN, epochs=1)
    trained = run_training(
        TrainingJob(
            log.bootstrap, log.topics, DEFINITION, EVENTS, labels, own, trainings,
            cutoff_ms=at_ms(EVENTS_IN_LOG), home=tmp_path, command_id="c", ranks=1,
        ),
        launch=in_this_process,
    )  # fmt: skip
    writer = ControlWriter(log.bootstrap)
    registered = Registered(
        1, "c", trained.package.as_uri(), trained.sha256, trained.manifest, trained.metrics, None
    )
    writer.append_model_event(log.topics.models, registered)
    writer.append_model_event(log.topics.models, StageChanged(1, "live", "a test"))
    declared = Model(prior=100.0, task=Regression(), network=Tabular((4,)))  # and not its network
    answered = answer_all(log, declared, tmp_path)
    assert {(a.model_version, a.score, a.spread) for a in answered} == {(0, 100.0, None)}
