import numpy as np

from training.loop.schedule import batches_of_epoch, dropout_seed, learning_rate, masked_codes


def test_every_epoch_visits_each_row_once_in_another_order() -> None:
    first, second = (batches_of_epoch(1001, 100, 7, epoch) for epoch in (0, 1))
    for batches in (first, second):
        assert sorted(np.concatenate(batches)) == list(range(1001))
        assert {len(batch) for batch in batches} <= {91}
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))
    again = batches_of_epoch(1001, 100, 7, 0)
    assert np.array_equal(np.concatenate(first), np.concatenate(again))


def test_fewer_rows_than_a_batch_make_one_batch() -> None:
    assert [len(batch) for batch in batches_of_epoch(3, 100, 7, 0)] == [3]


def test_the_learning_rate_rises_to_its_peak_and_falls() -> None:
    rates = [learning_rate(step, 100) for step in range(101)]
    assert max(rates) == rates[20] == 1.0
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] < 0.01
    assert all(0 < learning_rate(step, 1) <= 1 for step in (0, 1))


def test_about_one_code_in_a_hundred_becomes_unknown() -> None:
    codes = np.full((20_000, 2), 3, np.int64)
    masked = masked_codes(codes, 7, 0)
    assert 0.005 < (masked == 0).mean() < 0.015
    assert not np.array_equal(masked, masked_codes(codes, 7, 1))
    assert (codes == 3).all()


def test_dropout_seeds_differ_between_ranks_and_epochs() -> None:
    seeds = {dropout_seed(7, epoch, rank) for epoch in range(4) for rank in range(4)}
    assert len(seeds) == 16
