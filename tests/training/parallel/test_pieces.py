"""Pieces as a network takes them."""

import torch

from training.parallel.pieces import padded
from training.parallel.strategy import Batch


def batch(rows: int) -> Batch:
    inputs = torch.arange(rows * 2.0).view(rows, 2), torch.arange(1, rows + 1)
    return Batch(inputs, torch.ones(rows), torch.full((rows,), 2.0))


def test_what_is_added_repeats_the_last_example_without_weight() -> None:
    longer = padded(batch(2), rows=4)
    assert longer.inputs[0].tolist() == [[0, 1], [2, 3], [2, 3], [2, 3]]
    assert longer.inputs[1].tolist() == [1, 2, 2, 2]
    assert longer.weights.tolist() == [2, 2, 0, 0]
    assert len(longer.targets) == 4


def test_an_empty_piece_becomes_one_that_can_be_computed() -> None:
    one = padded(batch(0), rows=1)
    assert one.inputs[0].tolist() == [[0, 0]]
    assert one.inputs[1].tolist() == [1]  # a history of no event could not be attended to
    assert one.weights.tolist() == [0]


def test_a_piece_that_is_long_enough_stays_as_it_is() -> None:
    given = batch(3)
    assert padded(given, rows=2) is given
