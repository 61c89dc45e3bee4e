"""What is lost, twice or torn is found, each by its own number."""

from dataclasses import replace

import numpy as np
import pytest

from serving.auditing.deliveries import Deliveries, Seen, check, tag

EVENTS = {0: (0, 4), 1: (10, 12)}
GOOD = Deliveries(
    events=6, predictions=6, lost=0, twice=0, torn=0, foreign=0, repeated_ids=0, disordered=0,
    transactions=2,
)  # fmt: skip


def seen(*answers: tuple[int, int, str]) -> Seen:
    """Return answers by (partition, offset, transaction)."""
    return Seen(
        np.array([partition for partition, _, _ in answers], np.int64),
        np.array([offset for _, offset, _ in answers], np.int64),
        [f"f-{partition}-{offset}-v1" for partition, offset, _ in answers],
        [transaction or None for _, _, transaction in answers],
    )


def zero(*offsets: int, transaction: str = "") -> Seen:
    return seen(*((0, offset, transaction) for offset in offsets))


def one(*offsets: int, transaction: str = "") -> Seen:
    return seen(*((1, offset, transaction) for offset in offsets))


FIRST = [(0, 0, "a:4"), (0, 1, "a:4"), (0, 2, "b:2"), (0, 3, "b:2")]
SECOND = [(1, 10, "a:4"), (1, 11, "a:4")]


def test_each_once_in_whole_transactions() -> None:
    found = check([seen(*FIRST), seen(*SECOND)], EVENTS)
    assert found == GOOD
    assert found.exactly_once


def test_an_event_without_an_answer_is_lost() -> None:
    found = check([zero(0, 1, 3), one(10, 11)], EVENTS)
    assert (found.lost, found.twice, found.exactly_once) == (1, 0, False)


def test_nothing_answered_is_all_lost() -> None:
    assert check([], EVENTS).lost == 6


def test_answers_beyond_the_first_are_twice() -> None:
    found = check([zero(0, 1, 2, 1, 2, 2, 3), one(10, 11)], EVENTS)
    assert (found.lost, found.twice, found.repeated_ids) == (0, 3, 3)
    assert found.disordered == 0  # as the first answers stand in order
    assert not found.exactly_once


def test_a_loss_and_a_double_do_not_cancel() -> None:
    found = check([zero(0, 1, 1, 3), one(10, 11)], EVENTS)
    assert (found.predictions, found.lost, found.twice) == (6, 1, 1)


def test_a_transaction_seen_in_part_is_torn() -> None:
    torn = check([seen(*FIRST[1:]), seen(*SECOND)], EVENTS)
    assert (torn.torn, torn.transactions) == (1, 2)
    assert not torn.exactly_once


def test_a_transaction_is_whole_over_partitions_or_torn() -> None:
    assert check([seen(*FIRST)], {0: (0, 4)}).torn == 1


def test_more_than_a_transaction_has_is_torn() -> None:
    doubled = check([seen(*FIRST, FIRST[0]), seen(*SECOND)], EVENTS)
    assert (doubled.torn, doubled.twice) == (1, 1)


@pytest.mark.parametrize("partition", [0, 9])
def test_an_answer_to_no_event_is_foreign(partition: int) -> None:
    found = check([seen(*FIRST, (partition, 77, "")), seen(*SECOND)], EVENTS)
    assert found == replace(GOOD, predictions=7, foreign=1)
    assert not found.exactly_once


def test_an_answer_behind_that_of_a_later_event_is_disordered() -> None:
    found = check([zero(0, 2, 1, 3), one(10, 11)], EVENTS)
    assert (found.disordered, found.lost, found.twice) == (1, 0, 0)
    assert not found.exactly_once


def test_the_same_id_for_two_events_is_told() -> None:
    part = zero(0, 1, 2, 3)
    found = check([replace(part, ids=["x", "x", "y", "z"]), one(10, 11)], EVENTS)
    assert (found.repeated_ids, found.twice, found.exactly_once) == (1, 0, False)


def test_the_header_of_a_transaction() -> None:
    assert tag("w0-7-1", 30) == ("kappa-transaction", b"w0-7-1:30")
