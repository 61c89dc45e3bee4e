"""The trainer: each Retrain command gets one answer in the control log, whatever happens."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from features.definition import Definition, Number
from streams import kafka_client
from streams.clock import Clock, ManualClock, SystemClock
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.errors import TrainingError
from streams.expressions import Value
from streams.kafka_client import producer
from streams.positions import PositionReader
from streams.rollout import Rollout
from streams.topics import Topics
from streams.wire import (
    Advance,
    DefinitionChanged,
    ModelEvent,
    Registered,
    Retrain,
    StageChanged,
    TrainingRefused,
)
from tests.training.pipelines import DEFINITION, EVENTS, LABELS, new_log, time_ms
from training.loop.launch import Check
from training.package import load_package
from training.retraining.comparison import Comparison, Interval, Paired
from training.retraining.job import Progress, TrainedModel, TrainingJob
from training.retraining.registering import Registry
from training.retraining.trainer import Trainer
from training.spec import Model, Training
from training.tracking.runs import Tracker

pytestmark = pytest.mark.broker
GOOD = {"log_loss": 0.4, "base_rate_log_loss": 0.6}
V2 = Definition(2, {"level": Number(Value("level"))})
OF_V2 = {"definition": {"version": 2}}
PATIENCE_S = 120.0  # a training on a busy machine takes half of it


class FakeTraining:
    """Stands in for ``run_training``; waits for ``go`` where it is told to."""

    def __init__(self, metrics: dict[str, float] | None = None, wait: bool = False) -> None:
        self.metrics = GOOD if metrics is None else metrics
        self.error: Exception | None = None
        self.comparison: Comparison | None = None
        self.cutoffs_ms: list[int] = []
        self.topics: list[str] = []
        self.jobs: list[TrainingJob] = []
        self.begun, self.go = threading.Event(), threading.Event()
        if not wait:
            self.go.set()

    def __call__(self, job: TrainingJob, progress: Progress, check: Check) -> TrainedModel:
        self.cutoffs_ms.append(job.cutoff_ms)
        self.topics.append(job.topics.features)
        self.jobs.append(job)
        self.begun.set()
        while not self.go.wait(0.02):
            check()
        progress("done")
        if self.error is not None:
            raise self.error
        return TrainedModel(
            job.home / "model",
            "aa",
            {"cutoff_ms": job.cutoff_ms, "definition": {"version": job.definition.version}},
            self.metrics,
            [],
            self.comparison,
        )


class NoTracker(Tracker):
    """Fails at once, as MLflow may: the models must not suffer."""

    def _open(self) -> None:
        raise OSError("no MLflow here")


def trainer(
    bootstrap: str,
    topics: Topics,
    home: Path,
    train: FakeTraining,
    training: Training | None = None,
    clock: Clock | None = None,
) -> Trainer:
    job = TrainingJob(
        bootstrap,
        topics,
        DEFINITION,
        EVENTS,
        LABELS,
        Model(),
        training or Training(),
        0,
        home,
        "",
        1,
    )
    tracker = NoTracker(None, home, topics.name)
    return Trainer(job, tracker, train, (DEFINITION, V2), clock or SystemClock())


@contextmanager
def running(worker: Trainer) -> Iterator[threading.Event]:
    """Run a trainer in a thread; yields the event that stops it."""
    stop, failures = threading.Event(), []

    def run() -> None:
        try:
            worker.run(stop)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        worker.tracker.close()
    assert not thread.is_alive()
    assert not failures, failures


class Log:
    """The control logs of a test, as an operator sees them."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.topics = new_log(bootstrap).topics
        self._writer = ControlWriter(bootstrap)

    def command(self, command: Retrain | Advance) -> None:
        self._writer.append_command(self.topics.commands, command)

    def model_event(self, event: ModelEvent) -> None:
        self._writer.append_model_event(self.topics.models, event)

    def answers(self) -> list[ModelEvent]:
        follower = ControlFollower(self.bootstrap, self.topics.models)
        try:
            return decode_model_events(follower.catch_up())
        finally:
            follower.close()

    def committed(self) -> int:
        reader = PositionReader(self.bootstrap)
        try:
            offsets = reader.committed(self.topics.group("trainer"))
            return offsets.get(self.topics.commands, {}).get(0, 0)
        finally:
            reader.close()

    def await_committed(self, offset: int) -> None:
        wait_until(lambda: self.committed() == offset)


