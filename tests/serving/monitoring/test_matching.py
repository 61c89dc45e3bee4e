from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.monitoring.matching import Matcher, Matches
from serving.monitoring.orphans import Patience
from streams.errors import StateError

HORIZON = 10_000
PATIENCE = Patience(step_ms=10, grace_ms=20)


@dataclass
class Table:
    """A matcher whose matches are collected as readable tuples."""

    matcher: Matcher
    found: list[tuple[float, float, int, int, int]]

    @classmethod
    def new(cls, groups: int = 0) -> "Table":
        return cls(Matcher(groups, HORIZON, PATIENCE), [])

    def answers(self, *ids: str, at: int = 100, version: int = 1) -> None:
        n = len(ids)
        scores = np.array([len(i) / 10 for i in ids])
        self.matcher.add_answers(list(ids), scores, np.full(n, version), np.full(n, at))
        self._collect()

    def groups(self, *ids: str, code: int = 0, at: int = 100) -> None:
        codes = np.full((len(ids), 1), code)
        self.matcher.add_groups(list(ids), codes, np.full(len(ids), at))
        self._collect()

    def labels(self, *ids: str, at: int = 200, offset: int = 0, partition: int = 0) -> list[bool]:
        n = len(ids)
        labels = np.array([float(len(i) % 2) for i in ids])
        offsets = np.arange(offset, offset + n)
        duplicates = self.matcher.add_labels(list(ids), labels, np.full(n, at), partition, offsets)
        self._collect()
        return [bool(d) for d in duplicates]

    def _collect(self) -> None:
        self.found += _tuples(self.matcher.take_matches())


def _tuples(matches: Matches) -> list[tuple[float, float, int, int, int]]:
    code = matches.groups[:, 0] if matches.groups.shape[1] else np.full(len(matches), -1)
    return list(
        zip(
            matches.scores.tolist(),
            matches.labels.tolist(),
            matches.label_times_ms.tolist(),
            matches.versions.tolist(),
            code.tolist(),
            strict=True,
        )
    )


@pytest.mark.parametrize("label_first", [True, False])
def test_answer_and_label_meet_whichever_comes_first(label_first: bool) -> None:
    table = Table.new()
    steps: list[Callable[[], object]] = [
        lambda: table.answers("aaa", version=4),
        lambda: table.labels("aaa", at=250),
    ]

    for step in reversed(steps) if label_first else steps:
        step()

    assert table.found == [(0.3, 1.0, 250, 4, -1)]


def test_with_groups_a_match_waits_for_the_events_group() -> None:
    table = Table.new(groups=1)
    table.answers("a")
    table.labels("a")
    assert table.found == []

    table.groups("a", code=7)

    assert table.found == [(0.1, 1.0, 200, 1, 7)]


def test_a_match_counts_once_however_often_its_parts_are_read() -> None:
    table = Table.new(groups=1)
    for _ in range(3):
        table.groups("a", "bb")
        table.answers("a", "bb")
        assert table.labels("a", "bb", offset=5) == [False, False]

    assert len(table.found) == 2


def test_a_second_label_is_a_duplicate_and_the_first_counts() -> None:
    table = Table.new()
    table.answers("a", "bb")

    assert table.labels("a", "bb", "a", at=200, offset=3) == [False, False, True]
    assert table.labels("bb", at=300, offset=9) == [True]
    assert [row[2] for row in table.found] == [200, 200]


def test_a_second_answer_changes_nothing() -> None:
    table = Table.new()
    table.answers("a", "a", version=1)
    table.answers("a", version=2)
    table.labels("a")

    assert [row[3] for row in table.found] == [1]


def test_a_label_without_an_event_becomes_an_orphan_after_the_grace() -> None:
    table = Table.new()
    table.answers("a")
    table.labels("x", "a", "y", at=200, offset=10, partition=2)

    assert table.matcher.expire(end_ms=210) == []
    orphans = table.matcher.expire(end_ms=220)

    assert [(o.event_id, o.partition, o.offset) for o in orphans] == [("x", 2, 10), ("y", 2, 12)]
    assert table.matcher.expire(end_ms=300) == []


def test_a_label_whose_event_was_seen_is_no_orphan_while_its_answer_is_late() -> None:
    table = Table.new(groups=1)
    table.groups("a")
    table.labels("a")

    assert table.matcher.expire(end_ms=5_000) == []
    table.answers("a")

    assert len(table.found) == 1


