"""Every aggregation against the oracle: random logs of events and labels, cut and restored."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from features.aggregations import Count, DistinctCount, Mean, Quantile, TopShare, Variance
from features.definition import Definition, Feature
from features.engine import sweeps
from features.engine.columns import EventDecoder
from features.engine.engine import FeatureEngine, Processed
from features.records import FeatureCodec
from streams.errors import StateError
from streams.expressions import Value
from tests.features.engine.test_engine import as_dicts, assert_equal_arrays
from tests.features.oracle import Oracle, Row, texts
from tests.features.rides import RIDES, START_MS, log_of, ride
from tests.features.verdicts import (
    KNOWN,
    ONE_KEY,
    SPOT_VERDICTS,
    TRIPS,
    TWO_KEYS,
    VERDICTS,
    Rekeyed,
    run,
    stretches,
    verdict,
)

SKETCHED = (DistinctCount, Quantile, TopShare)

PRICE, COST = Value("price"), Value("cost")

Values = list[bytes | None]
Case = tuple[Values, Values, NDArray[np.int64]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Events, labels, and what of these was applied before each event."""
    events: Values = []
    at_s = draw(st.sampled_from([0.0, -3_000_000.0]))
    quarter = st.integers(1, 40).map(lambda quarters: quarters / 4)
    step = st.sampled_from([0, 0.25, 1, 3, 7.5, 30, 100])
    back = st.sampled_from([0, 0, 0, 0.5, 5, 12, 12.001, 13, 20, 60, 4000])
    rider, spot = st.sampled_from(["ann", "bob"]), st.sampled_from(["a", "b", ""])
    for n in range(draw(st.integers(0, 25))):
        at_s += draw(step)
        number = draw(st.integers(0, n)) if draw(st.integers(0, 6)) == 0 else n
        zone = draw(st.sampled_from([None, "north", "south"]))
        events.append(
            ride(
                number,
                at_s - draw(back),
                rider=draw(rider),
                price=draw(st.none() | quarter),
                stops=draw(st.integers(0, 5)),
                zone=zone,
                bike=draw(st.integers(1, 5)),
                spot=draw(spot),
            )
            if draw(st.integers(0, 12))
            else b"junk"
        )
    labels: Values = []
    about_s = at_s - draw(st.sampled_from([0, 50, 200]))
    for n in range(draw(st.integers(0, 20))):
        about_s += draw(step) - draw(st.sampled_from([0, 0, 0, 9, 70]))
        number = draw(st.integers(0, n)) if draw(st.integers(0, 6)) == 0 else n
        cost = draw(st.none() | quarter)
        labels.append(
            verdict(number, about_s, rider=draw(rider), cost=cost, spot=draw(spot))
            if draw(st.integers(0, 12))
            else b'{"ride":7}'
        )
    n = len(events)
    offsets = st.lists(st.integers(0, len(labels)), min_size=n, max_size=n)
    return events, labels, 2 * np.array(sorted(draw(offsets)), dtype=np.int64)


def told(oracle: Oracle, events: Values, labels: Values, seen: NDArray[np.int64]) -> dict[int, Row]:
    """Return offset → row as the oracle says."""
    expected: dict[int, Row] = {}
    applied = 0
    for i, value in enumerate(events):
        while applied < len(labels) and 2 * applied < seen[i]:
            oracle.take_label(labels[applied])
            applied += 1
        row = oracle.take(value)
        if row is not None:
            expected[2 * i] = row
    return expected


