"""The state of a partition moves to where it is asked, on a real broker."""

from dataclasses import replace
from pathlib import Path

import pytest

from features.records import FeatureCodec, FeatureRows
from serving.inference.histories import HistoryKeeper, HistorySource
from serving.inference.stretches import Place, Position
from streams.topics import Topics
from tests.serving.feature_stream import DEFINITION, EVENTS, new_pipeline
from tests.serving.history_stream import HashModel, emit, expected, history_rows, with_repeats

pytestmark = pytest.mark.broker
LAST = 10


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    return new_pipeline(bootstrap)


def keeper(
    bootstrap: str, topics: Topics, home: Path, save_records: int = 1 << 40
) -> HistoryKeeper:
    codec = FeatureCodec(DEFINITION, EVENTS)
    source = HistorySource(topics.features, codec, 1, 1, DEFINITION.hash(EVENTS, None))
    return HistoryKeeper(bootstrap, {1: source}, home / "histories")


def answers(
    of: HistoryKeeper, place: Place, begin: Position, rows: FeatureRows, last: int = LAST
) -> dict[str, float]:
    numbers = of.look(place, begin, rows, last)
    new = numbers >= 0
    scores = HashModel(last)(of.histories(place, numbers[new], last)).tolist()
    ids = [event for event, is_new in zip(rows.event_ids, new, strict=True) if is_new]
    return dict(zip(ids, scores, strict=True))


def some(wanted: dict[str, float], begin: int, end: int) -> dict[str, float]:
    return {f"e0-{i}": wanted[f"e0-{i}"] for i in range(begin, end)}


def test_it_stands_where_it_is_asked_forwards_backwards_and_deeper(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    emit(bootstrap, topics, 0, list(range(400)))
    place, wanted = (topics.features, 0), expected(0, 400, LAST)
    of = keeper(bootstrap, topics, tmp_path)
    for begin in (100, 300, 50):
        rows = history_rows(0, list(range(begin, begin + 40)))
        found = answers(of, place, Position(begin, begin - 1), rows)
        assert found == some(wanted, begin, begin + 40)
        of.confirm({place: Position(begin + 40)})
    deeper = answers(of, place, Position(90, 89), history_rows(0, list(range(90, 120))), 25)
    assert deeper == some(expected(0, 400, 25), 90, 120)


def test_a_stretch_that_comes_once_more_is_counted_where_it_is_answered(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    sources = [*range(60), *range(40, 60), *range(50, 80)]
    emit(bootstrap, topics, 0, sources)
    place, wanted = (topics.features, 0), expected(0, 80, LAST)
    for offset in (65, 75, 84):  # a cut-over begins in the second or third writing of a stretch
        first = sources[offset]
        rows = history_rows(0, sources[offset:])
        of = keeper(bootstrap, topics, tmp_path / str(offset))
        assert answers(of, place, Position(offset, first - 1), rows) == some(wanted, first, 80)
        unknown = keeper(bootstrap, topics, tmp_path / f"{offset} unknown")
        assert answers(unknown, place, Position(offset), rows) == some(wanted, first, 80)


def test_snapshots_bound_the_reading_and_are_never_believed_wrongly(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    emit(bootstrap, topics, 0, with_repeats(0, 300, 1))
    place, wanted = (topics.features, 0), expected(0, 300, LAST)
    sources = with_repeats(0, 300, 1)
    half = sources.index(150)
    first = keeper(bootstrap, topics, tmp_path)
    rows, end = history_rows(0, sources[half : half + 20]), sources[half + 19]
    found = answers(first, place, Position(half, 149), rows)
    path = tmp_path / "histories-v1" / "partition-0.snapshot"
    again = keeper(bootstrap, topics, tmp_path)
    first.close()
    assert again.opened(place, half + 30, None, LAST).next_offset == half, "not confirmed yet"
    first.confirm({place: Position(half + 20, end)})
    first.close()
    assert again.opened(place, half + 30, None, LAST).next_offset == half + 20
    assert again.opened(place, half, None, LAST).next_offset == 0, "it is of later"
    assert again.opened(place, half + 30, None, LAST + 5).next_offset == 0, "it is too shallow"
    other = keeper(bootstrap, topics, tmp_path)
    other._sources[topics.features] = replace(other._sources[topics.features], maker="another")
    assert other.opened(place, half + 30, None, LAST).next_offset == 0
    assert not path.exists()
    assert found.items() <= wanted.items()