def test_what_is_older_than_the_horizon_is_forgotten() -> None:
    table = Table.new()
    table.answers("old", at=100)
    table.answers("new", at=19_000)

    table.matcher.expire(end_ms=20_000)

    assert len(table.matcher) == 1
    table.labels("old", "new", at=20_000)
    assert len(table.found) == 1
    assert [o.event_id for o in table.matcher.expire(20_500)] == ["old"]


def test_many_ids_grow_the_table() -> None:
    table = Table.new()
    ids = [f"e{i}" for i in range(5_000)]
    table.labels(*ids)
    table.answers(*ids)

    assert len(table.found) == 5_000


IDS = st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), max_size=5)


@given(IDS, IDS, IDS, st.permutations(range(3)), st.booleans())
def test_interleaving_batch_cuts_and_restarts_change_nothing(
    answered: list[str], labelled: list[str], seen: list[str], order: list[int], restart: bool
) -> None:
    whole, cut = Table.new(groups=1), Table.new(groups=1)
    whole.groups(*seen)
    whole.answers(*answered)
    duplicates = whole.labels(*labelled)

    cut_duplicates: dict[int, bool] = {}
    for which in order:
        for i, event_id in enumerate([seen, answered, labelled][which]):
            if which == 0:
                cut.groups(event_id)
            elif which == 1:
                cut.answers(event_id)
            else:
                cut_duplicates[i] = cut.labels(event_id, offset=i)[0]
            if restart:
                cut.matcher = Matcher.restore(1, HORIZON, PATIENCE, cut.matcher.snapshot())

    assert sorted(cut.found) == sorted(whole.found)
    assert [cut_duplicates[i] for i in range(len(labelled))] == duplicates


def test_matches_not_taken_can_not_be_saved() -> None:
    matcher = Matcher(0, HORIZON, PATIENCE)
    matcher.add_answers(["a"], np.array([0.5]), np.array([1]), np.array([100]))

    with pytest.raises(StateError, match="take them first"):
        matcher.snapshot()


def test_a_label_from_before_its_event_counts_from_the_event_on() -> None:
    matcher = Matcher(0, HORIZON, Patience(step_ms=1_000, grace_ms=1_600))
    times = np.array([2_000, 2_000])
    matcher.add_labels(["a", "b"], np.array([1.0, 0.0]), np.array([500, 3_000]), 0, np.arange(2))
    matcher.add_answers(["a", "b"], np.array([0.5, 0.5]), np.ones(2, np.int64), times)

    assert matcher.take_matches().label_times_ms.tolist() == [2_000, 3_000]


@pytest.mark.parametrize("ids", [["a", "bb", "c"], ["ä", "ö🚲", "c"]], ids=["ascii", "not ascii"])
@pytest.mark.parametrize("twice", [False, True])
def test_rows_are_those_of_their_ids_after_a_restart(ids: list[str], twice: bool) -> None:
    matcher = Matcher(0, HORIZON, PATIENCE)
    batch = [ids[0], *ids] if twice else ids  # an id that is there twice leaves a row unused
    scores = np.arange(len(batch)) / 10
    matcher.add_answers(batch, scores, np.ones(len(batch), np.int64), np.full(len(batch), 100))
    matcher.take_matches()

    again = Matcher.restore(0, HORIZON, PATIENCE, matcher.snapshot())
    again.add_labels([ids[2]], np.array([1.0]), np.array([200]), 0, np.array([0]))

    assert again.take_matches().scores.tolist() == [scores[-1]]
    assert len(again) == 3


@pytest.mark.parametrize("ahead", [False, True], ids=["in order", "read ahead"])
def test_a_label_long_before_its_event_is_an_orphan_however_far_reading_is(ahead: bool) -> None:
    table = Table.new(groups=1)

    def event() -> None:
        table.groups("a", at=230)
        table.answers("a", at=230)

    table.labels("a", at=200, offset=7)  # its time is up at 220
    if ahead:
        event()
    assert table.matcher.expire(210) == []
    assert [orphan.offset for orphan in table.matcher.expire(220)] == [7]
    if not ahead:
        event()
    assert table.found == []
    table.labels("a", at=240, offset=8)
    assert [found[2] for found in table.found] == [240]
