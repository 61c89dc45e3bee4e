"""The collector passes over what stays, and still finds what is garbage later."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from streams.collector import rare_collections, spare_what_stays


class Node:
    """Refers to itself, so that only the collector can free it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_what_stays_is_not_looked_at_and_garbage_still_goes() -> None:
    before = weakref.ref(Node())
    spare_what_stays()
    assert before() is None
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects()) < 1_000
    after = [weakref.ref(Node()) for _ in range(10)]
    gc.collect()
    assert [node() for node in after] == [None] * 10


def test_rare_collections_end_as_they_began() -> None:
    gc.unfreeze()  # what other tests of this process may have left
    gc.set_threshold(700, 10, 10)
    thresholds = gc.get_threshold()
    with rare_collections():
        assert gc.get_threshold()[0] > thresholds[0]
        assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0
