"""Each guardrail trips where it should, and not by chance."""

import numpy as np
import pytest

from serving.rollout.declared import Guardrails
from serving.rollout.guardrails import LEAST, Reading, readings
from serving.rollout.labelled import Labelled
from serving.rollout.rows import GROUP_VALUES, GroupCodes
from serving.rollout.sums import Comparison, latency_bins, latency_limit
from serving.rollout.trial import Trial
from streams.errors import DefinitionError
from tests.serving.rollout.made_rows import blurred, drawn, rows

N = 6_000
NAMES = [("sex", "f"), ("sex", "m")]


def shown(
    found: Comparison, rails: Guardrails | None = None, *, in_canary: bool = False
) -> dict[str, Reading]:
    """Return what is shown of pairs; of the arms of a canary without pairs."""
    trial = Trial(2, 1, 1, Labelled(1), share=0.5 if in_canary else 0.0)
    if in_canary:
        trial.arms = found
    else:
        trial.pairs = found
    result = readings(rails or Guardrails(psi=0.5), trial, NAMES, 1_200.0)
    return {reading.name: reading for reading in result}


def compared(
    challenger: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    live: np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None = None,
    slow: tuple[float, float] = (10.0, 10.0),
    seed: int = 1,
) -> Comparison:
    """Return answers to different events; ``slow`` is the mean latency of challenger and live."""
    rate, labels = drawn(2 * N, seed)
    told = rate if live is None else live
    draw = np.random.default_rng(seed + 100)
    found = Comparison()
    for scores, ms, is_challenger in ((challenger, slow[0], True), (told, slow[1], False)):
        part = slice(0, N) if is_challenger else slice(N, 2 * N)
        made = rows(
            scores[part], labels[part], latency_ms=draw.exponential(ms, N),
            groups=draw.integers(0, 2, (N, 1)), first=part.start,
        )  # fmt: skip
        found.add_arms(made, np.full(N, is_challenger))
    return found


def test_two_good_versions_trip_nothing() -> None:
    for seed in range(20):
        sums = compared(drawn(2 * N, seed)[0], seed=seed)
        found, arms = shown(sums), shown(sums, in_canary=True)
        assert [r for r in (*found.values(), *arms.values()) if r.tripped] == []
        assert set(found) == {"failures", "psi", "calibration", "fairness of sex"}
        assert set(arms) == {"failures", "latency_ratio", "calibration", "fairness of sex"}


def test_a_version_three_times_as_slow_trips_the_latency_and_one_a_little_slower_does_not() -> None:
    def slow(challenger: float, rails: Guardrails | None = None) -> dict[str, Reading]:
        return shown(compared(drawn(2 * N)[0], slow=(challenger, 10.0)), rails, in_canary=True)

    assert slow(30.0)["latency_ratio"].tripped
    assert not slow(13.0)["latency_ratio"].tripped
    assert slow(10.0, Guardrails(latency_ms=46.0, latency_ratio=None))["latency_ms"].limit == 46.0
    within = Guardrails(latency_ms=60.0, latency_ratio=None)
    assert slow(30.0, within)["latency_ms"].tripped
    assert not slow(10.0, within)["latency_ms"].tripped


def test_a_pause_that_hits_both_is_not_the_versions_fault() -> None:
    rate, labels = drawn(4_000)
    found = Comparison()
    for is_challenger, slow in ((True, 20), (False, 15)):
        ms = np.full(2_000, 5.0)
        ms[:slow] = 900.0  # a burst, a little more of which met the canary
        made = rows(rate[:2_000], labels[:2_000], latency_ms=ms)
        found.add_arms(made, np.full(2_000, is_challenger))
    assert not shown(found, in_canary=True)["latency_ratio"].tripped


def test_an_unknown_latency_is_not_judged() -> None:
    rate, labels = drawn(N)
    found = Comparison()
    made = rows(rate, labels)
    found.add_pairs(made, made)
    assert "latency_ratio" not in shown(found, in_canary=True)


def test_latencies_lie_within_a_fifth_of_their_bin() -> None:
    ms = np.array([0.0, 1.0, 7.0, 100.0, 2_345.0])
    limits = np.array([latency_limit(int(b)) for b in latency_bins(ms)])
    assert (ms < limits).all()
    assert (limits[1:] <= ms[1:] * 2**0.25 * 1.000001).all()


def test_scores_that_lie_elsewhere_trip_the_psi() -> None:
    rate = drawn(2 * N)[0]
    found = shown(compared(rate**3))
    assert found["psi"].tripped
    assert found["psi"].value > 0.5
    assert not shown(compared(blurred(rate, 0.2)))["psi"].tripped


def test_a_version_that_says_too_much_trips_the_calibration() -> None:
    rate = drawn(2 * N)[0]
    assert shown(compared(np.clip(rate * 1.4, 0, 0.99)))["calibration"].tripped
    assert not shown(compared(np.clip(rate * 1.05, 0, 0.99)))["calibration"].tripped
    # As far off as the live version: not its fault.
    off = np.clip(rate * 1.4, 0, 0.99)
    assert not shown(compared(off, off))["calibration"].tripped


def test_answers_that_cannot_be_scored_trip_at_once() -> None:
    rate, labels = drawn(60)
    broken = rate.copy()
    broken[:6] = np.nan
    found = Comparison()
    found.add_pairs(rows(broken, labels), rows(rate, labels))
    assert found.challenger.failures == 6
    assert found.live.failures == 0
    assert found.challenger.n == found.live.n == 54 < LEAST
    assert shown(found)["failures"].tripped


def test_a_group_that_is_served_badly_trips_the_fairness() -> None:
    rate, labels = drawn(N)
    group = np.arange(N)[:, None] % 2
    unfair = np.where(group[:, 0] == 1, blurred(rate, 2.0), rate)
    found = Comparison()
    found.add_pairs(rows(unfair, labels, groups=group), rows(rate, labels, groups=group))
    reading = shown(found)["fairness of sex"]
    assert reading.tripped
    assert reading.value > reading.limit
    assert not shown(found, Guardrails(fairness=0.9))["fairness of sex"].tripped


def test_values_of_groups_are_bounded() -> None:
    codes = GroupCodes()
    for number in range(200):
        codes.of({"city": f"c{number}"}, 1)
    assert len(codes.names) == GROUP_VALUES
    assert codes.of({"city": "c3", "sex": "x"}, 2) == [3, -1]
    assert codes.of(None, 2) == [-1, -1]


@pytest.mark.parametrize("change", [{"psi": 0.0}, {"failures": 1.0}, {"latency_ms": -1.0}])
def test_a_limit_that_makes_no_sense_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(DefinitionError):
        Guardrails(**change)
