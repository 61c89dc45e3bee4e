"""The fraud detection handbook's protocol: which payments train, which test, and what counts.

A week of payments trains. Its verdicts are known a week later, so the test week begins a week
after the training week's end. Whose card is known to be misused is blocked: of each test day only
payments of customers count who had no fraud in the training week, nor in the days up to the
eighth before that test day, whose verdicts have come by then (Le Borgne et al., "Reproducible
machine learning for credit card fraud detection", chapters 3 and 4).
"""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000
TOP = 100
"""How many customers can be asked on a day whether a payment was theirs."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Payments:
    """n payments in the order of their numbers, which is that of time; all (n,).

    ``frauds`` are 0 or 1.
    """

    ids: Ints
    times_ms: Ints
    customers: Ints
    terminals: Ints
    amounts: Floats
    frauds: Ints

    @property
    def days(self) -> Ints:
        """Days since the epoch, in UTC."""
        return self.times_ms // DAY_MS

    def __len__(self) -> int:
        """Return the number of payments."""
        return len(self.ids)


@dataclass(frozen=True)
class Weeks:
    """Where a training week begins, and how long it, the wait for verdicts and the test last."""

    begin: date
    train_days: int = 7
    delay_days: int = 7
    test_days: int = 7

    @property
    def first(self) -> int:
        """The first training day, in days since the epoch."""
        return (self.begin - date(1970, 1, 1)).days

    @property
    def first_test(self) -> int:
        """The first test day, in days since the epoch."""
        return self.first + self.train_days + self.delay_days

    def __str__(self) -> str:
        """Return the dates."""
        test = self.begin + timedelta(self.train_days + self.delay_days)
        return (
            f"trained {self.begin} to {self.begin + timedelta(self.train_days - 1)}, "
            f"tested {test} to {test + timedelta(self.test_days - 1)}"
        )


PUBLISHED = Weeks(date(2018, 7, 25))
"""The weeks of the published figures."""

EARLIER = Weeks(date(2018, 7, 11))
"""The weeks on which anything is chosen: their test week is the training week of the published."""


def read_payments(folder: Path) -> Payments:
    """Return the payments of the monthly Parquet files."""
    import pyarrow.parquet as pq

    names = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"]
    table = pq.read_table(sorted(folder.glob("tx_*.parquet")), columns=names)
    ids, times, customers, terminals, amounts, frauds = (
        table[name].to_numpy() for name in names
    )  # fmt: skip
    order = np.argsort(ids)  # of payments at the same second the files have the higher one first
    return Payments(
        ids[order].astype(np.int64),
        times[order].astype("datetime64[ms]").astype(np.int64),
        customers[order].astype(np.int64),
        terminals[order].astype(np.int64),
        amounts[order].astype(np.float64),
        frauds[order].astype(np.int64),
    )


def training_rows(payments: Payments, weeks: Weeks) -> Ints:
    """Return the places of the payments that train."""
    days = payments.days
    return np.flatnonzero((days >= weeks.first) & (days < weeks.first + weeks.train_days))


def test_rows(payments: Payments, weeks: Weeks) -> Ints:
    """Return the places of the payments that test, day after day."""
    days, misused = payments.days, payments.frauds == 1
    known = np.unique(payments.customers[training_rows(payments, weeks)][
        misused[training_rows(payments, weeks)]
    ])  # fmt: skip
    found: list[Ints] = []
    for day in range(weeks.first_test, weeks.first_test + weeks.test_days):
        told = misused & (days == day - weeks.delay_days - 1)
        known = np.union1d(known, payments.customers[told])
        today = np.flatnonzero(days == day)
        found.append(today[~np.isin(payments.customers[today], known)])
    return np.concatenate(found)


def roc_auc(scores: Floats, frauds: Ints) -> float:
    """Return the probability that a fraud scores above another payment; ties count half."""
    order = np.argsort(scores, kind="stable")
    _, inverse, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse]  # the mean rank of equal scores
    bad = frauds[order] == 1
    n_bad, n_good = int(bad.sum()), int((~bad).sum())
    return float((ranks[bad].sum() - n_bad * (n_bad + 1) / 2) / (n_bad * n_good))


def average_precision(scores: Floats, frauds: Ints) -> float:
    """Return Σ (R_k − R_{k−1})·P_k over the distinct scores from the highest to the lowest."""
    order = np.argsort(-scores, kind="stable")
    ranked, bad = scores[order], frauds[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of each distinct score
    caught = np.cumsum(bad)[last]
    precision = caught / (last + 1)
    recall = caught / caught[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def card_precision(
    scores: Floats, frauds: Ints, customers: Ints, days: Ints, top: int = TOP
) -> float:
    """Return the mean over the days of the share of frauds among the ``top`` customers of a day.

    A customer's score is the highest of the day's payments; who was rightly found is asked no more
    on later days, and the share is always of ``top``.
    """
    found = np.empty(0, np.int64)
    shares: list[float] = []
    for day in np.unique(days):
        today = np.flatnonzero((days == day) & ~np.isin(customers, found))
        people, inverse = np.unique(customers[today], return_inverse=True)
        highest = np.full(len(people), -np.inf)
        np.maximum.at(highest, inverse, scores[today])
        is_fraud = np.zeros(len(people), np.int64)
        np.maximum.at(is_fraud, inverse, frauds[today])
        asked = np.argsort(-highest, kind="stable")[:top]
        caught = asked[is_fraud[asked] == 1]
        shares.append(len(caught) / top)
        found = np.union1d(found, people[caught])
    return float(np.mean(shares))


@dataclass(frozen=True)
class Quality:
    """What the protocol measures."""

    auc: float
    average_precision: float
    card_precision: float


def measured(payments: Payments, rows: Ints, scores: Floats) -> Quality:
    """Return the quality of the scores (m,) of the payments at ``rows`` (m,)."""
    frauds = payments.frauds[rows]
    return Quality(
        roc_auc(scores, frauds),
        average_precision(scores, frauds),
        card_precision(scores, frauds, payments.customers[rows], payments.days[rows]),
    )