def wait_until(state: Callable[[], bool]) -> None:
    """Wait for a state; the pause between looks only spares the processor."""
    deadline = time.monotonic() + PATIENCE_S
    while not state():
        assert time.monotonic() < deadline, "the state was not reached"
        time.sleep(0.05)


@pytest.fixture
def log(bootstrap: str) -> Log:
    return Log(bootstrap)


def retrain(number: int) -> Retrain:
    return Retrain(command_id=f"c{number}", reason="schedule", cutoff_ms=1000 * number)


def test_commands_are_answered_in_order(log: Log, tmp_path: Path) -> None:
    train = FakeTraining()
    log.command(retrain(1))
    log.command(Advance(command_id="a", event_time_ms=5))
    log.command(retrain(2))
    with running(trainer(log.bootstrap, log.topics, tmp_path, train)):
        log.await_committed(3)
        answers = log.answers()
    registered = [e for e in answers if isinstance(e, Registered)]
    assert [(e.version, e.command_id) for e in registered] == [(1, "c1"), (2, "c2")]
    assert registered[0].uri == (tmp_path / "model").as_uri()
    assert registered[0].run_id is None  # MLflow failed, the model was registered
    staged = [e for e in answers if isinstance(e, StageChanged)]
    assert [(e.version, e.stage) for e in staged] == [(1, "live"), (2, "live")]
    assert staged[0].reason.startswith("schedule; log loss 0.4000")
    assert answers.index(registered[0]) < answers.index(staged[0])
    assert train.cutoffs_ms == [1000, 2000]


def test_it_trains_on_the_definition_that_was_ordered_last(log: Log, tmp_path: Path) -> None:
    train = FakeTraining()
    with running(trainer(log.bootstrap, log.topics, tmp_path, train)):
        for number, change in enumerate((None, ordered(1, 2, 1), ordered(2, 1, 2)), start=1):
            if change is not None:
                log.model_event(change)
            log.command(retrain(number))
            log.await_committed(number)
    name = log.topics.name
    assert train.topics == [f"{name}.features.v{version}" for version in (1, 2, 1)]
    made = [e for e in log.answers() if isinstance(e, Registered)]
    assert [(e.version, e.definition) for e in made] == [(1, 1), (2, 2), (3, 1)]


def ordered(change: int, definition: int, before: int) -> DefinitionChanged:
    return DefinitionChanged(change, definition, before, 0, 2, "a test")


def test_an_undeclared_definition_refuses_the_training(log: Log, tmp_path: Path) -> None:
    log.model_event(ordered(1, 7, 1))
    log.command(retrain(1))
    with running(trainer(log.bootstrap, log.topics, tmp_path, FakeTraining())):
        log.await_committed(1)
    refused = log.answers()[-1]
    assert isinstance(refused, TrainingRefused)
    assert "definition v7" in refused.reason


