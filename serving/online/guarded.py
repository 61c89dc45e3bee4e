"""A learner under guard: what it learned is kept only while it answers no worse than its base.

The base is the version that was trained. After each stretch of outcomes in which the guard found
nothing, the weights from the stretch's beginning are the good ones: they have stood a whole
stretch. Where the guard finds the answers worse, the learner goes back to the good weights at half
the rate; where it does so again before a stretch has stood, to the base. Each stretch that stands
doubles the rate again, up to the declared one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serving.online.declared import Online
from serving.online.guard import Guard
from serving.online.learner import Arrays, Inputs, Learner
from streams.errors import StateError
from training.calibration import Calibration, Platt, Spread, Temperature, calibration_from_json
from training.networks.tasks import MultiClass, Regression
from training.package import Parts
from training.scores import losses
from training.standard import Standard, stored_targets

CALIBRATED_FROM = 200
"""With fewer outcomes since the beginning or a return the base's calibration is kept."""

_LEAST_FACTOR = 1 / 64

Floats = NDArray[np.float64]
Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Standing:
    """Weights that one may go back to, and the command of the version published by then.

    ``published`` is "" for the base itself.
    """

    weights: Weights
    published: str = ""


@dataclass(frozen=True)
class Returned:
    """The learner went back: to the ``good`` weights or the ``base``, ``published`` as that."""

    to: Literal["good", "base"]
    published: str
    evidence: dict[str, Any]


