"""A learner alone: what it learns, what it refuses, and what its state holds."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.online.declared import Online, check_network
from serving.online.guarded import GuardedLearner
from serving.online.learner import Inputs, Learner
from streams.errors import DefinitionError, StateError
from tests.serving.online.online_log import base_parts, inputs_of, returned, sales
from training.calibration import Spread, Temperature
from training.networks.declared import Custom
from training.networks.tasks import MultiClass, Regression
from training.package import Parts
from training.standard import Standard

DECLARED = Online(batch=8, learning_rate=(0.02, 0.2), momentum=0.5, replay=4, buffer=64)


def learner(parts: Parts, declared: Online = DECLARED) -> Learner:
    return Learner(parts.shape, parts.task, parts.weights, declared, (0.0,))


def stream(parts: Parts, n: int, seed: int = 1) -> tuple[Inputs, NDArray[np.float64]]:
    numeric, kinds = sales(n, seed)
    return inputs_of(parts, numeric, kinds), returned(numeric)


def learn(mine: Learner | GuardedLearner, inputs: Inputs, targets: NDArray[np.float64]) -> None:
    for i in range(0, len(targets), 8):
        mine.learn(tuple(column[i : i + 8] for column in inputs), targets[i : i + 8])


def test_answers_before_it_learns() -> None:
    parts = base_parts()
    mine, still = learner(parts), learner(parts)
    inputs, targets = stream(parts, 8)
    scored = mine.learn(inputs, targets)
    assert scored.outputs.tolist() == still.outputs(inputs).tolist()
    assert mine.outputs(inputs).tolist() != scored.outputs.tolist()


def test_restored_it_goes_on_bit_for_bit() -> None:
    parts = base_parts()
    inputs, targets = stream(parts, 400)
    whole, first, second = learner(parts), learner(parts), learner(parts)
    learn(whole, inputs, targets)
    learn(first, tuple(c[:200] for c in inputs), targets[:200])
    second.restore({name: array.copy() for name, array in first.state().items()})
    learn(second, tuple(c[200:] for c in inputs), targets[200:])
    mine, theirs = whole.state(), second.state()
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


def test_the_rate_that_serves_best_answers() -> None:
    parts = base_parts()
    mine = learner(parts, Online(batch=8, learning_rate=(1e-6, 0.2)))
    learn(mine, *stream(parts, 800))
    assert mine.chosen == 1
    inputs, targets = stream(parts, 400, seed=2)
    assert float(((mine.outputs(inputs)[:, 0] > 0) == (targets > 0)).mean()) > 0.9


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_not_learned(bad: float) -> None:
    parts = base_parts()
    mine = learner(parts)
    inputs, targets = stream(parts, 8)
    before = mine.weights()
    numeric = inputs[0].copy()
    numeric[3, 0] = bad
    mine.learn((numeric, inputs[1]), targets)
    assert mine.refused == 2  # both rates
    for name, weights in mine.weights().items():
        np.testing.assert_array_equal(weights, before[name])


def test_a_state_of_another_network_is_refused() -> None:
    mine = learner(base_parts())
    other = learner(base_parts(), replace(DECLARED, learning_rate=0.1))
    with pytest.raises(StateError, match="no state of this learner"):
        other.restore(mine.state())


def test_learns_several_classes_and_numbers() -> None:
    declared = Online(batch=8, learning_rate=0.1)
    classes = MultiClass(("cold", "mild", "hot"))
    parts = base_parts(task=classes)
    mine = GuardedLearner(replace(parts, calibration=Temperature(shifts=(0.0,) * 3)), declared)
    numeric, kinds = sales(2_400)
    inputs = inputs_of(parts, numeric, kinds)
    heat = numeric[:, 0]
    learn(mine, inputs, np.digitize(heat, [-0.5, 0.5]).astype(np.float64))
    _, _, figures = mine.publish("a")
    assert figures["log_loss"] < figures["base_log_loss"] / 2
    assert figures["accuracy"] > 0.8

    parts = base_parts(task=Regression())
    units = Spread(standard=Standard(20.0, 5.0))
    mine = GuardedLearner(replace(parts, calibration=units), declared)
    learn(mine, inputs, 20 + 5 * heat)
    _, _, figures = mine.publish("b")
    assert figures["crps"] < figures["base_crps"] / 2
    assert "accuracy" not in figures


def test_weights_that_answer_worse_go_back_to_good_ones_and_then_to_the_base() -> None:
    parts = base_parts()
    declared = Online(batch=8, learning_rate=0.1, guard=200, publish_every=200)
    teacher = GuardedLearner(parts, declared)
    learn(teacher, *stream(parts, 2_400, seed=4))
    base = replace(parts, weights=teacher.publish("t")[0])
    mine = GuardedLearner(base, declared)
    inputs, targets = stream(base, 2_000)
    learn(mine, tuple(c[:800] for c in inputs), targets[:800])
    assert mine.returns == 0
    # It learns the wrong way round, which the guard can't tell: the base is as wrong there.
    learn(mine, tuple(c[800:1_000] for c in inputs), 1 - targets[800:1_000])
    told = []
    for i in range(1_000, 2_000, 8):
        back = mine.learn(tuple(c[i : i + 8] for c in inputs), targets[i : i + 8])
        told += [(i, back)] if back is not None else []
    assert [back.to for _, back in told] == ["good"]
    assert told[0][0] < 1_150
    assert told[0][1].evidence["rate_factor"] == 0.5
    right = (mine.outputs(inputs)[:, 0] > 0) == (targets > 0)
    assert right.mean() > 0.9


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"batch": 0}, "at least 1"),
        ({"learning_rate": 0.0}, "above 0"),
        ({"learning_rate": ()}, "above 0"),
        ({"learning_rate": (0.1, 0.01)}, "ascend"),
        ({"momentum": 1.0}, "in \\[0, 1\\)"),
        ({"clip": 0.0}, "above 0"),
        ({"replay": 9, "buffer": 8}, "the buffer's 8"),
        ({"alpha": 1.0}, "a probability"),
    ],
    ids=["batch", "rate", "no-rate", "order", "momentum", "clip", "replay", "alpha"],
)
def test_what_is_declared_is_checked(values: dict[str, float], why: str) -> None:
    with pytest.raises(DefinitionError, match=why):
        Online(**values)  # type: ignore[arg-type]


def test_a_network_of_the_users_own_is_refused() -> None:
    with pytest.raises(DefinitionError, match="declare Tabular or Transformer"):
        check_network(Custom("mine.networks:Net"))