def test_a_number_that_another_took_first_is_left_to_it(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, others = ControlWriter.append_model_event, [registered(1, "another")]

    def overtaken(writer: ControlWriter, topic: str, event: ModelEvent) -> int:
        while others:
            append(writer, topic, others.pop())
        return append(writer, topic, event)

    monkeypatch.setattr(ControlWriter, "append_model_event", overtaken)
    registry = Registry(log.bootstrap, log.topics.models)
    made = registry.register(TrainedModel(tmp_path, "aa", OF_V2, GOOD, []), "mine", lambda: None)
    registry.close()
    assert (made.version, made.definition) == (2, 2)
    rollout = Rollout().apply_all(log.answers())
    assert {v: e.command_id for v, e in rollout.versions.items()} == {1: "another", 2: "mine"}


def registered(version: int, command_id: str) -> Registered:
    return Registered(version, command_id, "file:///x", "aa", {}, GOOD, None)


def test_a_model_that_is_no_better_is_refused(log: Log, tmp_path: Path) -> None:
    log.command(retrain(1))
    with running(
        trainer(log.bootstrap, log.topics, tmp_path, FakeTraining({**GOOD, "log_loss": 1}))
    ):
        log.await_committed(1)
    (refused,) = log.answers()
    assert isinstance(refused, TrainingRefused)
    assert refused.command_id == "c1"
    assert "base rate" in refused.reason


def compared(mean: float) -> Comparison:
    difference = Interval(mean, mean - 0.01, mean + 0.01)
    scores = {"log_loss": Paired(0.4, 0.4 + mean, difference)}
    return Comparison(1, 3211, 1000, 2000, scores)


def test_one_that_is_worse_than_the_live_model_is_refused_with_numbers(
    log: Log, tmp_path: Path
) -> None:
    train = FakeTraining()
    with running(trainer(log.bootstrap, log.topics, tmp_path, train)):
        log.command(retrain(1))
        log.await_committed(1)
        for number, mean in ((2, 0.03), (3, 0.005)):
            train.comparison = compared(mean)
            log.command(retrain(number))
            log.await_committed(number)
    assert [job.live and job.live.version for job in train.jobs] == [None, 1, 1]
    first, _, refused, registered, live = log.answers()
    assert isinstance(first, Registered)
    assert first.comparison is None
    assert isinstance(refused, TrainingRefused)
    told = "log loss +0.0300 [+0.0200, +0.0400] against model 1 on 3,211 later examples"
    assert refused.reason == f"worse than the live model beyond chance: {told}"
    assert isinstance(registered, Registered)
    assert registered.version == 2, "no worse beyond chance"
    assert registered.comparison == compared(0.005).to_json()
    assert isinstance(live, StageChanged)
    assert live.reason.endswith("base rate 0.6000; log loss +0.0050 [-0.0050, +0.0150] against "
                                "model 1 on 3,211 later examples")  # fmt: skip


def test_one_that_has_to_be_better_must_be_so_beyond_chance(log: Log, tmp_path: Path) -> None:
    train = FakeTraining()
    with running(trainer(log.bootstrap, log.topics, tmp_path, train, Training(compare="better"))):
        for number, mean in ((1, -0.005), (2, -0.03)):
            train.comparison = compared(mean)
            log.command(retrain(number))
            log.await_committed(number)
    assert [type(e) for e in log.answers()] == [TrainingRefused, Registered, StageChanged]


def test_a_command_says_how_it_is_trained(log: Log, tmp_path: Path) -> None:
    train = FakeTraining()
    log.command(Retrain("c1", "test", 1000, start="warm", window="all"))
    log.command(Retrain("c2", "test", 2000, window="30d"))
    log.command(Retrain("c3", "test", 3000, window="a month"))
    with running(trainer(log.bootstrap, log.topics, tmp_path, train)):
        log.await_committed(3)
    asked = [(job.training.start, job.training.window) for job in train.jobs]
    assert asked == [("warm", None), ("full", "30d")]
    refused = log.answers()[-1]
    assert isinstance(refused, TrainingRefused)
    assert "'a month' is not a length of time" in refused.reason


def test_two_trainers_ask_once_per_slot_of_the_clock(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = new_log(log.bootstrap)
    filled.fill(0, 20)
    log.topics = filled.topics
    clock, train = ManualClock(time_ms(100)), FakeTraining()
    hourly = Training(every_wall="1h")
    one, two = (
        trainer(log.bootstrap, log.topics, tmp_path, train, hourly, clock) for _ in range(2)
    )
    has_them = when_assigned(one, monkeypatch)
    with running(one), ExitStack() as second:
        assert has_them.wait(PATIENCE_S)
        second.enter_context(running(two))
        assert not train.jobs, "a slot has to begin first"
        for slot in (1, 2):
            clock.advance(3_600_000)
            wait_until(lambda slot=slot: log.committed() == slot)  # type: ignore[misc]
            filled.fill(20 * slot, 20 * slot + 20)
    assert [job.cutoff_ms for job in train.jobs] == [time_ms(19) + 501, time_ms(39) + 501]
    begun = time_ms(100) // 3_600_000 * 3_600_000
    assert [job.command_id for job in train.jobs] == [
        f"wall-{begun + slot * 3_600_000}" for slot in (1, 2)
    ]
    made = [e for e in log.answers() if isinstance(e, Registered)]
    assert [e.version for e in made] == [1, 2]


def when_assigned(worker: Trainer, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what is set once the worker has the commands; its client is the worker's alone."""
    has_them, on_assign = threading.Event(), worker._on_assign

    def told(client: Consumer, partitions: list[TopicPartition]) -> None:
        on_assign(client, partitions)
        if partitions:
            has_them.set()

    monkeypatch.setattr(worker, "_on_assign", told)
    return has_them


@pytest.mark.parametrize("error", [TrainingError("too few examples"), ZeroDivisionError("oops")])
def test_a_training_that_fails_is_refused_and_the_next_runs(
    log: Log, tmp_path: Path, error: Exception
) -> None:
    train = FakeTraining(wait=True)
    train.error = error
    log.command(retrain(1))
    with running(trainer(log.bootstrap, log.topics, tmp_path, train)):
        train.go.set()
        log.await_committed(1)
        train.error = None
        log.command(retrain(2))
        log.await_committed(2)
    refused, registered, _ = log.answers()
    assert isinstance(refused, TrainingRefused)
    assert str(error) in refused.reason
    assert isinstance(registered, Registered)


def test_an_answered_command_is_skipped(log: Log, tmp_path: Path) -> None:
    train = FakeTraining()
    log.command(retrain(1))
    log.model_event(TrainingRefused(command_id="c1", reason="before the crash"))
    with running(trainer(log.bootstrap, log.topics, tmp_path, train)):
        log.await_committed(1)
    assert len(log.answers()) == 1
    assert not train.cutoffs_ms


def test_what_was_registered_before_a_crash_goes_live(log: Log, tmp_path: Path) -> None:
    train = FakeTraining()
    log.command(retrain(1))
    log.model_event(Registered(4, "c1", "file:///x", "aa", {}, GOOD, None))
    with running(trainer(log.bootstrap, log.topics, tmp_path, train)):
        log.await_committed(1)
    live = log.answers()[1:]
    assert [(e.version, e.stage) for e in live if isinstance(e, StageChanged)] == [(4, "live")]
    assert not train.cutoffs_ms


def test_an_offset_is_committed_only_after_the_answer(log: Log, tmp_path: Path) -> None:
    train = FakeTraining(wait=True)
    log.command(retrain(1))
    log.command(Advance(command_id="a", event_time_ms=5))
    with running(trainer(log.bootstrap, log.topics, tmp_path, train)):
        assert train.begun.wait(PATIENCE_S)
        assert log.committed() == 0
        assert not log.answers()
        train.go.set()
        log.await_committed(2)
    assert len(log.answers()) == 2


@pytest.mark.slow
def test_a_long_training_keeps_the_membership(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_ms = 6000  # the shortest that the broker takes; a member that does not poll is thrown out
    limits = {"session_timeout_ms": limit_ms, "max_poll_interval_ms": limit_ms}

    def impatient(bootstrap: str, **settings: Any) -> Consumer:
        return kafka_client.consumer(bootstrap, **(settings | limits))

    monkeypatch.setattr("training.retraining.trainer.consumer", impatient)
    train = FakeTraining(wait=True)
    log.command(retrain(1))
    with running(trainer(log.bootstrap, log.topics, tmp_path, train)):
        assert train.begun.wait(PATIENCE_S)
        train.go.wait(1.5 * limit_ms / 1000)
        train.go.set()
        log.await_committed(1)
    assert train.cutoffs_ms == [1000]
    assert len(log.answers()) == 2


def test_stopping_ends_a_training_and_the_next_worker_repeats_it(log: Log, tmp_path: Path) -> None:
    train = FakeTraining(wait=True)
    log.command(retrain(1))
    with running(trainer(log.bootstrap, log.topics, tmp_path, train)) as stop:
        assert train.begun.wait(PATIENCE_S)
        stop.set()
    assert not log.answers()
    assert log.committed() == 0
    with running(trainer(log.bootstrap, log.topics, tmp_path, FakeTraining())):
        log.await_committed(1)
    assert [type(e) for e in log.answers()] == [Registered, StageChanged]


def test_a_member_that_loses_its_partition_does_not_answer(log: Log, tmp_path: Path) -> None:
    slow, quick = FakeTraining(wait=True), FakeTraining()
    log.command(retrain(1))
    first = trainer(log.bootstrap, log.topics, tmp_path, slow)
    with running(first) as stop:
        assert slow.begun.wait(PATIENCE_S)
        others = [trainer(log.bootstrap, log.topics, tmp_path, quick) for _ in range(2)]
        with running(others[0]), running(others[1]):
            if not quick.begun.wait(5):
                stop.set()  # the first kept the partition through the rebalances
            log.await_committed(1)
    assert [type(e) for e in log.answers()] == [Registered, StageChanged]


def test_records_that_are_no_commands_are_passed_over(log: Log, tmp_path: Path) -> None:
    writer = producer(log.bootstrap)
    for value in (b"{", b'{"type": "dance"}', None):
        writer.produce(log.topics.commands, value, b"k")
    writer.flush(30)
    log.command(retrain(1))
    with running(trainer(log.bootstrap, log.topics, tmp_path, FakeTraining())):
        log.await_committed(4)
    assert len(log.answers()) == 2


WORKER = """
import sys
from pathlib import Path
from typing import Any
from streams.topics import Topics
from tests.training.pipelines import DEFINITION, EVENTS, LABELS
from training.networks.declared import Tabular
from training.spec import Model, Training
from training.retraining.trainer import run_trainer

bootstrap, name, home = sys.argv[1:]
run_trainer(
    bootstrap, Topics(name), (DEFINITION,), EVENTS, LABELS,
    Model(network=Tabular(hidden=(8,)), epochs=3, batch=64, learning_rate=1e-2),
    Training(window=None, minimum_examples=100),
    Path(home), 2, None,
)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_the_worker_trains_tracks_and_ends_on_sigterm(bootstrap: str, tmp_path: Path) -> None:
    filled = new_log(bootstrap)
    filled.fill(0, 1000)
    log = Log(bootstrap)
    log.topics = filled.topics
    home = tmp_path / "pipelines" / log.topics.name
    project = Path(__file__).resolve().parents[3]
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, bootstrap, log.topics.name, str(home)],
        env={**os.environ, "PYTHONPATH": str(project)},
    )
    try:
        log.command(Retrain(command_id="c1", reason="test", cutoff_ms=time_ms(1000)))
        wait_until(lambda: len(log.answers()) == 2)
        log.await_committed(1)
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 0
    registered, live = log.answers()
    assert isinstance(registered, Registered)
    assert isinstance(live, StageChanged)
    package = load_package(registered.uri, registered.sha256)
    assert package.manifest["cutoff_ms"] == time_ms(1000)
    assert registered.metrics["n_train"] == 850
    assert registered.run_id is not None
    assert (tmp_path / "mlflow" / "mlflow.db").is_file()
    artifacts = tmp_path / "mlflow" / "artifacts" / log.topics.name / registered.run_id
    assert (artifacts / "artifacts" / "manifest.json").is_file()
    assert (artifacts / "artifacts" / "card" / "calibration.png").is_file()
    shows_the_training_and_the_rollout(tmp_path / "mlflow", log.topics.name, registered)


def shows_the_training_and_the_rollout(folder: Path, name: str, registered: Registered) -> None:
    """Look at what MLflow has: figures of steps, epochs and the machine, and the live version."""
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    metrics = client.get_run(str(registered.run_id)).data.metrics
    assert metrics["log_loss"] == registered.metrics["log_loss"]
    assert {"step/loss", "system/ranks_memory_megabytes"} <= set(metrics)
    epochs = client.get_metric_history(str(registered.run_id), "validation_loss")
    assert sorted(metric.step for metric in epochs) == [0, 1, 2]
    tags = client.get_model_version_by_alias(name, "live").tags
    assert (tags["kappa.version"], tags["kappa.stage"]) == (str(registered.version), "live")