@pytest.fixture(params=[1, sweeps.FEWEST], ids=["swept", "unswept"], scope="module")
def fewest(request: pytest.FixtureRequest) -> Iterator[int]:
    """After how many events at least entities are given up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeps, "FEWEST", request.param)
        yield request.param


@settings(deadline=None, max_examples=80)
@given(cases())
def test_every_value_is_what_the_oracle_says(fewest: int, case: Case) -> None:
    events, labels, seen = case
    engine = FeatureEngine(ONE_KEY, RIDES, VERDICTS)
    processed = engine.process(log_of(events), log_of(labels), seen)
    expected = told(Oracle(ONE_KEY, RIDES, VERDICTS), events, labels, seen)
    assert processed.rows.source_offsets.tolist() == list(expected)
    assert processed.rows.label_offsets is not None
    assert processed.rows.label_offsets.tolist() == [seen[o // 2] for o in expected]
    assert engine.label_offset == 2 * len(labels)
    for actual, wanted in zip(as_dicts(processed.rows, ONE_KEY), expected.values(), strict=True):
        for name, value in wanted.items():
            assert_told(ONE_KEY, name, actual[name], value)


@pytest.mark.parametrize("delay_s", [0, 1, 3, 8])
@pytest.mark.parametrize("on", ["events", "labels"])
def test_windows_of_late_events_are_whole_or_missing(on: Any, delay_s: int) -> None:
    """Something in every tile, and events that look back from every distance."""
    window = {"on": on, "delay": f"{delay_s}s" if delay_s else "0s"}
    features: dict[str, Feature] = {
        "second": Count("4s", "1s", **window),
        "seconds": Count("6s", "3s", **window),
    }
    definition, verdicts = Definition(1, features), replace(VERDICTS, delay="0s")
    events: Values = []
    for i in range(0, 150, 2):
        events += [ride(i, i / 2), ride(i + 1, i / 2 - i % 37)]
    labels: Values = [verdict(i, i) for i in range(75)]
    seen = np.arange(len(events), dtype=np.int64)
    processed = FeatureEngine(definition, RIDES, verdicts).process(
        log_of(events), log_of(labels), seen - seen % 2
    )
    expected = told(Oracle(definition, RIDES, verdicts), events, labels, seen - seen % 2)
    rows = as_dicts(processed.rows, definition)
    for actual, wanted in zip(rows, expected.values(), strict=True):
        assert actual == pytest.approx(wanted, nan_ok=True)
    for name in features:
        column = [float(row[name]) for row in rows]
        assert any(math.isnan(value) for value in column)
        assert max(value for value in column if not math.isnan(value)) >= 4


@settings(deadline=None, max_examples=50)
@given(cases(), st.data())
def test_cuts_and_restores_change_no_bit(fewest: int, case: Case, data: st.DataObject) -> None:
    events, labels, seen = case
    whole = FeatureEngine(ONE_KEY, RIDES, VERDICTS)
    at_once = whole.process(log_of(events), log_of(labels), seen)
    engine = FeatureEngine(ONE_KEY, RIDES, VERDICTS)
    parts: list[Processed] = []
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=5))
    for first, end in stretches(len(events), cuts):
        if data.draw(st.booleans()):
            engine = FeatureEngine.restore(ONE_KEY, RIDES, engine.snapshot(), VERDICTS)
        # As a live worker: all labels that any event of the stretch has seen, and perhaps more.
        least = max([engine.label_offset, *seen[first:end].tolist()])
        most = int(seen[end]) if end < len(events) else 2 * len(labels)
        until = data.draw(st.sampled_from([least, max(least, most)]))
        parts.append(run(engine, events, labels, seen, (first, end), until))
    run(engine, events, labels, seen, (len(events), len(events)), 2 * len(labels))
    codec = FeatureCodec(ONE_KEY, RIDES, VERDICTS)
    assert [v for part in parts for v in codec.encode(part.rows)] == codec.encode(at_once.rows)
    assert_equal_arrays(engine.snapshot(), whole.snapshot())


@settings(deadline=None, max_examples=40)
@given(cases(), st.data())
def test_a_chain_of_stages_is_what_the_oracle_says(
    fewest: int, case: Case, data: st.DataObject
) -> None:
    events, labels, seen = case
    first = FeatureEngine(TWO_KEYS, TRIPS, SPOT_VERDICTS)
    assert not first.is_last
    assert not first.reads_labels
    handed = first.process(log_of(events))
    values = [events[place] for place in handed.places.tolist()]
    # After a crash the first stage repeats a stretch.
    again = data.draw(st.integers(0, len(values)))
    back = data.draw(st.integers(0, again))
    order = [*range(again), *range(back, len(values))]
    decoder = Rekeyed(EventDecoder(TWO_KEYS, TRIPS, SPOT_VERDICTS, 1), handed.rows, order)
    seen = np.sort(np.resize(seen, len(order))) if len(seen) else np.zeros(len(order), np.int64)
    rekeyed = [values[i] for i in order]
    engine = FeatureEngine(TWO_KEYS, TRIPS, SPOT_VERDICTS, 1, decoder)
    parts = []
    for stretch in stretches(
        len(order), data.draw(st.lists(st.integers(0, len(order)), max_size=3))
    ):
        restored = engine.snapshot()
        engine = FeatureEngine.restore(TWO_KEYS, TRIPS, restored, SPOT_VERDICTS, 1, decoder)
        until = max([engine.label_offset, *seen[slice(*stretch)].tolist()])
        parts.append(run(engine, rekeyed, labels, seen, stretch, until))
    assert sum(part.repeated for part in parts) == again - back
    new = [i for i, origin in enumerate(order) if origin not in order[:i]]
    expected = told(
        Oracle(TWO_KEYS, TRIPS, SPOT_VERDICTS), [rekeyed[i] for i in new], labels, seen[new]
    )
    rows = [row for part in parts for row in as_dicts(part.rows, TWO_KEYS)]
    assert len(rows) == len(expected) == len(values)
    for actual, wanted in zip(rows, expected.values(), strict=True):
        for name, value in wanted.items():
            assert_told(TWO_KEYS, name, actual[name], value)
    assert [o for part in parts for o in part.rows.origin_offsets.tolist()] == (  # type: ignore[union-attr]
        handed.rows.source_offsets.tolist()
    )
    assert [e for part in parts for e in part.stage_entities] == handed.next_entities


def assert_told(
    definition: Definition, name: str, actual: float | str, wanted: float | str
) -> None:
    """Compare a value with the exact one: as closely as the feature promises."""
    feature = definition.features[name]
    if isinstance(wanted, str) or isinstance(actual, str):
        assert actual == wanted, name
    elif isinstance(feature, SKETCHED) and not math.isnan(wanted):
        low, high = bounds(feature, wanted)
        assert low - 1e-12 <= actual <= high + 1e-12, (name, actual, wanted)
    else:
        assert actual == pytest.approx(wanted, rel=1e-12, abs=1e-12, nan_ok=True), name


def bounds(feature: Any, exact: float) -> tuple[float, float]:
    """Return between which values a sketch may lie."""
    match feature:
        case DistinctCount():
            # Few values: linear counting, whose error is far below that of HyperLogLog.
            return exact - 1 - 0.3 * exact, exact + 1 + 0.3 * exact
        case Quantile():
            return exact * (1 - feature.accuracy), exact * (1 + feature.accuracy)
        case _:
            return exact - (0 if feature.size >= 5 else 1 / (feature.size + 1)), exact


class Text(msgspec.Struct):
    ride: str
    rider: str
    at: int
    zone_text: str


def last_values(definition: Definition, found: list[str]) -> list[float]:
    """Return the features at an event after some that have these texts."""
    n = len(found)
    values: Values = [
        msgspec.json.encode(Text(f"r{i}", "ann", START_MS + 7000 * i // (n + 1), text))
        for i, text in enumerate([*found, ""])
    ]
    rows = FeatureEngine(definition, replace(RIDES, type=Text)).process(log_of(values)).rows
    made: list[float] = rows.numeric[-1].tolist()
    return made


@pytest.mark.parametrize("precision", [4, 6, 8, 12])
@pytest.mark.parametrize("n", [0, 5, 100, 3_000, 50_000])
def test_distinct_counts_keep_their_error(precision: int, n: int) -> None:
    definition = Definition(1, {"d": DistinctCount("zone_text", "10s", "5s", precision=precision)})
    (made,) = last_values(definition, [f"text {i % max(n, 1)}" if n else "" for i in range(n + 7)])
    error = 1.04 / math.sqrt(2**precision)
    assert abs(made - n) <= max(2, 3 * error * n)


@pytest.mark.parametrize("accuracy", [0.005, 0.02, 0.2])
def test_quantiles_keep_their_accuracy(accuracy: float) -> None:
    rng = np.random.default_rng(3)
    prices = rng.lognormal(2, 2, 4000)
    features = {
        f"q{round(100 * q)}": Quantile(
            PRICE, q, "60s", "10s", low=1e-4, high=1e5, accuracy=accuracy
        )
        for q in (0.0, 0.01, 0.5, 0.9, 0.99, 1.0)
    }
    values: Values = [ride(i, i / 80, price=float(p)) for i, p in enumerate(prices)]
    rows = (
        FeatureEngine(Definition(1, features), RIDES).process(log_of([*values, ride(-1, 50)])).rows
    )
    for feature, made in zip(features.values(), rows.numeric[-1].tolist(), strict=True):
        exact = np.sort(prices)[math.floor(feature.q * (len(prices) - 1))]
        assert made == pytest.approx(exact, rel=accuracy)


@pytest.mark.parametrize("size", [1, 4, 16, 64])
def test_top_shares_are_too_low_by_no_more_than_they_say(size: int) -> None:
    rng = np.random.default_rng(size)
    found = [f"t{i}" for i in np.minimum(rng.geometric(0.2, 5000), 40).tolist()]
    definition = Definition(1, {"t": TopShare("zone_text", "60s", "1s", size=size)})
    (made,) = last_values(definition, found)
    counts = texts([Text("", "", 0, t) for t in found], "zone_text")
    exact = max(counts.values()) / len(found)
    assert exact - 1 / (size + 1) <= made <= exact
    if size >= 40:
        assert made == exact


def test_a_variance_of_nearly_equal_large_values_keeps_its_digits() -> None:
    definition = Definition(1, {"v": Variance(PRICE, "60s", "5s")})
    values: Values = [ride(i, i, price=1e9 + (i % 2) / 4) for i in range(41)]
    made = FeatureEngine(definition, RIDES).process(log_of(values)).rows.numeric[-1, 0]
    assert made == pytest.approx(0.25**2 / 4 * 40 / 39, rel=1e-6)  # of squares: none


def test_a_label_is_not_used_before_its_delay() -> None:
    """It counts from the first tile on that had ended when the delay was over."""
    events: Values = [ride(i, i) for i in range(40)]
    engine = FeatureEngine(Definition(1, {"n": Count(**KNOWN)}), RIDES, VERDICTS)
    rows = engine.process(log_of(events), log_of([verdict(0, 2)])).rows
    # The label is about second 2, its tile ends with second 5, 8 seconds later it is used.
    assert np.flatnonzero(rows.numeric[:, 0]).tolist() == list(range(13, 40))
    assert rows.label_offsets is not None
    assert set(rows.label_offsets.tolist()) == {2}


def test_labels_given_again_are_not_counted_again() -> None:
    engine = FeatureEngine(Definition(1, {"n": Count(**KNOWN)}), RIDES, VERDICTS)
    labels: Values = [verdict(0, 0), verdict(1, 0), verdict(1, 0), None, b"{}"]
    engine.process(log_of([]), log_of(labels))
    engine.process(log_of([]), log_of(labels[1:], 1))
    assert engine.label_offset == 10
    assert engine.process(log_of([ride(1, 20)])).rows.numeric.tolist() == [[2.0]]


def test_labels_that_were_seen_but_are_not_given_are_an_error() -> None:
    engine = FeatureEngine(Definition(1, {"n": Count(**KNOWN)}), RIDES, VERDICTS)
    with pytest.raises(StateError, match="labels before offset 6"):
        engine.process(log_of([ride(1, 20)]), log_of([verdict(0, 0)]), np.array([6]))


def test_a_mean_of_labels_divides_by_those_with_a_value() -> None:
    mean = Mean(COST, "30s", "5s", on="labels", delay="8s")
    engine = FeatureEngine(Definition(1, {"m": mean}), RIDES, VERDICTS)
    labels: Values = [verdict(0, 0, cost=2.0), verdict(1, 1), verdict(2, 2, cost=5.0)]
    assert engine.process(log_of([ride(1, 20)]), log_of(labels)).rows.numeric.tolist() == [[3.5]]
