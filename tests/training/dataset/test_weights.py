"""Weights, sampling and what undoes them, against the formula."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.errors import TrainingError
from training.correction import shifts
from training.dataset.encoded import write_slices
from training.dataset.encoding import Encoding
from training.dataset.examples import SliceArrays
from training.dataset.prepared import Examples, PreparedData
from training.dataset.weights import example_weights, kept_rows
from training.networks.tasks import MultiClass, Regression
from training.spec import Model

DAY_MS = 86_400_000


def examples(n: int, targets: NDArray[np.float64] | None = None) -> Examples:
    rng = np.random.default_rng(5)
    places = np.column_stack([np.arange(n) % 3, np.arange(n) // 3])
    return Examples(
        np.arange(n, dtype=np.float64)[:, None],
        [],
        (rng.random(n) < 0.1).astype(np.float64) if targets is None else targets,
        np.arange(n) * DAY_MS // 1000,
        places=places,
    )


def test_balanced_classes_count_the_same() -> None:
    targets = np.repeat([0.0, 1.0], [900, 100])
    times = np.arange(1000) * DAY_MS // 50
    model = Model(class_weight="balanced", half_life="7d")
    weights, factors = example_weights(targets, times, model)
    assert weights[targets == 0].sum() == pytest.approx(weights[targets == 1].sum(), rel=1e-5)
    assert weights.mean() == pytest.approx(1.0)
    plain, ones = example_weights(targets, times, replace(model, class_weight=None))
    assert ones.tolist() == [1, 1]
    ratio = weights / plain
    assert ratio[targets == 1] / ratio[0] == pytest.approx(np.full(100, factors[1] / factors[0]))


def test_a_number_is_what_class_1_counts_more() -> None:
    targets = np.array([0.0, 1.0, 0.0])
    weights, factors = example_weights(targets, np.arange(3), Model(class_weight=4.0))
    assert weights[1] / weights[0] == pytest.approx(4.0)
    assert factors.tolist() == [1.0, 4.0]


def test_several_classes_and_none() -> None:
    model = Model(task=MultiClass(("a", "b", "c")), class_weight="balanced")
    targets = np.repeat([0.0, 1.0, 2.0], [60, 30, 10])
    weights, factors = example_weights(targets, np.arange(100), model)
    assert [weights[targets == c].sum() for c in range(3)] == pytest.approx([100 / 3] * 3)
    assert factors == pytest.approx([100 / 180, 100 / 90, 100 / 30])
    plain, none = example_weights(np.linspace(0, 9, 5), np.arange(5), Model(task=Regression()))
    assert plain.tolist() == [1.0] * 5
    assert len(none) == 0


def test_negatives_are_dropped_by_their_place_alone() -> None:
    some = examples(20_000)
    model = Model(keep_negatives=0.2)
    kept = kept_rows(some, model, 7)
    assert kept is not None
    assert set(np.flatnonzero(some.targets == 1)) <= set(kept.tolist())
    negatives = some.targets == 0
    assert (some.targets[kept] == 0).sum() / negatives.sum() == pytest.approx(0.2, abs=0.01)
    order = np.random.default_rng(0).permutation(20_000)[:5000]
    others = kept_rows(some.some(order), model, 7)
    assert others is not None
    assert set(order[others]) == set(kept.tolist()) & set(order.tolist())
    of_another_seed = kept_rows(some, model, 8)
    assert of_another_seed is not None
    assert not np.array_equal(kept, of_another_seed)
    assert kept_rows(some, Model(), 7) is None


def test_the_correction_gives_the_shares_of_the_log_back() -> None:
    """A constant network that fits the weighted slice answers, corrected, the log's share."""
    some = examples(50_000)
    for model in (Model(keep_negatives=0.25), Model(class_weight="balanced", keep_negatives=0.5)):
        kept = kept_rows(some, model, 7)
        assert kept is not None
        targets = some.targets[kept]
        weights, factors = example_weights(targets, some.event_times_ms[kept], model)
        share = np.average(targets, weights=weights)
        logit = np.log(share / (1 - share)) - shifts(model.task, factors, model.keep_negatives)[0]
        assert 1 / (1 + np.exp(-logit)) == pytest.approx(some.targets.mean(), rel=0.05)


def test_only_the_training_slice_is_sampled(tmp_path: Path) -> None:
    data = PreparedData(["x"], [], examples(5000), examples(1000))
    encoding = Encoding.fit(["x"], [], data.train)
    model = Model(keep_negatives=0.1, class_weight=3.0)
    written = write_slices(tmp_path, data, encoding, model, 7)
    kept = kept_rows(data.train, model, 7)
    assert kept is not None
    train, validation = (SliceArrays.open(tmp_path, part) for part in ("train", "validation"))
    assert (len(train), len(validation), written.trained) == (len(kept), 1000, len(kept))
    batch = train.batch(np.arange(len(train)))
    inputs = encoding.numeric_inputs(data.train.numeric[kept])
    np.testing.assert_array_equal(batch.inputs[0], inputs)
    np.testing.assert_array_equal(batch.targets, data.train.targets[kept])
    positive, negative = (batch.weights[batch.targets == target][0] for target in (1, 0))
    assert positive == pytest.approx(3 * negative)
    again = write_slices(tmp_path, data, encoding, model, 7)
    assert again.digests == written.digests
    assert write_slices(tmp_path, data, encoding, model, 8).digests != written.digests


def test_nothing_left_to_train_on_is_refused(tmp_path: Path) -> None:
    negatives = examples(50, np.zeros(50))
    data = PreparedData(["x"], [], negatives, negatives)
    model = Model(keep_negatives=1e-9)
    with pytest.raises(TrainingError, match="leaves no example"):
        write_slices(tmp_path, data, Encoding.fit(["x"], [], negatives), model, 7)
