"""Outcomes in, versions out: on a real broker, through crashes, poison and retrainings."""

from pathlib import Path

import numpy as np
import pytest

from serving.online import saved as saving
from serving.online import versions as versioning
from serving.online.declared import Online
from serving.online.guarded import GuardedLearner
from serving.pipeline import Pipeline
from serving.rollout.declared import RolloutPolicy
from streams.errors import ConfigurationError
from streams.positions import PositionReader
from streams.wire import Registered, StageChanged
from tests.serving.online.online_log import (
    CUTOFF_MS,
    base_parts,
    emit,
    events_of,
    inputs_of,
    learn_until,
    new_pipeline,
    parts_of,
    register_base,
    returned,
    rollout_of,
    sales,
    with_weights,
    work_until,
    worker_on,
)
from training.dataset.histories import EventValues
from training.networks.declared import Transformer
from training.package import Parts, load_package

pytestmark = pytest.mark.broker

ONLINE = Online(batch=16, learning_rate=0.1, publish_every=400, guard=400, keep=2)


def accuracy(event: Registered, n: int = 400) -> float:
    """Return how often a version is right about sales that it has not seen."""
    numeric, kinds = sales(n, seed=99)
    package = load_package(event.uri, event.sha256)
    scores = package.answers(EventValues(numeric, [kinds])).score
    return float(((scores >= 0.5) == (returned(numeric) > 0)).mean())


def good_parts() -> Parts:
    """Return a base that has learned what there is to learn."""
    parts = base_parts()
    learner = GuardedLearner(parts, ONLINE)
    numeric, kinds = sales(3_200, seed=5)
    inputs, targets = inputs_of(parts, numeric, kinds), returned(numeric)
    for i in range(0, len(targets), 16):
        learner.learn(tuple(column[i : i + 16] for column in inputs), targets[i : i + 16])
    weights, _, _ = learner.publish("a test")
    return with_weights(parts, weights)


def test_outcomes_become_versions_that_say_what_they_learned(
    bootstrap: str, tmp_path: Path
) -> None:
    pipeline = new_pipeline(bootstrap, ONLINE)
    register_base(bootstrap, pipeline, tmp_path, base_parts())
    numeric, kinds = sales(1_700)
    emit(bootstrap, pipeline, numeric, kinds, returned(numeric))
    with worker_on(bootstrap, pipeline, tmp_path) as worker:
        learn_until(worker, 1_696)
        work_until(worker, lambda: committed(bootstrap, pipeline) == {0: 1_700})
    rollout = rollout_of(bootstrap, pipeline)
    assert list(rollout.versions) == [1, 2, 3, 4, 5]
    assert rollout.live == 5
    assert rollout.change == 4
    last = rollout.versions[5]
    assert last.command_id == "online-1-1600"
    online = last.manifest["online"]
    assert online["outcomes"] == {"topic": pipeline.topics.outcomes, "offsets": {"0": [0, 1_600]}}
    assert last.manifest["parent"]["version"] == 1
    assert last.manifest["cutoff_ms"] == CUTOFF_MS + 1_601  # behind the last label
    assert last.metrics["n_outcomes"] == 400
    assert last.metrics["brier"] < last.metrics["base_brier"] / 2
    assert accuracy(last) > 0.9 > accuracy(rollout.versions[1]) + 0.2
    there = [v for v, event in rollout.versions.items() if package_of(event).is_dir()]
    assert there == [1, 3, 4, 5]  # the last two, and what the guard may go back to


