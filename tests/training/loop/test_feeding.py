from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.dataset.examples import EventInputs, SliceArrays
from training.loop.feeding import Fed, Feed, Plan

CPU = torch.device("cpu")
ROWS = 103


def slice_of(codes: NDArray[np.int64] | None = None) -> SliceArrays:
    numeric = np.arange(ROWS, dtype=np.float32).reshape(-1, 1)
    if codes is None:
        codes = np.full((ROWS, 1), 3)
    weights = np.arange(ROWS, dtype=np.float32) / np.float32(10)
    return SliceArrays(EventInputs(numeric, codes), np.zeros(ROWS, np.float32), weights)


def plan(share: int = 0, shares: int = 2, batch: int = 5) -> Plan:
    return Plan(ROWS, 20, share, shares, batch, seed=7, epochs=2)


def steps(of: Plan, epoch: int = 0, step: int = 0) -> list[Fed]:
    left = (of.epochs - epoch) * of.steps - step
    with Feed(slice_of(), of, epoch, step, CPU) as feed:
        return [feed.take() for _ in range(left)]


def rows(fed: Fed) -> list[int]:
    return [int(row) for piece in fed.pieces for row in piece.inputs[0][:, 0]]


def test_the_shares_of_each_step_are_its_global_batch() -> None:
    shares = [steps(plan(share)) for share in range(2)]
    alone = steps(plan(0, 1))
    assert len(alone) == 2 * 6
    for first, second, whole in zip(*shares, alone, strict=True):
        assert sorted(rows(first) + rows(second)) == sorted(rows(whole))
        assert first.rows == second.rows == whole.rows == len(rows(whole))
        assert first.weight == pytest.approx(sum(rows(whole)) / 10)
        assert first.share_weight == pytest.approx(sum(rows(first)) / 10)
        assert (len(first.pieces), len(whole.pieces)) == (2, 4)  # 10 and 20 rows by fives
    for epoch in range(2):
        told = [row for fed in alone if fed.epoch == epoch for row in rows(fed)]
        assert sorted(told) == list(range(ROWS))


def test_a_feed_that_begins_in_the_middle_gives_the_same() -> None:
    whole, later = steps(plan()), steps(plan(), epoch=1, step=2)
    for a, b in zip(whole[8:], later, strict=True):
        assert (a.epoch, a.step) == (b.epoch, b.step)
        for one, other in zip(a.pieces, b.pieces, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(one.inputs, other.inputs, strict=True))


def test_few_codes_are_hidden_others_in_each_epoch() -> None:
    codes = np.full((ROWS, 200), 3)
    with Feed(slice_of(codes), plan(0, 1), 0, 0, CPU) as feed:
        taken = [feed.take() for _ in range(12)]
    hidden = [
        {(row, c) for fed in taken if fed.epoch == epoch for piece in fed.pieces
         for row, line in zip(piece.inputs[0][:, 0].tolist(), piece.inputs[1], strict=True)
         for c in (line == 0).nonzero()[:, 0].tolist()}
        for epoch in range(2)
    ]  # fmt: skip
    assert 0.005 < len(hidden[0]) / codes.size < 0.015
    assert len(hidden[0] & hidden[1]) < 20
    assert (codes == 3).all()


def test_what_the_thread_meets_is_raised_and_leaving_ends_it(tmp_path: Path) -> None:
    broken = SliceArrays(EventInputs(np.zeros((5, 1), np.float32), np.zeros((5, 1), np.int64)),
                         np.zeros(ROWS, np.float32), None)  # fmt: skip
    with Feed(broken, plan(), 0, 0, CPU) as feed, pytest.raises(IndexError):
        feed.take()
    with Feed(slice_of(), plan(), 0, 0, CPU) as feed:
        feed.take()
    assert not feed._thread.is_alive()
    assert feed.waited_s > 0
