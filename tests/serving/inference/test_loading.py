"""Models are loaded beside the answers: no event waits, and the log says who answered what."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from serving.inference.answers import Predict
from serving.inference.loading import Loaded, LoadedBeside, Models
from streams.errors import ModelError
from streams.topics import Topics
from streams.wire import Activated, Prediction, Registered
from tests.serving.feature_stream import (
    DEFINITION,
    PARTITIONS,
    append,
    committed_answers,
    control_log,
    emit,
    live,
    load,
    new_pipeline,
    registered,
    rows,
    wait_activated,
    wait_drained,
    working,
)
from training.calibration import Platt
from training.dataset.encoding import Encoding
from training.networks.build import build
from training.networks.declared import Tabular
from training.networks.shape import Shape
from training.networks.tasks import Binary
from training.package import save_package
from training.reference import Reference

PATIENCE_S = 30.0


class Gate:
    """A loader that lets a version through when it is told to; ``begun`` are those it was asked."""

    def __init__(self, *shut: int) -> None:
        self._open = {version: threading.Event() for version in shut}
        self.begun: list[int] = []

    def __call__(self, event: Registered) -> Predict:
        self.begun.append(event.version)
        if event.version in self._open:
            assert self._open[event.version].wait(PATIENCE_S)
        return load(event)

    def open(self, version: int) -> None:
        self._open[version].set()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def ready(models: Models, version: int) -> bool:
    return models.get(registered(version), wait=False) is not None


def test_it_is_not_there_until_it_is_loaded() -> None:
    gate = Gate(1)
    models = LoadedBeside(gate)
    assert not ready(models, 1)
    gate.open(1)
    until(lambda: ready(models, 1))
    assert gate.begun == [1]


def test_who_waits_gets_it() -> None:
    gate = Gate(1)
    models = LoadedBeside(gate)
    threading.Timer(0.05, gate.open, [1]).start()
    assert models.get(registered(1), wait=True) is not None
    assert models.get(registered(2), wait=True) is not None
    assert gate.begun == [1, 2]


@pytest.mark.parametrize("kind", [Loaded, LoadedBeside])
def test_what_fails_is_told_once_and_tried_again(kind: type[LoadedBeside] | type[Loaded]) -> None:
    asked: list[int] = []

    def loader(event: Registered) -> Predict:
        asked.append(event.version)
        if len(asked) == 1:
            raise ModelError("no such package")
        return load(event)

    models = kind(loader)
    with pytest.raises(ModelError, match="no such package"):
        models.get(registered(1), wait=True)
    assert models.get(registered(1), wait=True) is not None
    assert asked == [1, 1]


def test_what_failed_beside_is_not_tried_until_somebody_was_told() -> None:
    asked: list[int] = []

    def loader(event: Registered) -> Predict:
        asked.append(event.version)
        raise ModelError("no such package")

    models = LoadedBeside(loader)
    for _ in range(3):
        models.have([registered(1)])
    with pytest.raises(ModelError):
        models.get(registered(1), wait=True)
    assert asked == [1]


def test_what_may_be_needed_is_at_hand_and_the_rest_is_dropped() -> None:
    gate = Gate()
    models = LoadedBeside(gate)
    models.have([registered(1), registered(2)])
    until(lambda: ready(models, 1) and ready(models, 2))
    models.have([registered(2)])
    assert ready(models, 2)
    assert sorted(gate.begun) == [1, 2]
    models.get(registered(1), wait=True)
    assert sorted(gate.begun) == [1, 1, 2]


# --- in the worker ------------------------------------------------------------------------------


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    return new_pipeline(bootstrap)


def wait_answers(bootstrap: str, topics: Topics, n: int) -> list[Prediction]:
    """Return the answers once there are ``n``: positions may be told before what they commit."""
    until(lambda: len(committed_answers(bootstrap, topics.predictions)) >= n)
    return committed_answers(bootstrap, topics.predictions)


def place_of(answer: Prediction) -> tuple[int, int]:
    """Return the partition and the features offset that the prediction's name holds."""
    partition, offset = answer.prediction_id.split("-")[-3:-1]
    return int(partition), int(offset)


def check_as_the_log_says(bootstrap: str, topics: Topics, answers: list[Prediction]) -> None:
    """Each was made by the version of the last record that says its place is answered by it."""
    said = [event for event in control_log(bootstrap, topics) if isinstance(event, Activated)]
    for answer in answers:
        partition, offset = place_of(answer)
        versions = [
            event.version
            for event in said
            if event.positions.get(str(partition), 1 << 60) <= offset
        ]
        assert answer.model_version == (versions or [0])[-1], answer


