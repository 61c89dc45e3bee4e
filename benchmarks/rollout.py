"""How often the rollout's policy decides wrongly, and how many labels it takes, over seeded runs.

    uv run python benchmarks/rollout.py [--runs N] [--json]

Each run lets one challenger pass through the declared ladder: shadow, canary at 1 % and 10 %, live.
The outcomes are simulated, all else is the worker's: the sums, the guardrails and the rules. Labels
are 0 or 1 at a base rate of about 20 %, of entities of which few have most events, and which differ
in their rate; entities are assigned to the arms by their place, as in the log. Live model and
challenger see the log odds through noise, part of it the same for both; the challenger's own noise
makes it worse by the margin that the policy states (2 % of the live one's log loss), equal, or
better by as much. A run ends when the challenger is live or rolled back, or after :data:`EVENTS`.

The fixed size beside the median is that of a test of pairs at one stated size, one-sided at the
same risk, with a power of 80 %, widened by the design effect measured for the entities.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.report import report  # noqa: E402
from serving.rollout.declared import RolloutPolicy  # noqa: E402
from serving.rollout.labelled import Labelled  # noqa: E402
from serving.rollout.policy import RELATIVE_MARGIN, Finding, Judge  # noqa: E402
from serving.rollout.rows import Rows  # noqa: E402
from serving.rollout.statistics import BUCKETS, fixed_size  # noqa: E402
from serving.rollout.trial import Trial  # noqa: E402
from training.networks.tasks import Binary  # noqa: E402
from training.scores import log_losses  # noqa: E402

Kind = Literal["worse", "equal", "better"]
Floats = NDArray[np.float64]
KINDS: tuple[Kind, ...] = ("worse", "equal", "better")

EVENTS = 400_000
EVENT_MS = 60_000
ENTITIES = 5_000
INTERCEPT, SIGNAL, OWN_RATE = -1.75, 1.0, 0.3
SHARED, OWN = 0.4, 0.35
"""Deviations of the noise in the log odds: of both models the same, and the live model's own."""
LOOK = 200
PACKAGES = ("numpy", "scipy")


@dataclass(frozen=True)
class Run:
    """How a run ended: ``pairs`` in shadow, ``events`` in all; ``end`` is None where undecided."""

    end: Literal["live", "rolled_back"] | None
    rule: str
    stage: float
    pairs: int
    events: int


class World:
    """The entities of one run and their events, in order."""

    def __init__(self, seed: int, kind: Kind) -> None:
        self._draw = np.random.default_rng(seed)
        weights = self._draw.pareto(1.5, ENTITIES) + 1
        self._until = np.cumsum(weights / weights.sum())
        self._rate = self._draw.normal(scale=OWN_RATE, size=ENTITIES)
        self._place = self._draw.random(ENTITIES)
        self._bucket = self._draw.integers(0, BUCKETS, ENTITIES)
        self._noise = challenger_noise(kind)
        self._at = 0

    def next(self, n: int) -> tuple[Rows, Rows, Floats]:
        """Return what both models answer to the next n events, and the entities' places."""
        draw = self._draw
        who = np.minimum(np.searchsorted(self._until, draw.random(n)), ENTITIES - 1)
        seen = INTERCEPT + SIGNAL * draw.normal(size=n)
        labels = (draw.random(n) < _sigmoid(seen + self._rate[who])).astype(np.float64)
        shared = seen + SHARED * draw.normal(size=n)
        live = _sigmoid(shared + OWN * draw.normal(size=n))
        challenger = _sigmoid(shared + self._noise * draw.normal(size=n))
        times = (self._at + np.arange(n)) * EVENT_MS
        self._at += n
        place = self._place[who]
        unknown = np.full(n, np.nan)
        nothing = np.empty((n, 0), np.int64)

        def rows(scores: Floats) -> Rows:
            losses = log_losses(scores, labels)
            return Rows(
                self._bucket[who], place, losses, scores - labels, scores, unknown, times, nothing
            )

        return rows(challenger), rows(live), place


def simulate(seed: int, kind: Kind, policy: RolloutPolicy) -> Run:
    """Return how one run ends."""
    judge, world = Judge(policy, Binary()), World(seed, kind)
    trial = Trial(2, 1, 1, Labelled(policy.longest_ms))
    stages = (0.0, *policy.shares)
    pairs = events = 0
    while events < EVENTS:
        # A stage of a small share needs many events: as many looks, each at more of them.
        n = LOOK if not trial.share else int(LOOK / max(trial.share * 10, 0.2))
        challenger, live, place = world.next(n)
        events += n
        in_arm = place < trial.share
        trial.add_pairs(challenger.at(~in_arm), live.at(~in_arm))
        if trial.share:
            trial.add_arms(_mixed(challenger, live, in_arm), in_arm)
        else:
            pairs += n
        trial.pass_time(live.event_ms)
        found = judge.judge(trial)
        if found.verdict == "roll_back":
            return _ended("rolled_back", found, trial, pairs, events)
        if found.verdict == "promote":
            step = stages.index(trial.share) + 1
            if step == len(stages):
                return _ended("live", found, trial, pairs, events)
            trial.enter(stages[step])
    return Run(None, "", trial.share, pairs, events)


