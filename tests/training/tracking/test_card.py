"""Model cards of made-up models: the figures by hand, the warnings, the same card each time."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.answers import Answers
from training.calibration import Calibration, begin_calibration, sigmoid
from training.dataset.encoding import Encoding
from training.dataset.prepared import Examples, PreparedData
from training.dataset.texts import CodedTexts
from training.networks.tasks import Binary, MultiClass, Regression, Task
from training.retraining.comparison import Comparison, Interval, Paired
from training.standard import Standard
from training.tracking.card import Subject, make_card, write_card
from training.tracking.card_statistics import (
    calibration_bins,
    held_out,
    mean_of,
    rows_by_text,
    wilson,
)
from training.tracking.card_text import as_markdown

MINUTE_MS = 60_000
MANIFEST: dict[str, Any] = {
    "pipeline": "rides", "since_ms": None, "cutoff_ms": 1_700_000_000_000,
    "label_cutoff_ms": 1_700_000_000_000, "definition": {"version": 2, "hash": "ab" * 32},
    "model": {"network": {"hidden": [8]}}, "counts": {"examples": 3000, "known_labels": 3010},
    "features": {"topic": "rides.features.v2", "offsets": {"0": [0, 5000]}},
    "labels": {"topic": "rides.labels.v1", "offsets": {"0": [10, 4000]}}, "data_sha256": "cd" * 32,
}  # fmt: skip


def part(n: int, seed: int, task: Task, unseen: bool = False) -> Examples:
    rng = np.random.default_rng(seed)
    speed = rng.normal(size=n)
    gone = np.where(rng.random(n) < 0.8, np.nan, 1.0)
    gender = rng.choice(["f", "m", ""], n, p=[0.55, 0.4, 0.05])
    site = rng.choice(["a", "b", "new"] if unseen else ["a", "b"], n).tolist()
    match task:
        case Binary():
            targets = (rng.random(n) < 1 / (1 + np.exp(-speed))).astype(np.float64)
        case MultiClass():
            targets = rng.integers(0, 3, n).astype(np.float64)
        case Regression():
            targets = speed + rng.normal(size=n)
    times = np.arange(n, dtype=np.int64) * MINUTE_MS
    return Examples(
        np.column_stack([speed, gone, np.ones(n)]), [site], targets, times, [gender.tolist()]
    )


def data(task: Task, later: int = 1500) -> PreparedData:
    return PreparedData(
        ("speed", "gone", "one"), ("site",), part(3000, 1, task), part(later, 2, task, unseen=True),
        ("gender",),
    )  # fmt: skip


def subject(task: Task, prepared: PreparedData, outputs: NDArray[np.float64]) -> Subject:
    encoding = Encoding.fit(prepared.numeric_names, prepared.category_names, prepared.train)
    calibration = begin_calibration(task, (), Standard()).refit(
        outputs, prepared.validation.targets
    )
    metrics = {"log_loss": 0.6, "auc": float("nan")}
    return Subject("00ff", MANIFEST, task, encoding, calibration, outputs, metrics)


class AsItIs(Calibration):
    """None at all."""

    def answers(self, outputs: NDArray[np.float64]) -> Answers:
        return Answers(sigmoid(outputs[:, 0]))

    def refit(self, outputs: NDArray[np.float64], targets: NDArray[np.float64]) -> Calibration:
        del outputs, targets
        return self

    def to_json(self) -> dict[str, Any]:
        return {}


def binary_card(later: int = 1500) -> dict[str, Any]:
    prepared = data(Binary(), later)
    outputs = prepared.validation.numeric[:, :1]  # the true logits
    return make_card(subject(Binary(), prepared, outputs), prepared)


def test_wilson_by_hand() -> None:
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for hits, n, low, high in (
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):  # fmt: skip
        assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson(5, 5)[1] == 1.0


def test_an_interval_where_there_is_enough_to_tell() -> None:
    values = np.random.default_rng(0).normal(3, 1, 5000)
    many, some, few = mean_of(values), mean_of(values[:50]), mean_of(values[:29])
    assert many.low is not None
    assert many.high is not None
    assert some.low is not None
    assert some.high is not None
    assert many.low < 3 < many.high
    assert 0.3 < some.high - some.low < 0.9  # 2 · 1.96 / √50 is .55
    assert many.high - many.low < 0.1
    assert few.low is None
    assert mean_of(values[:50]) == some


def test_answers_are_held_out_from_their_calibration() -> None:
    rng = np.random.default_rng(3)
    outputs, targets = rng.normal(size=(400, 1)), rng.integers(0, 2, 400).astype(np.float64)
    begun = begin_calibration(Binary(), (), Standard())
    answers = held_out(begun.refit(outputs, targets), outputs, targets)
    second_on_first = begun.refit(outputs[:200], targets[:200]).answers(outputs[200:])
    np.testing.assert_array_equal(answers.score[200:], second_on_first.score)


def test_calibration_by_equally_many_answers() -> None:
    rng = np.random.default_rng(4)
    answered = rng.random(20_000)
    came = (rng.random(20_000) < answered).astype(np.float64)
    bins = calibration_bins(Binary(), Answers(answered), came)
    assert [of.n for of in bins] == [2000] * 10
    assert sum(of.is_off for of in bins) <= 2
    assert all(of.is_off for of in calibration_bins(Binary(), Answers(answered / 2), came)[3:])
    # Equal answers are one bin.
    assert len(calibration_bins(Binary(), Answers(np.full(100, 0.2)), came[:100])) == 1


def test_calibration_of_a_regression_is_what_its_intervals_hold() -> None:
    rng = np.random.default_rng(5)
    means = rng.normal(size=20_000)
    targets = means + 2 * rng.normal(size=20_000)
    right = calibration_bins(Regression(), Answers(means, spread=np.full(20_000, 2.0)), targets)
    assert [round(of.answered, 1) for of in right] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert all(abs(of.observed - of.answered) < 0.01 for of in right)
    narrow = calibration_bins(Regression(), Answers(means, spread=np.ones(20_000)), targets)
    assert all(of.is_off for of in narrow)


def test_rows_of_texts_coded_or_not() -> None:
    texts = ["b", "a", "", "b"]
    coded = CodedTexts(np.array([2, 0, 3, 2], np.int32), ("a", "unused", "b", ""))
    for column in (texts, coded):
        found = {text: rows.tolist() for text, rows in rows_by_text(column).items()}
        assert found == {"": [2], "a": [1], "b": [0, 3]}


def test_a_card_of_a_binary_model() -> None:
    card, later = binary_card(), data(Binary()).validation
    overall = card["validation"]["overall"]
    assert list(overall["scores"]) == ["log_loss", "brier"]
    assert overall["n"] == 1500
    assert overall["observed"]["value"] == pytest.approx(later.targets.mean())
    assert overall["observed"]["low"] < overall["answered"] < overall["observed"]["high"]
    parts = card["validation"]["by_time"]
    assert [of["n"] for of in parts] == [300] * 5
    assert (parts[0]["from_ms"], parts[-1]["to_ms"]) == (0, 1499 * MINUTE_MS)
    weighted = sum(of["n"] * of["scores"]["brier"]["value"] for of in parts) / 1500
    assert weighted == pytest.approx(overall["scores"]["brier"]["value"])
    groups = card["validation"]["by_group"]["gender"]
    assert [of["group"] for of in groups] == ["f", "m", ""]
    of_men = np.array(list(later.groups[0])) == "m"
    assert groups[1]["n"] == of_men.sum()
    assert groups[1]["observed"]["value"] == pytest.approx(later.targets[of_men].mean())
    assert sum(of["n_training"] for of in groups) == 3000
    assert card["metrics"] == {"log_loss": 0.6}  # what is no number is no JSON


def test_the_features_in_training_and_what_is_new() -> None:
    speed, gone, one, site = binary_card()["features"]
    assert speed["quantiles"][0] < -2 < 2 < speed["quantiles"][-1]
    assert gone["missing"] == pytest.approx(0.8, abs=0.03)
    assert one["quantiles"] == [1.0] * 7
    assert site["values"] == 2
    assert site["most_frequent"]["a"] == pytest.approx(0.5, abs=0.05)
    assert site["outside_in_validation"] == pytest.approx(1 / 3, abs=0.05)


def test_limits_are_told() -> None:
    told = " ".join(binary_card()["limits"])
    assert "after 2023-11-14 22:13 UTC" in told
    assert "Groups of gender too small to be judged: (missing) (" in told
    assert "Mostly missing in training: gone (8" in told
    assert "nothing was learnt from: gone, one" in told
    assert (
        "Categories that training had not seen, by share of the validation slice: site (3" in told
    )
    assert "judged on" not in told
    assert "It was judged on 400 examples only" in " ".join(binary_card(400)["limits"])


def test_a_model_that_is_off_is_told_of() -> None:
    prepared = data(Binary())
    good = subject(Binary(), prepared, prepared.validation.numeric[:, :1])
    # Right in the mean, but far too sure at both ends.
    outputs = np.where(np.abs(good.outputs) > 0.5, np.sign(good.outputs) * 8, 0.0)

    told = make_card(replace(good, outputs=outputs, calibration=AsItIs()), prepared)["limits"]
    assert any(text.startswith("Answers that are off beyond chance: 0.") for text in told)


def test_a_group_that_is_worse_beyond_chance_is_told_of() -> None:
    prepared = data(Binary())
    later = prepared.validation
    men = np.array(list(later.groups[0])) == "m"
    outputs = np.where(men, -3 * later.numeric[:, 0], later.numeric[:, 0])[:, None]
    bad = replace(subject(Binary(), prepared, outputs), calibration=AsItIs())
    told = make_card(bad, prepared)["limits"]
    assert any("Groups of gender with a worse log loss" in text and "m (" in text for text in told)


@pytest.mark.parametrize("task", [Binary(), MultiClass(("x", "y", "z")), Regression()])
def test_a_card_of_every_task_is_written_the_same_each_time(task: Task, tmp_path: Path) -> None:
    prepared = data(task)
    speed = prepared.validation.numeric[:, 0]
    outputs = {
        Binary: speed[:, None],
        MultiClass: np.column_stack([speed, -speed, speed * 0]),
        Regression: np.column_stack([speed, np.zeros(1500)]),
    }[type(task)]
    for name in ("first", "second"):
        write_card(tmp_path / name, make_card(subject(task, prepared, outputs), prepared))
    first, second = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}
        for name in ("first", "second")
    )
    assert first == second
    assert sorted(first) == ["calibration.png", "card.json", "card.md"]
    assert first["calibration.png"].startswith(b"\x89PNG")
    card, text = json.loads(first["card.json"]), first["card.md"].decode()
    assert card["task"] == type(task).__name__
    assert text.startswith("# Model 00ff of rides\n")
    for told in ("## Limits", "### By gender", "![answered against observed](calibration.png)",
                 "`rides.features.v2`, partition: first to end offset: 0: 0 to 5,000",
                 "kappa models verify VERSION"):  # fmt: skip
        assert told in text


def test_against_the_live_model_as_text() -> None:
    prepared = data(Binary())
    paired = Paired(0.61, 0.55, Interval(-0.06, -0.08, -0.04))
    compared = Comparison(3, 900, 0, 1, {"log_loss": paired}).to_json()
    of = replace(
        subject(Binary(), prepared, prepared.validation.numeric[:, :1]), comparison=compared
    )
    text = as_markdown(make_card(of, prepared))
    assert "## Against version 3, which was live" in text
    assert "| log loss | 0.6100 | 0.5500 | -0.0600 [-0.0800, -0.0400] |" in text
    alone = Comparison(0, not_compared="no model is live yet").to_json()
    text = as_markdown(make_card(replace(of, comparison=alone), prepared))
    assert "## Against" not in text
    assert "Not compared with a live model: no model is live yet." in text