@pytest.mark.broker
def test_a_slow_load_holds_up_no_answer(bootstrap: str, topics: Topics) -> None:
    gate = Gate(2)
    append(bootstrap, topics, registered(1), live(1))
    with working(bootstrap, topics, loader=gate):
        wait_activated(bootstrap, topics, 1)
        append(bootstrap, topics, registered(2), live(2))
        until(lambda: 2 in gate.begun)
        emit(bootstrap, topics, 0, range(100))
        wait_drained(bootstrap, topics)  # while the load hangs
        answered = wait_answers(bootstrap, topics, 100)
        assert [a.model_version for a in answered] == [1] * 100
        gate.open(2)
        wait_activated(bootstrap, topics, 2)
        emit(bootstrap, topics, 0, range(100, 150))
        wait_drained(bootstrap, topics)
    answers = wait_answers(bootstrap, topics, 150)
    assert [a.model_version for a in answers] == [1] * 100 + [2] * 50
    check_as_the_log_says(bootstrap, topics, answers)


@pytest.mark.broker
def test_after_a_restart_nothing_is_answered_before_what_is_live_is_loaded(
    bootstrap: str, topics: Topics
) -> None:
    append(bootstrap, topics, registered(1), live(1))
    emit(bootstrap, topics, 0, range(10))
    with working(bootstrap, topics):
        wait_drained(bootstrap, topics)
    emit(bootstrap, topics, 0, range(10, 30))
    gate = Gate(1)
    with working(bootstrap, topics, loader=gate):
        until(lambda: 1 in gate.begun)
        assert len(wait_answers(bootstrap, topics, 10)) == 10
        gate.open(1)
        wait_drained(bootstrap, topics)
    answers = wait_answers(bootstrap, topics, 30)
    assert [a.model_version for a in answers] == [1] * 30


@pytest.mark.broker
def test_switches_under_load_leave_no_event_out_and_the_log_tells_them(
    bootstrap: str, topics: Topics
) -> None:
    versions, per_version = range(1, 5), 200

    def slowly(event: Registered) -> Predict:
        time.sleep(0.05)
        return load(event)

    with working(bootstrap, topics, loader=slowly, max_batch=50):
        for version in versions:
            append(bootstrap, topics, registered(version), live(version))
            first = (version - 1) * per_version
            for partition in range(PARTITIONS):
                for start in range(first, first + per_version, 100):
                    emit(bootstrap, topics, partition, range(start, start + 100))
            wait_activated(bootstrap, topics, version)
        wait_drained(bootstrap, topics)
    every = {f"e{p}-{i}" for p in range(PARTITIONS) for i in range(len(versions) * per_version)}
    answers = wait_answers(bootstrap, topics, len(every))
    assert Counter(a.event_id for a in answers) == Counter(every)
    assert len({a.model_version for a in answers}) > 2
    check_as_the_log_says(bootstrap, topics, answers)


# --- without torch ------------------------------------------------------------------------------

WORKER = """
import sys
from pathlib import Path
from tests.serving.feature_stream import committed_answers, emit, wait_activated, wait_drained
from tests.serving.feature_stream import working
from streams.topics import Topics

bootstrap, topics = sys.argv[1], Topics(sys.argv[2])
with working(bootstrap, topics, loader=None):
    wait_activated(bootstrap, topics, 1)
    emit(bootstrap, topics, 0, range(600))
    wait_drained(bootstrap, topics)
while len(answers := committed_answers(bootstrap, topics.predictions)) < 600:
    pass
assert {a.model_version for a in answers} == {1} and len(answers) == 600, answers[:3]
assert len({a.score for a in answers}) == 7
assert "onnxruntime" in sys.modules
raise SystemExit("the worker has imported torch" if "torch" in sys.modules else 0)
"""


@pytest.mark.broker
def test_a_worker_that_answers_with_a_package_never_imports_torch(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    learnt = rows(0, range(50))
    names = DEFINITION.names("numeric"), DEFINITION.names("category")
    encoding = Encoding.fit(*names, learnt)
    shape = Shape(encoding.numeric_width, encoding.code_counts, Tabular((8,)))
    torch.manual_seed(1)
    sha256 = save_package(
        tmp_path / "model",
        weights={name: value.numpy() for name, value in build(shape).state_dict().items()},
        shape=shape, task=Binary(), encoding=encoding, calibration=Platt(),
        reference=Reference.from_columns([learnt], *names), metrics={}, manifest={},
    )  # fmt: skip
    event = Registered(1, "c1", str(tmp_path / "model"), sha256, {}, {}, None)
    append(bootstrap, topics, event, live(1))
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", WORKER, bootstrap, topics.name]
    ended = subprocess.run(
        command, cwd=root, env={"KAPPA_ANSWER_WITH": "cpu", "PYTHONPATH": str(root)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
