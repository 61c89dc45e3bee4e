"""Where in a features topic the events from an offset on stand."""

import pytest

from serving.inference.seeking import finder
from tests.serving.feature_stream import emit, new_pipeline

pytestmark = pytest.mark.broker


def test_nothing_from_the_offset_on_is_missed(bootstrap: str) -> None:
    topics = new_pipeline(bootstrap)
    # Gaps where events were dead letters, a stretch that a crash repeated, control records.
    sources = [*range(0, 40, 2), *range(20, 90, 2)]
    emit(bootstrap, topics, 0, sources, transactional_id=topics.name)
    emit(bootstrap, topics, 0, range(90, 100), transactional_id=topics.name)
    place, find = (topics.features, 0), finder(bootstrap)
    log = [*sources, None, *range(90, 100), None]  # by offset
    for wanted in (0, 1, 19, 20, 21, 39, 40, 55, 89, 90, 99):
        at = find(place, wanted, 0)
        after = {s for s in log[at:] if s is not None and s >= wanted}
        assert after == {s for s in log if s is not None and s >= wanted}
        assert at == 0 or min(s for s in log[at:] if s is not None) >= wanted - 20
    assert find(place, 100, 0) >= len(log) - 1  # behind it stands a control record at most
    assert find(place, 10, 30) == 30
