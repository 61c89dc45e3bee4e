"""The fold: what counts where, however the log is cut, and what a snapshot keeps."""

from pathlib import Path

import numpy as np
import pytest

from serving.rollout.declared import RolloutPolicy
from serving.rollout.ladder import Ladder
from serving.rollout.pairing import WAITING, Pairing, keys_of
from serving.rollout.trial import Trial
from streams.wire import (
    Activated,
    Arm,
    ModelEvent,
    Outcome,
    Registered,
    Routing,
    Source,
    Stage,
    StageChanged,
)
from tests.serving.rollout.made_rows import DAY_MS, drawn, rows
from training.networks.tasks import Binary, MultiClass, Regression, Task

SIDES: list[tuple[int, Stage]] = [(1, "live"), (2, "shadow")]
BEGINNING: list[ModelEvent] = [
    Registered(1, "c1", "", "", {}, {}, None),
    Registered(2, "c2", "", "", {}, {}, None),
    StageChanged(1, "live", "first", change=1),
    StageChanged(2, "shadow", "next", since={"0": 10}, by="trainer", change=2),
]


def ladder(task: Task | None = None, metric: str = "log_loss") -> Ladder:
    made = Ladder(RolloutPolicy(metric=metric), task or Binary(), 1)
    made.follow(BEGINNING)
    return made


def outcome(
    number: int, version: int, stage: Stage, score: float = 0.3, label: float = 0.0,
    definition: int = 1, **parts: object,
) -> Outcome:  # fmt: skip
    return Outcome(
        f"p{number}-{version}", f"e{number}", f"r{number % 7}", score, label, version, stage,
        definition, number * 60_000, number * 60_000 + 5, Source(0, 0), None, number, 0,
        **parts,  # type: ignore[arg-type]
    )  # fmt: skip


def both(numbers: range) -> list[Outcome]:
    return [
        answer
        for n in numbers
        for answer in (
            outcome(n, 1, "live", 0.3 + n % 3 / 10, float(n % 2), groups={"sex": "fm"[n % 2]}),
            outcome(n, 2, "shadow", 0.2 + n % 5 / 10, float(n % 2), groups={"sex": "fm"[n % 2]}),
        )
    ]


def test_the_answers_to_one_event_are_paired_whichever_comes_first() -> None:
    fold = ladder()
    fold.fold([outcome(n, 2, "shadow", 0.2) for n in range(10, 20)])
    fold.fold([outcome(n, 1, "live", 0.4) for n in range(15, 25)])
    pairs = fold.trials[2].pairs
    assert (pairs.challenger.n, pairs.live.n) == (5, 5)
    difference = pairs.difference().mean
    assert difference == pytest.approx(-np.log(0.8) + np.log(0.6))


def test_what_does_not_belong_to_it_is_not_counted() -> None:
    fold = ladder()
    fold.fold(
        [
            *both(range(10)),  # before it was in shadow
            *(outcome(n, 1, "live", definition=2) for n in range(10, 20)),
            *(outcome(n, 2, "shadow", definition=2) for n in range(10, 20)),
            *(outcome(n, 3, "live") for n in range(20, 30)),  # of another live version
            *(outcome(n, 2, "shadow") for n in range(20, 30)),
        ]
    )
    assert fold.trials[2].pairs.live.n == 0


def _sums(trial: Trial) -> list[bytes]:
    arms = (trial.pairs.challenger, trial.pairs.live, trial.arms.challenger, trial.arms.live)
    arrays = [a for arm in arms for a in (arm.sums, arm.groups, arm.scores, arm.latency)]
    return [array.tobytes() for array in (*arrays, trial.pairs.cross)]


def test_how_the_log_is_cut_changes_no_bit() -> None:
    told = both(range(10, 400))
    whole, cut = ladder(), ladder()
    whole.fold(told)
    sizes = np.random.default_rng(3).integers(1, 40, 200)
    at = 0
    for size in sizes.tolist():
        cut.fold(told[at : at + size])
        at += size
    assert at >= len(told)
    assert _sums(whole.trials[2]) == _sums(cut.trials[2])
    assert whole.trials[2].labelled.share() == cut.trials[2].labelled.share()
    assert whole.trials[2].pairs.edges is not None


def test_a_canarys_answers_count_from_where_its_routing_answered() -> None:
    fold = ladder()
    routing = Routing(1, "s", (Arm(2, "canary", 0.1),))
    fold.follow(
        [
            StageChanged(2, "canary", "good", share=0.1, salt="s", by="policy", change=3),
            Activated(1, "live", "w", {"0": 100}, routing, 1),
        ]
    )
    trial = fold.trials[2]
    assert (trial.stage, trial.share, trial.begins) == ("canary", 0.1, {0: 100})
    fold.fold(
        [
            *(outcome(n, 1, "live") for n in range(90, 110)),
            *(outcome(n, 2, "canary") for n in range(95, 115)),
        ]
    )
    assert (trial.arms.live.n, trial.arms.challenger.n) == (10, 15)
    assert sum(trial.entity_counts) == 7
    fold.follow([StageChanged(2, "canary", "good", share=0.5, salt="s", by="policy", change=4)])
    trial = fold.trials[2]
    assert (trial.arms.live.n, trial.begins, trial.elapsed_ms) == (0, {}, 0)
    fold.fold([outcome(n, 1, "live") for n in range(110, 120)])
    assert trial.arms.live.n == 0  # nobody has said where it begins