def measure(runs: int, policy: RolloutPolicy, workers: int = 2) -> dict[str, float]:
    """Return the figures of so many runs of each kind."""
    live, deviation, effect = _known()
    margin = RELATIVE_MARGIN * live
    figures: dict[str, float] = {"runs": runs, "margin": round(margin, 5)}
    with ProcessPoolExecutor(workers) as pool:
        for kind in KINDS:
            ends = list(
                pool.map(partial(simulate, kind=kind, policy=policy), range(runs), chunksize=10)
            )
            figures |= _figures(kind, ends)
            away = margin - {"worse": margin, "equal": 0.0, "better": -margin}[kind]
            if away:
                spread = deviation[kind] * effect**0.5
                size = fixed_size(spread, away, policy.risk, 0.8, sides=1)
                figures[f"{kind}_fixed_size"] = size
    return figures


def _figures(kind: Kind, ends: list[Run]) -> Iterator[tuple[str, float]]:
    n = len(ends)
    passed = [run for run in ends if run.end == "live"]
    back = [run for run in ends if run.end == "rolled_back"]
    yield f"{kind}_live_percent", 100 * len(passed) / n
    yield f"{kind}_rolled_back_percent", 100 * len(back) / n
    decided = passed if kind != "worse" else back
    if decided:
        yield f"{kind}_median_pairs_in_shadow", float(np.median([run.pairs for run in decided]))
        yield f"{kind}_median_events", float(np.median([run.events for run in decided]))
    for rule in sorted({run.rule for run in back}):
        share = 100 * sum(run.rule == rule for run in back) / n
        yield f"{kind}_rolled_back_as_{rule.replace(' ', '_')}_percent", share


def _ended(
    end: Literal["live", "rolled_back"], found: Finding, trial: Trial, pairs: int, events: int
) -> Run:
    return Run(end, found.rule, trial.share, pairs, events)


def _mixed(challenger: Rows, live: Rows, in_arm: NDArray[np.bool_]) -> Rows:
    """Return what the live path answers: the challenger's where the entity is in its arm."""
    names = Rows.__slots__
    parts = {name: (getattr(challenger, name), getattr(live, name)) for name in names}
    return Rows(
        **{
            name: np.where(in_arm[:, None] if a.ndim == 2 else in_arm, a, b)
            for name, (a, b) in parts.items()
        }
    )


@lru_cache
def challenger_noise(kind: Kind) -> float:
    """Return the deviation of the challenger's own noise that makes it so much worse or better."""
    if kind == "equal":
        return OWN
    live = _expected_loss(OWN)
    wanted = live * (1 + RELATIVE_MARGIN if kind == "worse" else 1 - RELATIVE_MARGIN)
    low, high = 0.0, 3.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _expected_loss(middle) < wanted else (low, middle)
    return (low + high) / 2


@lru_cache
def _expected_loss(noise: float) -> float:
    """Return a model's expected log loss by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    seen = INTERCEPT + SIGNAL * nodes[:, None, None]
    rate = _sigmoid(seen + OWN_RATE * nodes[None, :, None])
    told = _sigmoid(seen + np.hypot(SHARED, noise) * nodes[None, None, :])
    loss = -(rate * np.log(told) + (1 - rate) * np.log1p(-told))
    return float(np.einsum("ijk,i,j,k->", loss, weights, weights, weights))


@lru_cache
def _known() -> tuple[float, dict[Kind, float], float]:
    """Return the live log loss, the deviation of each kind's differences, the design effect."""
    deviation: dict[Kind, float] = {}
    effects = []
    for kind in KINDS:
        challenger, live, _ = World(10**6, kind).next(400_000)
        gaps = challenger.loss - live.loss
        deviation[kind] = float(gaps.std())
        trial = Trial(2, 1, 1, Labelled(1))
        trial.add_pairs(challenger.at(slice(0, 5_000)), live.at(slice(0, 5_000)))
        effects.append(trial.pairs.difference().design_effect)
    return _expected_loss(OWN), deviation, float(np.mean(effects))


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def main() -> None:
    """Run, print a table, and with --json one object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    begun = time.perf_counter()
    figures = measure(options.runs, RolloutPolicy(longest="3650d"))
    figures["seconds"] = round(time.perf_counter() - begun)
    report("Rollout: what becomes of a challenger", figures, {}, PACKAGES, options.json)


if __name__ == "__main__":
    main()
