"""The table of answers and labels against a plain one, whatever comes in which order."""

import numpy as np
import pytest

from serving.feedback import joining as tables
from serving.feedback.columns import NONE, Answered, answer_type
from serving.feedback.joining import Joining
from serving.feedback.names import Names

HOUR = 3_600_000


def answers(
    events: list[int], version: int = 1, definition: int = 1, times_ms: list[int] | None = None
) -> Answered:
    """Return answers to events, an hour apart from each other."""
    rows = np.zeros(len(events), answer_type(0))
    rows["event_time_ms"] = times_ms or [n * HOUR for n in events]
    rows["version"], rows["definition"], rows["features_offset"] = version, definition, events
    ids = [f"q{n}/{version}" for n in events]
    return Answered([f"e{n}" for n in events], [f"r{n % 5}" for n in events], ids, rows)


def label(joining: Joining, events: list[int], times_ms: list[int], partition: int = 0) -> None:
    """Add labels: the event's number."""
    joining.add_labels(
        [f"e{n}" for n in events],
        np.array(events, np.float64),
        np.array(times_ms, np.int64),
        partition,
        np.arange(len(events)),
    )


def restored(joining: Joining, within_ms: int) -> Joining:
    """Return the table that its snapshot gives."""
    made = Joining(within_ms)
    made.restore(joining.snapshot())
    return made


@pytest.mark.parametrize("seed", range(4))
def test_each_answer_is_matched_once_in_any_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers of three versions and labels, late ones too, in random batches; the table is saved
    and loaded, and compacted, now and then."""
    monkeypatch.setattr(tables, "_FIRST_ROWS", 8)
    random = np.random.default_rng(seed)
    n, within_ms = 200, 24 * HOUR
    delays = random.integers(-30, 30, n) * HOUR
    pieces: list[tuple[str, int, list[int]]] = []
    for kind, version in (("answer", 1), ("answer", 2), ("answer", 3), ("label", 0)):
        order = random.permutation(n)[: 180 if kind == "answer" else n]
        cuts = np.sort(random.integers(0, len(order), 12))
        pieces += [(kind, version, part.tolist()) for part in np.split(order, cuts)]
    joining, found, asked = Joining(within_ms), [], []
    for number in random.permutation(len(pieces)).tolist():
        kind, version, events = pieces[number]
        if kind == "answer":
            joining.add_answers(answers(events, version))
            asked += [f"q{e}/{version}" for e in events]
        else:
            label(joining, events, [e * HOUR + int(delays[e]) for e in events])
        matched = joining.take()
        assert matched.labels.tolist() == matched.rows["features_offset"].tolist()
        assert [f"e{int(each)}" for each in matched.labels] == matched.event_ids
        assert [f"r{int(each) % 5}".encode() for each in matched.labels] == matched.entities
        found += matched.own_ids
        if random.random() < 0.2:
            joining = restored(joining, within_ms)
    in_time = {e for e in range(n) if abs(delays[e]) <= within_ms}
    due = [own for own in asked if int(own[1:].split("/")[0]) in in_time]
    assert sorted(map(str, found)) == sorted(due)
    counts = joining.counts
    assert (counts.answers, counts.matched, len(joining)) == (len(asked), len(due), 0)
    assert counts.unlabelled == len(asked) - len(due)
    answered = {int(own[1:].split("/")[0]) for own in asked}
    assert counts.late == len(answered - in_time)


def test_what_nothing_can_match_is_let_go() -> None:
    """Memory follows the span of time, not the length of the log; a label stays for versions that
    answer later."""
    within_ms = 24 * HOUR
    joining, most = Joining(within_ms), 0
    for begin in range(0, 5_000, 20):
        events = list(range(begin, begin + 20))
        joining.add_answers(answers(events))
        label(joining, events[::2], [e * HOUR + HOUR for e in events[::2]])
        assert len(joining.take()) == 10
        joining.add_answers(answers(events[::2], version=2))
        assert len(joining.take()) == 10
        joining.expire(begin * HOUR)
        most = max(most, joining.events)
    assert most < 100
    assert len(joining) < 40
    assert joining.nbytes < 200_000
    counts = joining.counts
    assert counts.matched == 5_000
    assert counts.unlabelled + len(joining) == 2_500


def test_labels_that_nobody_answered_are_unknown_once_time_has_passed() -> None:
    joining = Joining(24 * HOUR)
    label(joining, [1, 2], [HOUR, 2 * HOUR])
    joining.add_answers(answers([2]))
    joining.take()
    joining.expire(20 * HOUR)
    assert joining.counts.unknown == 0
    joining.expire(60 * HOUR)
    assert (joining.counts.unknown, joining.events) == (1, 0)


def test_groups_are_those_of_the_answers_definition() -> None:
    """Definition 2 waits for one of two fields; definition 1 for none."""
    joining = Joining(24 * HOUR, groups=2, needs={1: [], 2: [1]})
    joining.add_answers(answers([1], version=1, definition=1))
    joining.add_answers(answers([1], version=2, definition=2))
    label(joining, [1], [HOUR])
    assert joining.take().rows["version"].tolist() == [1]
    joining.add_groups(["e1"], np.array([HOUR]), [0], np.array([[5]]))
    assert len(joining.take()) == 0
    joining.add_groups(["e1"], np.array([HOUR]), [1], np.array([[6]]))
    matched = joining.take()
    assert matched.rows["version"].tolist() == [2]
    assert matched.groups.tolist() == [[NONE, 6]]


def test_groups_stay_until_the_answer_comes() -> None:
    """Of an event that has been featurised and not answered yet, nothing is let go."""
    joining = Joining(24 * HOUR, groups=1, needs={1: [0]})
    joining.add_groups(["e10"], np.array([10 * HOUR]), [0], np.array([[5]]))
    joining.take()
    assert joining.expire(10 * HOUR)
    joining.add_answers(answers([10]))
    label(joining, [10], [11 * HOUR])
    assert joining.take().groups.tolist() == [[5]]


def test_texts_are_found_again_by_their_numbers() -> None:
    names = Names()
    numbers = names.of(["b", "", "ä€", "b", "a" * 300])
    assert numbers.tolist() == [0, 1, 2, 0, 3]
    assert names.texts(numbers[::-1]) == ["a" * 300, "b", "ä€", "", "b"]
    names.keep(np.array([1, 3]))
    assert names.texts(np.array([1, 0])) == ["a" * 300, ""]
    assert names.of(["ä€", ""]).tolist() == [2, 0]
