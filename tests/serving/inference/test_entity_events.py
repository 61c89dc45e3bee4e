"""The events that later ones look back at, whatever the batches; no broker."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from features.records import FeatureRows
from serving.inference.entity_events import EntityEvents
from streams.errors import StateError
from training.dataset.histories import Histories

T0_MS = 1_577_836_800_000


@dataclass(frozen=True)
class Told:
    """A history in plain values, the newest event last; for comparison."""

    events: tuple[tuple[float, ...], ...]
    texts: tuple[str, ...]


def log(n: int, entities: int, seed: int, repeats: bool = False) -> FeatureRows:
    """Return n events of some entities, among them stretches that a crash wrote again."""
    rng = np.random.default_rng(seed)
    sources: list[int] = []
    while len(sources) < n:
        sources.append(int(max(sources, default=-1)) + int(rng.integers(1, 3)))
        if repeats and rng.random() < 0.02:
            sources += sources[-int(rng.integers(1, 9)) :]
    chosen = np.array(sources[:n], np.int64)
    of = (chosen * 7919 + seed) % 104729 % entities
    values = np.stack([chosen * 0.5, np.where(chosen % 5, chosen, np.nan)], axis=1)
    return FeatureRows(
        partition=0,
        event_ids=[f"e{source}" for source in chosen],
        entities=[f"entity {i}" for i in of],
        event_times_ms=T0_MS + chosen,
        source_offsets=chosen,
        numeric=values,
        categories=[[f"kind {source % 11}" for source in chosen]],
        groups=[],
    )


def cut(rows: FeatureRows, begin: int, end: int) -> FeatureRows:
    return FeatureRows(
        rows.partition, rows.event_ids[begin:end], rows.entities[begin:end],
        rows.event_times_ms[begin:end], rows.source_offsets[begin:end], rows.numeric[begin:end],
        [column[begin:end] for column in rows.categories], [],
    )  # fmt: skip


def expected(rows: FeatureRows, last: int) -> list[Told | None]:
    """Return each row's history, one event after the other; None for a repetition."""
    seen: dict[str, list[int]] = {}
    newest, told = -1, list[Told | None]()
    for i, (entity, source) in enumerate(zip(rows.entities, rows.source_offsets, strict=True)):
        if source <= newest:
            told.append(None)
            continue
        newest = int(source)
        seen.setdefault(entity, []).append(i)
        chosen = seen[entity][-last:]
        told.append(
            Told(
                tuple(tuple(np.nan_to_num(rows.numeric[j], nan=-9.0).tolist()) for j in chosen),
                tuple(rows.categories[0][j] for j in chosen),
            )
        )
    return told


def told(histories: Histories) -> list[Told]:
    values = np.nan_to_num(histories.events.numeric, nan=-9.0)
    texts = histories.events.categories[0]
    return [
        Told(
            tuple(tuple(values[j].tolist()) for j in row if j >= 0),
            tuple(texts[j] for j in row if j >= 0),
        )
        for row in histories.index
    ]


def taken(
    events: EntityEvents, rows: FeatureRows, bounds: list[int], last: int
) -> list[Told | None]:
    """Return the histories as ``events`` tells them, batch by batch."""
    found: list[Told | None] = []
    for begin, end in pairwise(bounds):
        looked = events.look(cut(rows, begin, end))
        new: NDArray[np.int64] = looked.rows[looked.rows >= 0]
        answers = iter(told(events.histories(new, last)))
        found += [next(answers) if row >= 0 else None for row in looked.rows]
        events.confirm(looked, end)
    return found


def boundaries(n: int, seed: int) -> list[int]:
    inner = np.random.default_rng(seed).integers(0, n, n // 40)
    return [0, *sorted(set(inner.tolist()) - {0}), n]


@pytest.mark.parametrize("last", [1, 2, 5, 16])
def test_histories_are_those_of_the_log_whatever_the_batches(last: int) -> None:
    rows = log(6000, entities=70, seed=last, repeats=True)
    wanted = expected(rows, last)
    assert sum(t is None for t in wanted) > 50
    for seed in (1, 2):
        events = EntityEvents(2, 1, last)
        assert taken(events, rows, boundaries(6000, seed), last) == wanted
        assert len(events) <= 2 * 70 * last + 3000, "what nobody looks back at is swept out"
    assert taken(EntityEvents(2, 1, last), rows, [0, 6000], last) == wanted


def test_a_network_that_sees_fewer_events_is_served_from_the_same_ones() -> None:
    rows = log(900, entities=20, seed=3)
    assert taken(EntityEvents(2, 1, 9), rows, boundaries(900, 4), 4) == expected(rows, 4)
    with pytest.raises(ValueError, match="12 events are asked of 9"):
        EntityEvents(2, 1, 9).histories(np.zeros(1, np.int64), 12)


def test_what_was_asked_and_not_confirmed_leaves_no_trace() -> None:
    rows = log(1500, entities=30, seed=5)
    events, found = EntityEvents(2, 1, 6), []
    for begin, end in pairwise(boundaries(1500, 6)):
        for asked in (min(end + 40, 1500), end):  # the first commit fails, and less comes next
            looked = events.look(cut(rows, begin, asked))
        found += told(events.histories(looked.rows, 6))
        events.confirm(looked, end)
    assert found == expected(rows, 6)


def test_a_snapshot_goes_on_as_if_nothing_had_happened() -> None:
    rows = log(3000, entities=600, seed=7, repeats=True)  # few have as many as are kept
    events = EntityEvents(2, 1, 7)
    first = taken(events, rows, [*boundaries(1700, 8)], 7)
    events.look(cut(rows, 1700, 1900))  # not confirmed: no part of it
    arrays = events.snapshot()
    assert not any(array.dtype.hasobject for array in arrays.values())
    again = EntityEvents.restore(arrays, 2, 1, next_offset=1700)
    assert (again.next_offset, again.newest_source) == (1700, events.newest_source)
    wanted = expected(rows, 7)
    assert first + taken(again, rows, [1700, 1800, 3000], 7) == wanted
    same = again.snapshot()
    assert again.nbytes > 0
    assert same.keys() == arrays.keys()


def test_a_damaged_snapshot_is_refused() -> None:
    events = EntityEvents(2, 1, 4)
    taken(events, log(100, entities=9, seed=1), [0, 100], 4)
    arrays = events.snapshot()
    for name, damaged in (
        ("numeric", arrays["numeric"][1:]),
        ("counts", arrays["counts"][1:]),
        ("codes_0", arrays["codes_0"] + 100),
        ("entity_ends", arrays["entity_ends"][1:]),
    ):
        with pytest.raises(StateError, match="no events of entities"):
            EntityEvents.restore({**arrays, name: damaged}, 2, 1, 100)
    with pytest.raises(StateError):
        EntityEvents.restore({}, 2, 1, 100)
    with pytest.raises(StateError):
        EntityEvents.restore(arrays, 3, 1, 100)
