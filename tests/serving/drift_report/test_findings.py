"""What the report tells of a window, without a log."""

import numpy as np

from serving.drift_report.findings import Observed, examine
from serving.drift_report.page import page
from tests.serving.monitored import DEFINITION, START, feature_rows
from training.answers import Answers
from training.networks.tasks import Binary
from training.reference import Reference
from training.score_reference import score_counts
from training.validation_scores import calibration_sums

DAY_MS = 86_400_000


def reference_of(n: int, seed: int = 1) -> Reference:
    random = np.random.default_rng(seed)
    rows = feature_rows(0, [START + i for i in range(n)], random.normal(size=n).tolist())
    scores = random.beta(2, 5, n)
    labels = (random.random(n) < scores).astype(float)
    return Reference.from_rows([rows], DEFINITION).with_scores(
        score_counts(Binary(), scores), calibration_sums(Binary(), Answers(scores), labels)
    )


def observed_of(reference: Reference, n: int, shift: float, lift: float = 0.0) -> Observed:
    random = np.random.default_rng(2)
    values = random.normal(shift, 1.0, n)
    values[: n // 10] = np.nan if shift else values[: n // 10]
    rows = feature_rows(0, [START + i for i in range(n)], values.tolist())
    scores = np.clip(random.beta(2, 5, n) + lift, 0, 0.99)
    labels = (random.random(n) < scores).astype(float)
    return Observed(
        START, START + DAY_MS, n, reference.fine_counts(rows),
        score_counts(Binary(), scores), None,
        calibration_sums(Binary(), Answers(scores), labels),
    )  # fmt: skip


def test_what_moved_comes_first_with_its_bins_and_missing_values() -> None:
    reference = reference_of(4_000)
    found = examine(reference, observed_of(reference, 2_000, 0.8), Binary(), {})
    first, last = found.features
    assert (first.drift.feature, first.verdict) == ("distance", "major")
    assert (last.drift.feature, last.verdict) == ("kind", "none")
    assert first.p["missing"] < 1e-6
    assert abs((first.drift.missing or 0) - 0.1) < 0.001
    for row in found.features:
        assert abs(sum(bar.expected for bar in row.bars) - 1) < 1e-9
        assert abs(sum(bar.observed for bar in row.bars) - 1) < 1e-9


def test_nothing_is_found_where_nothing_moved() -> None:
    reference = reference_of(4_000)
    found = examine(reference, observed_of(reference, 2_000, 0.0), Binary(), {})
    assert {row.verdict for row in (*found.features, *found.scores)} == {"none"}


def test_the_answers_are_compared_and_their_calibration_is_drawn() -> None:
    reference = reference_of(4_000)
    found = examine(reference, observed_of(reference, 2_000, 0.0, lift=0.2), Binary(), {})
    (scores,) = found.scores
    assert scores.verdict == "major"
    assert len(scores.bars) == 10
    assert sum(point.n for point in found.now) == 2_000
    assert all(abs(p.score - p.happened) < 0.12 for p in found.now)
    assert found.to_json()["scores"][0]["band"] == "major"


def test_names_of_the_users_data_are_text_on_the_page() -> None:
    reference = reference_of(600)
    found = examine(reference, observed_of(reference, 600, 0.8), Binary(), {})
    text = page(found, "<script>alert(1)</script>", {"a": "<img src=x>"}, "UTC")
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text
    assert "prefers-color-scheme:dark" in text