def test_restarts_change_no_byte(bootstrap: str, tmp_path: Path) -> None:
    numeric, kinds = sales(1_000)
    weights: list[list[bytes]] = []
    for name, stops in (("whole", []), ("cut", [90, 410, 555])):
        pipeline, home = new_pipeline(bootstrap, ONLINE), tmp_path / name
        register_base(bootstrap, pipeline, home, base_parts())
        begin = 0
        for stop in [*stops, 1_000]:  # the log grows while it runs, and it dies at each length
            part = slice(begin, stop)
            emit(bootstrap, pipeline, numeric[part], kinds[part], returned(numeric[part]), begin)
            begin = stop
            with worker_on(bootstrap, pipeline, home) as worker:
                learn_until(worker, stop // 16 * 16)
        versions = rollout_of(bootstrap, pipeline).versions
        assert [e.command_id for e in versions.values()] == [
            "train-1", "online-1-400", "online-1-800"
        ]  # fmt: skip
        weights.append([model_bytes(versions[v]) for v in (2, 3)])
    assert weights[0] == weights[1]


def test_a_lost_state_is_made_again_from_the_log(bootstrap: str, tmp_path: Path) -> None:
    pipeline = new_pipeline(bootstrap, ONLINE)
    register_base(bootstrap, pipeline, tmp_path, base_parts())
    numeric, kinds = sales(1_000)
    emit(bootstrap, pipeline, numeric, kinds, returned(numeric))
    with worker_on(bootstrap, pipeline, tmp_path) as worker:
        learn_until(worker, 500)
    before = events_of(bootstrap, pipeline)
    state = tmp_path / "snapshots" / "online"
    assert state.is_dir()
    for file in state.iterdir():
        file.unlink()
    first = model_bytes(rollout_of(bootstrap, pipeline).versions[2])
    with worker_on(bootstrap, pipeline, tmp_path) as worker:
        learn_until(worker, 992)
    rollout = rollout_of(bootstrap, pipeline)
    assert events_of(bootstrap, pipeline)[: len(before)] == before
    assert list(rollout.versions) == [1, 2, 3]
    assert rollout.live == 3
    assert model_bytes(rollout.versions[2]) == first


@pytest.mark.parametrize("lost", ["save", "register", "stage"])
def test_a_crash_while_publishing_publishes_once(
    bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    pipeline = new_pipeline(bootstrap, ONLINE)
    register_base(bootstrap, pipeline, tmp_path, base_parts())
    numeric, kinds = sales(1_000)
    emit(bootstrap, pipeline, numeric, kinds, returned(numeric))

    class DiedError(Exception):
        pass

    def dies(*_: object, **__: object) -> None:
        raise DiedError

    owner: type = saving.OnlineSnapshots if lost == "save" else versioning.Versions
    with monkeypatch.context() as patched:
        patched.setattr(owner, lost, dies)
        with worker_on(bootstrap, pipeline, tmp_path) as worker, pytest.raises(DiedError):
            learn_until(worker, 1_000)
    half = rollout_of(bootstrap, pipeline)
    assert half.live == 1
    assert list(half.versions) == ([1, 2] if lost == "stage" else [1])
    with worker_on(bootstrap, pipeline, tmp_path) as worker:
        learn_until(worker, 992)
    events = events_of(bootstrap, pipeline)
    made = [e.command_id for e in events if isinstance(e, Registered)]
    assert made == ["train-1", "online-1-400", "online-1-800"]
    assert [(e.version, e.stage) for e in events if isinstance(e, StageChanged)] == [
        (1, "live"), (2, "live"), (3, "live"),
    ]  # fmt: skip


def test_poisoned_labels_are_taken_back(bootstrap: str, tmp_path: Path) -> None:
    pipeline = new_pipeline(bootstrap, ONLINE)
    register_base(bootstrap, pipeline, tmp_path, good_parts())
    numeric, kinds = sales(2_800)
    poisoned = slice(1_616, 2_000)
    emit(bootstrap, pipeline, numeric, kinds, returned(numeric, poisoned))
    with worker_on(bootstrap, pipeline, tmp_path) as worker:
        learn_until(worker, 2_800)
    rollout = rollout_of(bootstrap, pipeline)
    backs = [
        e
        for e in events_of(bootstrap, pipeline)
        if isinstance(e, StageChanged) and e.stage == "rolled_back"
    ]
    assert backs
    assert {e.by for e in backs} == {"online"}
    assert all(e.evidence is not None and e.evidence["lower_limit"] > 0 for e in backs)
    clean = [v for v in rollout.versions if learned_until(rollout.versions[v]) <= poisoned.start]
    assert {e.instead for e in backs} <= set(clean)
    assert rollout.live == max(rollout.versions)  # it goes on learning, and publishes again
    assert accuracy(rollout.versions[rollout.live]) > 0.9


def learned_until(event: Registered) -> int:
    online = event.manifest.get("online")
    return 0 if online is None else int(online["outcomes"]["offsets"]["0"][1])


def test_a_retrained_version_is_begun_from_where_its_training_ended(
    bootstrap: str, tmp_path: Path
) -> None:
    pipeline = new_pipeline(bootstrap, ONLINE)
    register_base(bootstrap, pipeline, tmp_path, base_parts())
    numeric, kinds = sales(900)
    emit(bootstrap, pipeline, numeric, kinds, returned(numeric))
    with worker_on(bootstrap, pipeline, tmp_path) as worker:
        learn_until(worker, 500)
        retrained = base_parts(seed=8)
        retrained.manifest["label_cutoff_ms"] = CUTOFF_MS + 200  # it knows the first 200 labels
        register_base(bootstrap, pipeline, tmp_path, retrained, version=9)
        work_until(worker, lambda: 10 in rollout_of(bootstrap, pipeline).versions)
    rollout = rollout_of(bootstrap, pipeline)
    made = rollout.versions[10]
    assert made.manifest["parent"]["version"] == 9
    assert made.manifest["online"]["outcomes"]["offsets"] == {"0": [200, 600]}
    assert rollout.live == 10


def test_with_a_policy_a_version_goes_into_shadow(bootstrap: str, tmp_path: Path) -> None:
    pipeline = new_pipeline(bootstrap, ONLINE, rollout=RolloutPolicy())
    register_base(bootstrap, pipeline, tmp_path, base_parts())
    numeric, kinds = sales(820)
    emit(bootstrap, pipeline, numeric, kinds, returned(numeric))
    with worker_on(bootstrap, pipeline, tmp_path) as worker:
        learn_until(worker, 816)
    rollout = rollout_of(bootstrap, pipeline)
    assert rollout.live == 1
    assert rollout.shadows == {3: {"0": 820}}
    assert rollout.stages == {1: "live", 2: "retired", 3: "shadow"}


def test_outcomes_in_shadow_are_of_events_that_were_learned_already(
    bootstrap: str, tmp_path: Path
) -> None:
    pipeline = new_pipeline(bootstrap, ONLINE, partitions=2)
    register_base(bootstrap, pipeline, tmp_path, base_parts())
    numeric, kinds = sales(320)
    emit(bootstrap, pipeline, numeric, kinds, returned(numeric))
    emit(bootstrap, pipeline, numeric, kinds, returned(numeric), partition=1, stage="shadow")
    with worker_on(bootstrap, pipeline, tmp_path) as worker:
        work_until(worker, lambda: committed(bootstrap, pipeline) == {0: 320, 1: 320})
        assert worker.course is not None
        assert worker.course.learner.learned == 320


def test_histories_are_those_of_the_log(bootstrap: str, tmp_path: Path) -> None:
    network = Transformer(last=3, width=8, layers=1, heads=2)
    pipeline = new_pipeline(bootstrap, ONLINE, network=network)
    register_base(bootstrap, pipeline, tmp_path, base_parts(network))
    numeric, kinds = sales(420)
    emit(bootstrap, pipeline, numeric, kinds, returned(numeric))
    with worker_on(bootstrap, pipeline, tmp_path) as worker:
        learn_until(worker, 416)
    made = parts_of(rollout_of(bootstrap, pipeline).versions[2])

    parts = base_parts(network)
    expected = GuardedLearner(parts, ONLINE)
    encoded, codes = inputs_of(parts, numeric, kinds)
    # Of the seven shops in turn: a shop's sale before stands seven rows above.
    index = np.arange(400)[:, None] + np.array([-14, -7, 0])
    there = index >= 0
    inputs = (
        np.where(there[:, :, None], encoded[index], np.float32(0)),
        np.where(there[:, :, None], codes[index], 0),
        there.sum(axis=1),
    )
    for i in range(0, 400, 16):
        at = slice(i, i + 16)
        expected.learn(tuple(column[at] for column in inputs), returned(numeric)[at])
    for name, weights in expected.publish("a test")[0].items():
        np.testing.assert_array_equal(made.weights[name], weights, err_msg=name)


def test_one_learner_per_pipeline(bootstrap: str, tmp_path: Path) -> None:
    pipeline = new_pipeline(bootstrap, ONLINE)
    with (
        worker_on(bootstrap, pipeline, tmp_path),
        pytest.raises(ConfigurationError, match="another online learner"),
        worker_on(bootstrap, pipeline, tmp_path),
    ):
        pass


def model_bytes(event: Registered) -> bytes:
    parts = parts_of(event)
    return b"".join(parts.weights[name].tobytes() for name in sorted(parts.weights))


def package_of(event: Registered) -> Path:
    return Path(event.uri.removeprefix("file://"))


def committed(bootstrap: str, pipeline: Pipeline) -> dict[int, int]:
    reader = PositionReader(bootstrap)
    try:
        return reader.committed(pipeline.topics.group("online")).get(pipeline.topics.outcomes, {})
    finally:
        reader.close()