def test_another_live_version_begins_the_comparison_anew() -> None:
    fold = ladder()
    fold.fold(both(range(10, 20)))
    assert fold.trials[2].pairs.live.n == 10
    fold.follow(
        [
            Registered(3, "c3", "", "", {}, {}, None),
            StageChanged(3, "live", "by hand", by="operator", change=3),
        ]
    )
    assert (fold.trials[2].live, fold.trials[2].pairs.live.n) == (3, 0)


def test_one_that_was_live_and_is_kept_in_shadow_for_comparison_is_not_on_its_way() -> None:
    fold = ladder()
    fold.follow(
        [
            StageChanged(1, "shadow", "for comparison", since={"0": 0}, by="conductor", change=3),
            StageChanged(2, "live", "better", by="policy", change=4),
        ]
    )
    assert fold.rollout.stages == {1: "shadow", 2: "live"}
    assert fold.trials == {}
    fold.follow([StageChanged(1, "shadow", "again", since={"0": 90}, by="operator", change=5)])
    assert list(fold.trials) == [1], "the operator wants to know"


def test_a_version_that_is_done_is_forgotten() -> None:
    fold = ladder()
    fold.follow([StageChanged(2, "rolled_back", "worse", by="policy", change=3)])
    assert fold.trials == {}
    fold.fold(both(range(10, 20)))  # costs nothing


def test_a_change_that_did_not_count_makes_nobody_the_owner() -> None:
    fold = ladder()
    fold.follow([StageChanged(2, "shadow", "late", since={}, by="operator", change=2)])
    assert fold.owners[2] == "trainer"


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
def test_several_classes(metric: str) -> None:
    fold = ladder(MultiClass(("a", "b", "c")), metric)
    told = [
        outcome(n, version, stage, 0.5, 1.0, probabilities={"a": 0.2, "b": 0.5, "c": 0.3})
        for n in range(10, 30)
        for version, stage in SIDES
    ]
    missing = outcome(40, 2, "shadow", 0.5, 1.0, probabilities={"a": 1.0})
    fold.fold([*told, outcome(40, 1, "live", 0.5, 1.0, probabilities=told[0].probabilities)])
    fold.fold([missing])
    arm = fold.trials[2].pairs.challenger
    expected = -np.log(0.5) if metric == "log_loss" else 0.04 + 0.25 + 0.09
    assert arm.loss().mean == pytest.approx(expected)
    assert arm.failures == 1


def test_a_regression_by_its_density() -> None:
    fold = ladder(Regression(), "crps")
    fold.fold(
        [
            outcome(n, version, stage, 5.0, 5.0 + n % 2, spread=1.0)
            for n in range(10, 30)
            for version, stage in SIDES
        ]
    )
    assert 0.2 < fold.trials[2].pairs.challenger.loss().mean < 0.7


def test_what_waits_for_its_pair_is_bounded() -> None:
    rate, labels = drawn(WAITING + 100)
    pairing = Pairing()
    numbers = np.arange(len(rate))
    keys = keys_of(np.zeros_like(numbers), numbers)
    assert pairing.match(keys, np.zeros(len(rate), bool), rows(rate, labels)) is None
    assert len(pairing.live) == WAITING
    late = slice(50, 150)
    found = pairing.match(keys[late], np.ones(100, bool), rows(rate[late], labels[late]))
    assert found is not None
    assert len(found[0]) == 50  # the others were given up
    np.testing.assert_array_equal(found[0].loss, found[1].loss)


@pytest.mark.broker
def test_a_snapshot_keeps_everything(bootstrap: str, tmp_path: Path) -> None:
    from serving.rollout.saving import RolloutSnapshots
    from streams.topics import Topics, ensure_topics

    topics = Topics("tsnap")
    ensure_topics(bootstrap, topics.specs(1))
    before, after = ladder(), ladder()
    routing = Routing(1, "s", (Arm(2, "canary", 0.1),))
    events: list[ModelEvent] = [
        StageChanged(2, "canary", "good", share=0.1, salt="s", by="policy", change=3),
        Activated(1, "live", "w", {"0": 100}, routing, 1),
    ]
    before.follow(events)
    told = [*both(range(10, 300)), *(outcome(n, 2, "canary") for n in range(300, 350))]
    before.fold([*told, *(outcome(n, 1, "live") for n in range(350, 380))])
    store = RolloutSnapshots(tmp_path, bootstrap, topics.outcomes, before)
    store.save(before, {0: 123}, 700)
    after.trials = {}
    after.pairing = {}
    assert store.load(after) == ({0: 123}, 700)
    after.follow(events)
    one, other = before.trials[2], after.trials[2]
    assert _sums(one) == _sums(other)
    assert one.entities == other.entities
    assert one.labelled.bins == other.labelled.bins
    assert repr(before.pairing[2]) == repr(after.pairing[2])  # unknown latencies are NaN
    assert before.codes.names == after.codes.names == [("sex", "f"), ("sex", "m")]
    assert (one.elapsed_ms, one.begins, one.since) == (other.elapsed_ms, other.begins, other.since)
    more = both(range(380, 450))
    before.fold(more)
    after.fold(more)
    assert _sums(one) == _sums(other)
    other_metric = Ladder(RolloutPolicy(metric="brier"), Binary(), 1)
    again = RolloutSnapshots(tmp_path, bootstrap, topics.outcomes, other_metric)
    assert again.load(other_metric) == ({}, 0)


def test_labels_are_counted_by_bins_of_event_time() -> None:
    fold = ladder()
    day = DAY_MS // 60_000
    fold.fold([outcome(n, 1, "live") for n in range(10, 3 * day, 4)])
    share, of = fold.trials[2].labelled.share()
    assert share == pytest.approx(0.25, abs=0.01)
    assert of > 2 * day
