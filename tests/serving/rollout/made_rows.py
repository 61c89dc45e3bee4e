"""Answers with labels, made by the thousand for the tests of verdicts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.rollout.labelled import Labelled
from serving.rollout.rows import Rows
from serving.rollout.statistics import BUCKETS
from serving.rollout.trial import Trial
from training.scores import log_losses

DAY_MS = 86_400_000
MINUTE_MS = 60_000
Floats = NDArray[np.float64]


def rows(
    scores: Floats, labels: Floats, entities: NDArray[np.int64] | None = None,
    latency_ms: Floats | None = None, groups: NDArray[np.int64] | None = None, first: int = 0,
) -> Rows:  # fmt: skip
    """Return answers, one a minute; by default each of an entity of its own."""
    n = len(scores)
    who = np.arange(first, first + n) if entities is None else entities
    return Rows(
        (who * 7919) % BUCKETS,
        np.asarray((who * 0.6180339887) % 1.0, np.float64),
        log_losses(scores, labels),
        scores - labels,
        scores,
        np.full(n, np.nan) if latency_ms is None else latency_ms,
        (first + np.arange(n)) * MINUTE_MS,
        np.empty((n, 0), np.int64) if groups is None else groups,
    )


def drawn(n: int, seed: int = 1) -> tuple[Floats, Floats]:
    """Return probabilities (n,) and labels (n,) that came by them."""
    draw = np.random.default_rng(seed)
    rate = 1 / (1 + np.exp(-draw.normal(-1.0, 1.2, n)))
    return rate, (draw.random(n) < rate).astype(np.float64)


def blurred(rate: Floats, noise: float, seed: int = 2) -> Floats:
    """Return the probabilities as a worse model tells them: its log odds miss by ``noise``."""
    odds = np.log(rate / (1 - rate)) + noise * np.random.default_rng(seed).normal(size=len(rate))
    told: Floats = 1 / (1 + np.exp(-odds))
    return told


def trial_of(challenger: Rows, live: Rows, share: float = 0.0) -> Trial:
    """Return a version in shadow, or in canary, that was compared on pairs."""
    trial = Trial(2, 1, 1, Labelled(DAY_MS))
    if share:
        trial.enter(share)
    trial.add_pairs(challenger, live)
    trial.pass_time(live.event_ms)
    return trial


def side_by_side(trial: Trial, challenger: Rows, live: Rows, is_challenger: Sequence[bool]) -> None:
    """Count answers of a canary's stage: the challenger's where it answers."""
    mine = np.array(is_challenger)
    names = Rows.__slots__
    both = {name: (getattr(challenger, name), getattr(live, name)) for name in names}
    mixed = {
        name: np.where(mine[:, None] if a.ndim == 2 else mine, a, b)
        for name, (a, b) in both.items()
    }
    trial.add_arms(Rows(**mixed), mine)
