from pathlib import Path

import numpy as np
import pytest

from streams.errors import TrainingError
from tests.training.learnable import write
from training.dataset.examples import SliceArrays, with_unknowns
from training.loop.run_folder import array_path


def test_batches_are_the_rows_asked_for(tmp_path: Path) -> None:
    write(tmp_path, n_train=300)
    train = SliceArrays.open(tmp_path, "train")
    rows = np.array([7, 299, 0, 7])
    batch = train.batch(rows)
    numeric, codes = batch.inputs
    stored = {
        name: np.load(array_path(tmp_path, "train", name))
        for name in ("numeric", "codes", "targets", "weights")
    }
    np.testing.assert_array_equal(numeric, stored["numeric"][rows])
    np.testing.assert_array_equal(codes, stored["codes"][rows])
    np.testing.assert_array_equal(batch.targets, stored["targets"][rows])
    np.testing.assert_array_equal(batch.weights, stored["weights"][rows])
    assert len(train) == 300
    assert (str(numeric.dtype), str(codes.dtype)) == ("float32", "int64")
    validation = SliceArrays.open(tmp_path, "validation")
    assert validation.batch(rows[:1]).weights.tolist() == [1.0]
    assert len(train.batch(rows[:0]).targets) == 0


def test_narrow_codes_and_class_numbers_keep_their_meaning(tmp_path: Path) -> None:
    write(tmp_path, n_train=50)
    path = array_path(tmp_path, "train", "codes")
    codes = np.load(path)
    np.save(path, codes.astype(np.int32))
    np.save(array_path(tmp_path, "train", "targets"), np.arange(50))
    batch = SliceArrays.open(tmp_path, "train").batch(np.arange(50))
    np.testing.assert_array_equal(batch.inputs[1], codes)
    assert batch.inputs[1].dtype == batch.targets.dtype == np.int64


def test_files_that_do_not_fit_or_are_missing_are_refused(tmp_path: Path) -> None:
    write(tmp_path, n_train=50)
    np.save(array_path(tmp_path, "train", "targets"), np.zeros(49, np.float32))
    with pytest.raises(TrainingError, match="50 inputs, 49 targets"):
        SliceArrays.open(tmp_path, "train")
    array_path(tmp_path, "train", "codes").unlink()
    with pytest.raises(TrainingError, match=r"train_codes\.npy is not an array"):
        SliceArrays.open(tmp_path, "train")


@pytest.mark.parametrize("shape", [(4000, 5), (4000, 3, 5)])
def test_a_share_of_the_codes_is_hidden_by_row(shape: tuple[int, ...]) -> None:
    codes = np.ones(shape, np.int64)
    rows = np.arange(4000)
    hidden = with_unknowns(codes, rows, seed=7, epoch=1) == 0
    assert hidden.mean() == pytest.approx(0.01, rel=0.2)
    some = np.random.default_rng(0).permutation(rows)[:100]
    np.testing.assert_array_equal(with_unknowns(codes[some], some, 7, 1) == 0, hidden[some])
    assert (with_unknowns(codes, rows, 7, 2) == 0).tobytes() != hidden.tobytes()
    assert with_unknowns(codes[:0], rows[:0], 7, 1).shape == (0, *shape[1:])
