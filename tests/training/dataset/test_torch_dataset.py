"""The data set in real DataLoaders: workers, ranks, epochs, and going on in the middle."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from streams.errors import TrainingError
from training.dataset.examples import SliceArrays
from training.dataset.torch_dataset import ReplayBatch, ReplayDataset

ROWS = 1003
RANKS = 2


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> SliceArrays:
    """A slice whose targets are the row numbers."""
    folder = tmp_path_factory.mktemp("slice")
    rows = np.arange(ROWS)
    np.save(folder / "train_numeric.npy", np.outer(rows, [1, 2]).astype(np.float32))
    np.save(folder / "train_codes.npy", rows[:, None].astype(np.int32) % 5)
    np.save(folder / "train_targets.npy", rows)
    np.save(folder / "train_weights.npy", rows.astype(np.float32) / ROWS)
    return SliceArrays.open(folder, "train")


def dataset(
    examples: SliceArrays, rank: int = 0, ranks: int = RANKS, batch: int = 32
) -> ReplayDataset:
    return ReplayDataset(examples, batch=batch, seed=7, rank=rank, ranks=ranks)


def loader(data: ReplayDataset, workers: int = 2) -> "DataLoader[ReplayBatch]":
    return DataLoader(
        data, batch_size=None, num_workers=workers, persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
    )  # fmt: skip


def rows_of(batches: list[ReplayBatch]) -> list[list[int]]:
    return [batch.targets.tolist() for batch in batches]


def test_ranks_and_workers_together_see_each_row_once(examples: SliceArrays) -> None:
    seen = [list(loader(dataset(examples, rank))) for rank in range(RANKS)]
    assert [len(batches) for batches in seen] == [len(dataset(examples))] * RANKS
    rows = [row for batches in seen for batch in rows_of(batches) for row in batch]
    assert sorted(rows) == list(range(ROWS))
    alone = list(loader(dataset(examples), workers=0))
    assert rows_of(alone) == rows_of(seen[0]), "the number of workers changes the order"
    for batch in seen[1]:
        numeric, codes = batch.inputs
        torch.testing.assert_close(numeric[:, 1], 2.0 * batch.targets.float())
        torch.testing.assert_close(codes[:, 0], batch.targets % 5)
        torch.testing.assert_close(batch.weights, batch.targets.float() / ROWS)


def test_workers_that_stay_see_the_epoch_and_each_epoch_differs(examples: SliceArrays) -> None:
    data = dataset(examples)
    batches = loader(data)
    epochs = []
    for epoch in range(2):
        data.set_epoch(epoch)
        epochs.append(rows_of(list(batches)))
    assert epochs[0] != epochs[1]
    data.set_epoch(0)
    assert rows_of(list(batches)) == epochs[0]


def test_goes_on_in_the_middle_of_an_epoch(examples: SliceArrays) -> None:
    data = dataset(examples)
    data.set_epoch(3)
    batches = list(loader(data, workers=0))
    state = None
    for number, batch in enumerate(loader(data), start=1):
        if number == 6:  # the workers have read on meanwhile
            state = data.state_dict(batch)
            break
    assert state is not None
    resumed = dataset(examples)
    resumed.load_state_dict(state)
    assert resumed.epoch == 3
    resumed.set_epoch(resumed.epoch)  # as a loop over epochs does
    assert rows_of(list(loader(resumed))) == rows_of(batches[6:])
    resumed.set_epoch(4)
    assert len(list(loader(resumed, workers=0))) == len(resumed)


def test_the_position_holds_for_another_number_of_ranks(examples: SliceArrays) -> None:
    two = [dataset(examples, rank) for rank in range(2)]
    streams = [list(loader(data, workers=0)) for data in two]
    one = dataset(examples, ranks=1, batch=64)
    one.load_state_dict(two[0].state_dict(streams[0][4]))
    rest = rows_of(list(loader(one, workers=0)))
    assert [sorted(batch) for batch in rest] == [
        sorted(a + b) for a, b in zip(*(rows_of(s[5:]) for s in streams), strict=True)
    ]


def test_a_position_of_other_data_is_refused(examples: SliceArrays) -> None:
    state = dataset(examples).state_dict()
    other = ReplayDataset(examples, batch=32, seed=8, rank=0, ranks=2)
    with pytest.raises(TrainingError, match="seed=7, this data set has 8"):
        other.load_state_dict(state)
    with pytest.raises(TrainingError, match="rank below the number of ranks"):
        dataset(examples, rank=2)
