"""One contract for all detectors."""

import json

import numpy as np
import pytest

from serving.concept.detector import Detector, Floats, alarms
from serving.concept.detectors import DETECTORS, detector_named
from streams.errors import DefinitionError

NAMES = sorted(DETECTORS)
RATE = 1e-6


def _errors(shares: list[tuple[int, float]], seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return np.concatenate([(rng.random(n) < share).astype(np.float64) for n, share in shares])


def _losses(shares: list[tuple[int, float]], seed: int = 0) -> Floats:
    """Log losses of scores that say .1 or so, where ``share`` are positive."""
    rng = np.random.default_rng(seed)
    n = sum(n for n, _ in shares)
    scores = rng.beta(2, 18, n)
    return -np.log(np.where(_errors(shares, seed) > 0, scores, 1 - scores))


STREAMS = {"errors": _errors, "losses": _losses}


def _pass_on(detector: Detector, name: str) -> Detector:
    """Return another detector that has what ``detector`` wrote down, as JSON and arrays."""
    content, arrays = detector.snapshot()
    after = detector_named(name, RATE)
    after.load(json.loads(json.dumps(content)), {k: v.copy() for k, v in arrays.items()})
    return after


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stream", STREAMS)
def test_a_rise_is_found_soon_and_its_onset_is_near(name: str, stream: str) -> None:
    values = STREAMS[stream]([(5_000, 0.1), (3_000, 0.3)])
    found = alarms(detector_named(name, RATE), values)

    assert len(found) == 1
    at, onset = found[0]
    assert 5_000 < at < 6_000
    assert abs(onset - 5_000) < 150


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stream", STREAMS)
def test_without_a_change_there_is_no_alarm(name: str, stream: str) -> None:
    for seed in range(2):
        assert alarms(detector_named(name, RATE), STREAMS[stream]([(30_000, 0.15)], seed)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_fall_is_no_alarm_and_a_rise_after_it_is(name: str) -> None:
    values = _errors([(3_000, 0.4), (6_000, 0.1), (2_000, 0.3)])
    found = alarms(detector_named(name, RATE), values)

    assert len(found) == 1
    assert 9_000 < found[0][0] < 10_000


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stream", STREAMS)
def test_cuts_between_updates_change_nothing(name: str, stream: str) -> None:
    values = STREAMS[stream]([(2_000, 0.1), (1_500, 0.4), (2_000, 0.9)])
    whole = alarms(detector_named(name, RATE), values)
    assert len(whole) >= 2

    detector, cut = detector_named(name, RATE), []
    begin, rng = 0, np.random.default_rng(3)
    while begin < len(values):
        piece = values[begin : begin + int(rng.integers(1, 700))]
        index = detector.update(piece)
        begin += len(piece) if index is None else index + 1
        if index is not None:
            cut.append((begin - 1, begin - detector.onset))
    assert cut == whole


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_down_goes_on_the_same(name: str) -> None:
    values = _losses([(2_000, 0.1), (1_500, 0.4)])
    whole = alarms(detector_named(name, RATE), values)

    before = detector_named(name, RATE)
    assert before.update(values[:2_010]) is None
    after = _pass_on(before, name)
    index = after.update(values[2_010:])
    assert index is not None
    assert (2_010 + index, 2_011 + index - after.onset) == whole[0]
    assert after.chance <= RATE
    assert _pass_on(after, name).onset == after.onset


@pytest.mark.parametrize("name", NAMES)
def test_the_rate_asked_for_moves_the_alarm(name: str) -> None:
    values = _errors([(5_000, 0.1), (5_000, 0.2)])
    delays = [alarms(detector_named(name, rate), values)[0][0] for rate in (1e-3, 1e-6, 1e-12)]

    assert delays == sorted(delays)
    assert delays[0] < delays[-1]


@pytest.mark.parametrize("name", NAMES)
def test_what_was_before_a_fall_is_not_looked_at(name: str) -> None:
    detector = detector_named(name, RATE)
    assert detector.update(_errors([(5_000, 0.5), (5_000, 0.1)])) is None
    assert detector.update(_errors([(2_000, 0.4)], seed=1)) is not None
    looked = detector.span - detector.onset  # at values from before the rise
    # Page-Hinkley forgets nothing: its sum just has farther to rise.
    assert looked == pytest.approx(10_000 if name == "page_hinkley" else 5_000, rel=0.05)


@pytest.mark.parametrize("stream", STREAMS)
def test_the_scan_keeps_the_rate_it_was_asked_for(stream: str) -> None:
    values = STREAMS[stream]([(400_000, 0.2)], 7)
    found = len(alarms(detector_named("scan", 1e-4), values))
    assert 5 <= found <= 40  # at most 40 are allowed, and one that never alarms is no use


@pytest.mark.parametrize("name", NAMES)
def test_a_higher_rate_does_not_bring_up_the_past(name: str) -> None:
    """Closings with few labels ask for more false alarms per label than those with many."""
    detector = detector_named(name, RATE)
    assert detector.update(_errors([(20_000, 0.2)], seed=3)) is None
    detector.rate = 1e-2
    assert detector.update(np.empty(0)) is None
    assert detector.span == 20_000
    detector.rate = 1e-4
    assert detector.update(np.tile([0.0, 0.0, 0.0, 0.0, 1.0], 5)) is None
    assert detector.span == 20_025


@pytest.mark.parametrize("name", NAMES)
def test_values_that_come_in_clumps_need_more_evidence(name: str) -> None:
    values = np.repeat(_errors([(1_500, 0.2)], seed=4), 40)
    assert alarms(detector_named(name, RATE), values)  # each error forty times: far from chance
    assert detector_named(name, RATE).update(values, dispersion=40.0) is None


def test_the_scan_needs_two_errors_after_none_and_says_how_sure_it_is() -> None:
    detector = detector_named("scan", RATE)
    assert detector.update(np.zeros(20_000)) is None
    assert detector.chance == 1.0
    assert detector.update(np.ones(5)) == 1
    assert detector.onset == 2
    assert detector.chance < RATE


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_a_constant_is_no_evidence(name: str, value: float) -> None:
    assert detector_named(name, RATE).update(np.full(2_000, value)) is None


@pytest.mark.parametrize("name", NAMES)
def test_nothing_new_changes_nothing(name: str) -> None:
    detector = detector_named(name, RATE)
    assert detector.update(_errors([(500, 0.2)])) is None
    span = detector.span
    assert detector.update(np.empty(0)) is None
    assert (detector.span, detector.chance) == (span, 1.0)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(DefinitionError, match="'adwin', 'page_hinkley'"):
        detector_named("kswin", RATE)
