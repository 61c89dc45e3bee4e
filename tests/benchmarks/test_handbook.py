"""The handbook's protocol on payments made up by hand, its metrics, and the features' driver."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.handbook import baselines, protocol
from benchmarks.handbook.features import made_features
from benchmarks.handbook.protocol import DAY_MS, Payments, Weeks
from examples.fraud import pipeline
from tests.examples.fraud_oracle import customer_features, payments, terminal_features

WEEKS = Weeks(date(1970, 1, 1))  # days 0 to 6 train, days 14 to 20 test


def made(*rows: tuple[int, int, int]) -> Payments:
    """Return payments given as (day, customer, fraud), an hour apart within a day."""
    n = len(rows)
    return Payments(
        ids=np.arange(n),
        times_ms=np.array([day * DAY_MS + i * 1000 for i, (day, _, _) in enumerate(rows)]),
        customers=np.array([customer for _, customer, _ in rows]),
        terminals=np.zeros(n, np.int64),
        amounts=np.ones(n),
        frauds=np.array([fraud for _, _, fraud in rows]),
    )


def test_the_training_week() -> None:
    found = protocol.training_rows(made((0, 1, 0), (6, 1, 1), (7, 1, 0), (13, 1, 0)), WEEKS)
    assert found.tolist() == [0, 1]


def test_who_is_known_to_be_defrauded_is_not_tested() -> None:
    log = made(
        (2, 1, 1),  # in the training week
        (7, 2, 1),  # known from day 15 on
        (9, 3, 1),  # known from day 17 on
        (14, 1, 0), (14, 2, 0), (14, 3, 0), (14, 4, 1),
        (15, 1, 1), (15, 2, 0), (15, 3, 0), (15, 4, 0),
        (16, 2, 1), (16, 3, 0),
        (17, 3, 1), (17, 4, 1),
        (21, 5, 0),
    )  # fmt: skip
    tested = protocol.test_rows(log, WEEKS)
    found = list(zip(log.days[tested].tolist(), log.customers[tested].tolist(), strict=True))
    assert found == [(14, 2), (14, 3), (14, 4), (15, 3), (15, 4), (16, 3), (17, 4)]


def test_card_precision_by_hand() -> None:
    # Two customers are asked a day. Day 0: 1 (a fraud, by the second payment) and 2 (none).
    # Day 1: 1 is found already; 3 (a fraud) and 4 (none) are asked, 2's fraud is missed.
    days = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    customers = np.array([1, 1, 2, 3, 1, 2, 3, 4])
    scores = np.array([0.1, 0.9, 0.8, 0.2, 1.0, 0.1, 0.7, 0.6])
    frauds = np.array([0, 1, 0, 0, 1, 1, 1, 0])
    assert protocol.card_precision(scores, frauds, customers, days, top=2) == 0.5
    # A day of fewer customers than are asked still counts by how many could be asked.
    assert protocol.card_precision(scores, frauds, customers, days, top=8) == (1 / 8 + 2 / 8) / 2


def test_a_customer_is_a_fraud_by_any_payment_of_the_day() -> None:
    found = protocol.card_precision(
        np.array([0.9, 0.1]), np.array([0, 1]), np.array([1, 1]), np.array([0, 0]), top=1
    )
    assert found == 1.0


def test_areas_by_hand() -> None:
    scores, frauds = np.array([0.9, 0.8, 0.8, 0.1]), np.array([1, 1, 0, 0])
    assert protocol.roc_auc(scores, frauds) == (2 + 1.5) / 4
    assert protocol.average_precision(scores, frauds) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@pytest.mark.filterwarnings("ignore")
def test_areas_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    frauds = rng.integers(0, 2, 500)
    scores = np.round(rng.normal(size=500) + frauds, 1)  # with ties
    assert protocol.roc_auc(scores, frauds) == pytest.approx(metrics.roc_auc_score(frauds, scores))
    assert protocol.average_precision(scores, frauds) == pytest.approx(
        metrics.average_precision_score(frauds, scores)
    )


def test_the_handbooks_features_by_hand() -> None:
    hour = DAY_MS // 24
    log = Payments(
        ids=np.arange(4),
        times_ms=np.array([0, 12 * hour, 2 * DAY_MS + 8 * hour, 8 * DAY_MS]),
        customers=np.array([1, 1, 1, 2]),
        terminals=np.array([5, 6, 5, 5]),
        amounts=np.array([10.0, 20.0, 60.0, 5.0]),
        frauds=np.array([1, 0, 0, 0]),
    )
    columns = baselines.features(log)
    weekend, night = columns[:, 1], columns[:, 2]
    assert weekend.tolist() == [0, 0, 1, 0]  # a Thursday, a Saturday, a Friday
    assert night.tolist() == [1, 0, 0, 1]
    assert columns[:, 3].tolist() == [1, 2, 1, 1]  # the customer's payments of a day
    assert columns[:, 5:7].tolist() == [[1, 10], [2, 15], [3, 30], [1, 5]]  # of 7 days
    # Of the terminal a week before: at day 8 the 7 days that end at day 1 hold the first payment.
    assert columns[:, 9:11].tolist() == [[0, 0], [0, 0], [0, 0], [0, 0]]
    assert columns[:, 11:13].tolist() == [[0, 0], [0, 0], [0, 0], [1, 1]]


def test_features_by_the_two_stages_are_what_pandas_makes_of_the_files(tmp_path: Path) -> None:
    write(tmp_path / "tx_2018-04.parquet", 3_000)
    rows = payments(tmp_path)
    numbers = made_features(tmp_path, pipeline.features, tmp_path / "cache")
    assert numbers.ids.tolist() == sorted(rows.TRANSACTION_ID)
    names = pipeline.features.names("numeric")
    table = pd.DataFrame(numbers.numeric, index=numbers.ids.astype(str), columns=names)
    for number in range(3):
        wanted = customer_features(rows, number), terminal_features(rows, number)
        for frame in wanted:
            assert len(frame)
            np.testing.assert_allclose(table.loc[frame.index, frame.columns], frame, rtol=1e-12)
    assert (table.risk_30d > 0).sum() > 100
    again = made_features(tmp_path, pipeline.features, tmp_path / "cache")
    np.testing.assert_array_equal(again.numeric, numbers.numeric)
    assert again.categories == numbers.categories


def write(path: Path, n: int) -> None:
    rng = np.random.default_rng(2)
    seconds = np.sort(rng.integers(0, 40 * 86_400, n))
    frame = pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(n),
            "TX_DATETIME": pd.Timestamp("2018-04-01") + pd.to_timedelta(seconds, unit="s"),
            "CUSTOMER_ID": rng.integers(0, 20, n),
            "TERMINAL_ID": rng.integers(0, 20, n),
            "TX_AMOUNT": np.round(rng.exponential(50, n), 2),
            "TX_FRAUD": rng.integers(0, 2, n),
        }
    )
    frame.to_parquet(path)
