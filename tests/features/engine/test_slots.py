"""Entities get numbers in the order of their appearance, whatever their names and however many."""

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from features.engine.slots import EntitySlots


def reference(names: list[str]) -> list[int]:
    slots: dict[str, int] = {}
    return [slots.setdefault(name, len(slots)) for name in names]


@given(st.lists(st.lists(st.text(max_size=3)), max_size=8))
def test_slots_are_numbered_by_first_appearance(batches: list[list[str]]) -> None:
    slots = EntitySlots()
    found = [slot for batch in batches for slot in slots.of(batch).tolist()]
    names = [name for batch in batches for name in batch]
    assert found == reference(names)
    assert len(slots) == len(set(names))


def test_many_entities_of_many_lengths_survive_growth_and_restoring() -> None:
    names = [f"{'é' * (i % 40)}{i % 50_000}" for i in range(120_000)]
    slots = EntitySlots()
    found = np.concatenate([slots.of(names[a : a + 7000]) for a in range(0, len(names), 7000)])
    assert found.tolist() == reference(names)
    every = np.arange(len(slots), dtype=np.int64)
    restored = EntitySlots.restore(**slots.snapshot(every))
    assert restored.of(names[::-1]).tolist() == found[::-1].tolist()
    assert restored.of(["new"]).tolist() == [len(every)]


def test_those_that_stay_keep_their_order() -> None:
    slots = EntitySlots()
    slots.of(["a", "", "bb", "ccc", "d"])
    kept = EntitySlots.restore(**slots.snapshot(np.array([1, 3, 4])))
    assert kept.of(["d", "ccc", "", "a"]).tolist() == [2, 1, 0, 3]


def test_entities_whose_hashes_begin_alike_stay_apart() -> None:
    """A table of 1,024 rows with 500 names has many of one row."""
    slots = EntitySlots()
    names = [f"n{i}" for i in range(500)]
    assert slots.of(names).tolist() == list(range(500))
    assert slots.of(names[::-1]).tolist() == list(range(499, -1, -1))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("entity_ends", lambda ends: ends[:-1]),
        ("entity_ends", lambda ends: ends[::-1]),
        ("entity_bytes", lambda text: text[:-1]),
        ("entity_bytes", lambda text: np.zeros_like(text)),  # two of one name
    ],
)
def test_damaged_names_are_refused(name: str, change: Any) -> None:
    slots = EntitySlots()
    slots.of(["aa", "bb", "c"])
    arrays = slots.snapshot(np.arange(3))
    arrays[name] = change(arrays[name])
    with pytest.raises(ValueError, match=r"entit"):
        EntitySlots.restore(**arrays)
