"""The model that is live against the new one, on the same later examples: pure, numpy alone.

The *champion* is the live model, the *challenger* the one just trained. Both are judged on the
examples of the challenger's validation slice whose events come after the champion's cut-off: the
champion has seen nothing of them, the challenger has fitted no parameter of its network to them.
Two things of the challenger do look at the slice. Its calibration is fitted to it: so for the
comparison each half of the slice, by time, is answered with the calibration fitted to the other
(:func:`out_of_fold`). And its best epoch is the one of least loss on the slice: a choice among few,
which favours it a little; records of a comparison say so.

Losses of neighbouring events depend on each other: a rainy day is hard for both models. So the
interval comes from the means of consecutive blocks, not from single examples: with b = 20 blocks of
the differences d, mean ± t(b − 1) · s/√b, s the deviation of the block means ("batch means", e.g.
Schmeiser 1982). It holds where dependence reaches less far than a block, a twentieth of the slice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

BLOCKS = 20
LEVEL = 0.95
MINIMUM = 10 * BLOCKS
"""Fewer examples than this are not compared: their block means would say nothing."""

Policy = Literal["not_worse", "better", "none"]
Losses = NDArray[np.float64]
"""One loss per example, (n,), in order of event time; smaller is better."""


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds that hold the expected value with probability :data:`LEVEL`."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return "-0.0120 [-0.0180, -0.0060]"."""
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True)
class Paired:
    """A score of both models on the same examples; ``difference`` is challenger − champion."""

    champion: float
    challenger: float
    difference: Interval


@dataclass(frozen=True)
class Comparison:
    """What the challenger showed against ``champion``, the version that was live; 0 for none.

    ``scores`` maps the name of a score to its figures; the first decides. ``from_ms`` and
    ``to_ms`` are the first and the last event time of the ``n`` examples. ``not_compared`` says
    why there are no figures, and is None where there are.
    """

    champion: int
    n: int = 0
    from_ms: int | None = None
    to_ms: int | None = None
    scores: dict[str, Paired] = field(default_factory=dict)
    not_compared: str | None = None

    @property
    def deciding(self) -> Interval | None:
        """The difference of the score that decides, or None where nothing was compared."""
        return next((paired.difference for paired in self.scores.values()), None)

    def to_json(self) -> dict[str, Any]:
        """Return the plain form that the control log keeps."""
        plain = asdict(self)
        if self.scores:
            plain["level"], plain["blocks"] = LEVEL, BLOCKS
            plain["favours_challenger"] = "its best epoch was chosen on this slice"
        return plain

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Comparison:
        """Return the comparison that :meth:`to_json` wrote."""
        scores = {
            name: Paired(of["champion"], of["challenger"], Interval(**of["difference"]))
            for name, of in content["scores"].items()
        }
        kept = ("champion", "n", "from_ms", "to_ms", "not_compared")
        return cls(**{name: content[name] for name in kept}, scores=scores)

    def __str__(self) -> str:
        """Return a line for people."""
        for name, paired in self.scores.items():
            return (
                f"{name.replace('_', ' ')} {paired.difference} against model {self.champion} on "
                f"{self.n:,} later examples"
            )
        return f"not compared: {self.not_compared}"


def compare(
    champion: int,
    scores: Mapping[str, tuple[Losses, Losses]],
    event_times_ms: NDArray[np.int64],
) -> Comparison:
    """Return the comparison of losses per example, in order of event time.

    Args:
        champion: the version that is live.
        scores: name → (the champion's losses, the challenger's), the deciding score first.
        event_times_ms: of the examples, ascending.
    """
    n = len(event_times_ms)
    if n < MINIMUM:
        why = (
            f"{n:,} examples of the validation slice are later than what model {champion} was "
            f"trained on, and {MINIMUM} are needed"
        )
        return Comparison(champion, n, not_compared=why)
    paired = {}
    for name, (of_champion, of_challenger) in scores.items():
        if not (np.isfinite(of_champion).all() and np.isfinite(of_challenger).all()):
            why = f"a {name.replace('_', ' ')} of model {champion} or the new one is not finite"
            return Comparison(champion, n, not_compared=why)
        difference = interval(of_challenger - of_champion)
        paired[name] = Paired(float(of_champion.mean()), float(of_challenger.mean()), difference)
    return Comparison(champion, n, int(event_times_ms[0]), int(event_times_ms[-1]), paired)


def interval(differences: Losses, blocks: int = BLOCKS, level: float = LEVEL) -> Interval:
    """Return mean and bounds of ``differences`` (n,), in order of time, which may depend on their
    neighbours: by the means of ``blocks`` consecutive blocks.

    >>> interval(np.tile([0.0, 1.0], 100))
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    from scipy.special import stdtrit

    means = np.array([block.mean() for block in np.array_split(differences, blocks)])
    mean = float(differences.mean())
    half = float(stdtrit(blocks - 1, 0.5 + level / 2) * means.std(ddof=1) / math.sqrt(blocks))
    return Interval(mean, mean - half, mean + half)


def objection(comparison: Comparison | None, policy: Policy) -> str | None:
    """Return why ``policy`` (see :class:`training.spec.Training`) keeps the challenger from going
    live, or None where it does not.

    What could not be compared is no objection: a pipeline's model must not stand still because
    there is nothing to compare it on.
    """
    found = comparison.deciding if comparison is not None else None
    if found is None or policy == "none":
        return None
    if found.low > 0:
        return f"worse than the live model beyond chance: {comparison}"
    if policy == "better" and found.high >= 0:
        return f"not better than the live model beyond chance: {comparison}"
    return None


def out_of_fold(
    outputs: NDArray[Any],
    targets: NDArray[Any],
    losses: Callable[[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]], dict[str, Losses]],
) -> dict[str, Losses]:
    """Return name → losses (n,) where each half, by time, is judged as calibrated on the other.

    Args:
        outputs: of the network, (n, ...), in order of event time.
        targets: (n,).
        losses: from (outputs and targets to calibrate on, outputs and targets to judge) to losses.
    """
    middle = len(targets) // 2
    first, second = slice(0, middle), slice(middle, None)
    halves = [
        losses(outputs[fitted], targets[fitted], outputs[judged], targets[judged])
        for fitted, judged in ((second, first), (first, second))
    ]
    return {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