class GuardedLearner:
    """Learns from outcomes, answers before it does, and goes back where that did harm.

    Args:
        base: the package that it begins from.
        declared: how it learns.
    """

    def __init__(self, base: Parts, declared: Online) -> None:
        self._base, self._declared = base, declared
        self.calibration: Calibration = base.calibration
        shifts, self._standard = _undone(base.calibration)
        self._learner = Learner(base.shape, base.task, base.weights, declared, shifts)
        still = replace(declared, learning_rate=declared.rates[0], replay=0)
        self._still = Learner(base.shape, base.task, base.weights, still, shifts)
        self._guard = Guard(declared.guard, declared.alpha)
        self._good = self._candidate = Standing(dict(base.weights))
        self._strikes = 0
        self.returns = 0
        self.published = ""
        """The command of the version that was published last; "" before the first."""
        self._outputs = np.empty((0, base.shape.outputs))
        self._targets = np.empty(0)
        self._figures: dict[str, float] = {"n_outcomes": 0.0}

    @property
    def learned(self) -> int:
        """How many outcomes it has learned from."""
        return self._learner.learned

    @property
    def refused(self) -> int:
        """How many updates were not made, since they were no numbers."""
        return self._learner.refused

    @property
    def standing(self) -> tuple[str, str]:
        """The commands of the versions that it may go back to."""
        return self._good.published, self._candidate.published

    def outputs(self, inputs: Inputs) -> Floats:
        """Return the network's outputs (n, O), before calibration."""
        return self._learner.outputs(inputs)

    def learn(self, inputs: Inputs, targets: Floats) -> Returned | None:
        """Answer a mini-batch, learn from it, and say where it went back.

        ``targets`` (n,) are the task's.
        """
        task = self._base.task
        # One dtype whatever the task: the loss makes class numbers of them again.
        stored = stored_targets(task, targets, self._standard).astype(np.float64)
        scored = self._learner.learn(inputs, stored)
        with np.errstate(all="ignore"):  # weights gone astray are found by what they answer
            mine = losses(task, self.calibration.answers(scored.outputs), targets)
        base = losses(task, self._base.calibration.answers(self._still.outputs(inputs)), targets)
        self._count(mine, base, scored.outputs, targets)
        deciding = list(mine)[1]  # Brier score or CRPS: proper, and no single answer outweighs all
        finding = self._guard.judge(mine[deciding], base[deciding])
        if finding.worse or not self._learner.is_finite():
            return self._go_back({"score": deciding, **finding.evidence})
        size = self._declared.buffer
        self._outputs = np.concatenate([self._outputs, scored.outputs])[-size:]
        self._targets = np.concatenate([self._targets, targets])[-size:]
        if finding.stood:
            self._good = self._candidate
            self._candidate = Standing(self._learner.weights(), self.published)
            self._strikes = 0
            self._learner.rate_factor = min(1.0, 2 * self._learner.rate_factor)
        return None

    def current(self) -> tuple[Weights, Calibration]:
        """Return the weights as they are now, and the calibration that answers with them."""
        return self._learner.weights(), self.calibration

    def publish(self, command_id: str) -> tuple[Weights, Calibration, dict[str, float]]:
        """Return weights, calibration and figures of a version, which ``command_id`` is of.

        The figures are of the outcomes since the version before, each answered before it was
        learned from; those of the base beside them.
        """
        if len(self._targets) >= CALIBRATED_FROM:
            self.calibration = self._base.calibration.refit(self._outputs, self._targets)
        n = max(1, int(self._figures["n_outcomes"]))
        figures = {
            name: value if name.startswith("n_") else value / n
            for name, value in self._figures.items()
        }
        self._figures = {"n_outcomes": 0.0}
        self.published = command_id
        return self._learner.weights(), self.calibration, figures

    # --- as plain arrays -------------------------------------------------------------------------

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return all that it knows: plain arrays, and JSON values."""
        arrays = {f"learner.{name}": array for name, array in self._learner.state().items()}
        for kind, standing in (("good", self._good), ("candidate", self._candidate)):
            arrays |= {f"{kind}.{name}": array for name, array in standing.weights.items()}
        arrays |= {
            "outputs": self._outputs, "targets": self._targets,
            "differences": self._guard.differences,
        }  # fmt: skip
        told = {
            "calibration": self.calibration.to_json(),
            "good": self._good.published,
            "candidate": self._candidate.published,
            "published": self.published,
            "strikes": self._strikes,
            "returns": self.returns,
            "figures": self._figures,
        }
        return arrays, told

    def restore(self, arrays: Mapping[str, NDArray[Any]], told: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave; raises StateError where that does not fit."""
        self._learner.restore(_of("learner", arrays))
        try:
            names = list(self._base.weights)
            standings = [
                Standing({name: arrays[f"{kind}.{name}"] for name in names}, str(told[kind]))
                for kind in ("good", "candidate")
            ]
            self._good, self._candidate = standings
            self._outputs, self._targets = arrays["outputs"], arrays["targets"]
            self._guard.differences = arrays["differences"]
            self.calibration = calibration_from_json(told["calibration"])
            self.published = str(told["published"])
            self._strikes, self.returns = int(told["strikes"]), int(told["returns"])
            self._figures = {k: float(v) for k, v in told["figures"].items()}
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"no state of an online learner: {error!r}") from error

    # --- parts -----------------------------------------------------------------------------------

    def _go_back(self, evidence: dict[str, Any]) -> Returned:
        self.returns += 1
        to: Literal["good", "base"] = "base" if self._strikes else "good"
        self._strikes += 1
        where = Standing(dict(self._base.weights)) if to == "base" else self._good
        factor = max(_LEAST_FACTOR, self._learner.rate_factor / 2)
        self._learner.go_back(where.weights, factor)
        self._guard.begin()
        self._good = self._candidate = where
        self._outputs, self._targets = self._outputs[:0], self._targets[:0]
        if not where.published:
            self.calibration = self._base.calibration
        return Returned(to, where.published, {**evidence, "rate_factor": factor})

    def _count(
        self,
        mine: Mapping[str, Floats],
        base: Mapping[str, Floats],
        outputs: Floats,
        targets: Floats,
    ) -> None:
        sums = {name: float(values.sum()) for name, values in mine.items()}
        sums |= {f"base_{name}": float(values.sum()) for name, values in base.items()}
        right = self._right(outputs, targets)
        if right is not None:
            sums["accuracy"] = right
        for name, value in sums.items():
            self._figures[name] = self._figures.get(name, 0.0) + value
        self._figures["n_outcomes"] += len(targets)

    def _right(self, outputs: Floats, targets: Floats) -> float | None:
        if isinstance(self._base.task, Regression):
            return None
        answers = self.calibration.answers(outputs)
        if isinstance(self._base.task, MultiClass) and answers.probabilities is not None:
            return float((answers.probabilities.argmax(axis=1) == targets).sum())
        return float(((answers.score >= 0.5) == (targets >= 0.5)).sum())


def _undone(calibration: Calibration) -> tuple[Sequence[float], Standard]:
    """Return what the loss takes off the outputs, and the units of the targets."""
    match calibration:
        case Platt(shift=shift):
            return (shift,), Standard()
        case Temperature(shifts=shifts):
            return shifts, Standard()
        case Spread(standard=standard):
            return (), standard
        case _:
            raise TypeError(f"no calibration of a known task: {calibration!r}")


def _of(kind: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    return {
        name.removeprefix(f"{kind}."): array
        for name, array in arrays.items()
        if name.startswith(f"{kind}.")
    }
