"""An entity's last events as stretches of sorted rows, against one event after the other."""

import numpy as np
import pytest

from training.dataset.histories import stretches, windows


@pytest.mark.parametrize("last", [1, 3, 8])
def test_a_history_is_the_entity_s_newest_events_in_log_order(last: int) -> None:
    rng = np.random.default_rng(last)
    n = 3000
    partitions = np.sort(rng.integers(0, 3, n))
    sources = np.concatenate([_sources(rng, int(count)) for count in np.bincount(partitions)])
    entities = rng.integers(0, 12, n)  # an entity's events of two partitions stay apart
    values = rng.normal(size=(n, 2))
    found = stretches(partitions, sources, entities)
    seen: dict[tuple[int, int], list[int]] = {}
    newest: dict[int, int] = {}
    wanted = {}
    for row in range(n):
        partition = int(partitions[row])
        if sources[row] <= newest.get(partition, -1):
            assert found.places[row] == -1
            continue
        newest[partition] = int(sources[row])
        mine = seen.setdefault((partition, int(entities[row])), [])
        mine.append(row)
        wanted[row] = mine[-last:].copy()
    assert n - len(wanted) > 100
    assert sorted(found.order.tolist()) == sorted(wanted)
    chosen = rng.permutation(np.array(sorted(wanted)))[:500]
    places = found.places[chosen]
    lengths = found.lengths(places, last)
    histories = windows(values[found.order], places, lengths, last)
    assert histories.shape == (500, last, 2)
    for row, length, history in zip(chosen.tolist(), lengths.tolist(), histories, strict=True):
        assert length == len(wanted[row])
        assert (history[last - length :] == values[wanted[row]]).all()
        assert (history[: last - length] == 0).all()


def test_nothing_is_no_history() -> None:
    none = np.empty(0, np.int64)
    found = stretches(none, none, none)
    assert windows(np.empty((0, 2)), none, found.lengths(none, 4), 4).shape == (0, 4, 2)


def _sources(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return ascending source offsets among which a crash repeated some stretches."""
    found: list[int] = []
    while len(found) < n:
        found.append(max(found, default=-1) + int(rng.integers(1, 3)))
        if rng.random() < 0.03:
            found += found[-int(rng.integers(1, 8)) :]
    return np.array(found[:n], np.int64)
