"""The electricity benchmark: nobody sees ahead, and choices are made on the first fifth."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import online_learning as benchmark
from benchmarks.online_learning import Stream
from training.networks.declared import Tabular, Transformer

N = benchmark.WEEK + 60
SEEN = benchmark.WEEK + 30


def stream(seed: int = 1) -> Stream:
    drawn = np.random.default_rng(seed)
    numeric = drawn.uniform(0, 1, (N, 5))
    categories = [[str(i % 7) for i in range(N)], [str(i % 48) for i in range(N)]]
    return Stream(numeric, categories, (numeric[:, 0] > 0.5).astype(np.float64))


def with_another_future(given: Stream) -> Stream:
    """Return the stream with other rows behind SEEN, and other labels from that row on."""
    other = stream(2)
    numeric, targets = given.numeric.copy(), given.targets.copy()
    numeric[SEEN + 1 :] = other.numeric[SEEN + 1 :]
    targets[SEEN:] = 1 - targets[SEEN:]
    return replace(given, numeric=numeric, targets=targets)


CONTENDERS: dict[str, Callable[[Stream], NDArray[np.bool_]]] = {
    "no-change": benchmark.last_labels,
    "online": lambda s: benchmark.online(s, Tabular(hidden=(4,)), benchmark.TABULAR),
    "served": lambda s: benchmark.online(s, Tabular(hidden=(4,)), benchmark.TABULAR, serve_every=8),
    "sequence": lambda s: benchmark.online(
        s, Transformer(last=4, width=4, layers=1, heads=1), benchmark.IN_SEQUENCE
    ),
}


@pytest.mark.parametrize("name", list(CONTENDERS))
def test_an_answer_depends_on_no_label_of_its_own_and_on_nothing_later(name: str) -> None:
    given = stream()
    one, other = (CONTENDERS[name](s) for s in (given, with_another_future(given)))
    np.testing.assert_array_equal(one[: SEEN + 1], other[: SEEN + 1])
    assert (one[SEEN + 1 :] != other[SEEN + 1 :]).any()
