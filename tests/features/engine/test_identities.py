"""Each id counts once while it is remembered, and hashes are the same everywhere."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.engine.identities import SeenIds, hashes

DAY_MS = 86_400_000


def admit(seen: SeenIds, *events: tuple[str, int]) -> list[bool]:
    ids, times = zip(*events, strict=True)
    is_new, _ = seen.admit(list(ids), np.array(times, dtype=np.int64))
    return [bool(new) for new in is_new]


def test_a_repetition_is_refused_whatever_its_time() -> None:
    seen = SeenIds(DAY_MS)
    assert admit(seen, ("a", 0), ("b", 5), ("a", 0), ("a", 99 * DAY_MS), ("b", -5)) == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert seen.watermark_ms == 5


@given(st.integers(-3 * DAY_MS, 3 * DAY_MS), st.integers(0, 4 * DAY_MS))
def test_an_id_is_remembered_for_dedupe_to_twice_dedupe(start_ms: int, passed_ms: int) -> None:
    seen = SeenIds(DAY_MS)
    admit(seen, ("a", start_ms), ("tick", start_ms + passed_ms))
    (again,) = admit(seen, ("a", start_ms + passed_ms))
    if passed_ms <= DAY_MS:
        assert not again
    if passed_ms >= 2 * DAY_MS:
        assert again


def test_an_id_admitted_again_is_remembered_again() -> None:
    seen = SeenIds(DAY_MS)
    admit(seen, ("a", 0), ("tick", 5 * DAY_MS))
    assert admit(seen, ("a", 5 * DAY_MS), ("a", 5 * DAY_MS)) == [True, False]


def test_the_table_grows_and_forgets() -> None:
    seen = SeenIds(1000)
    n = 20_000
    times = np.arange(n, dtype=np.int64)
    ids = [f"id{i}" for i in range(n)]
    is_new, watermarks = seen.admit(ids, times)
    assert is_new.all()
    assert watermarks.tolist() == times.tolist()
    for first in range(0, n, 1000):  # all again, a little later, piece by piece
        chunk = slice(first, first + 1000)
        again, _ = seen.admit(ids[chunk], np.full(1000, n - 1, dtype=np.int64))
        assert again.all() == (first < 18_000)
        assert again.any() == (first < 18_000)
    assert len(seen.snapshot()["seen_ids"]) == n


def test_late_events_do_not_move_the_watermark_back() -> None:
    seen = SeenIds(DAY_MS)
    _, watermarks = seen.admit(["a", "b", "c"], np.array([5, 3, 9], dtype=np.int64))
    assert watermarks.tolist() == [5, 5, 9]


def test_no_event_no_watermark() -> None:
    assert SeenIds(DAY_MS).watermark_ms is None


def reference_hash(text: str) -> int:
    mask = 2**64 - 1
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & mask
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h = ((h ^ (h >> 33)) * factor) & mask
    return h ^ (h >> 33)


@given(st.lists(st.text()))
def test_hashes_are_a_function_of_the_text_alone(texts: list[str]) -> None:
    assert hashes(texts).view(np.uint64).tolist() == [reference_hash(text) for text in texts]


def test_a_million_ids_do_not_collide() -> None:
    assert len(np.unique(hashes([f"trip-{i:07d}" for i in range(1_000_000)]))) == 1_000_000
