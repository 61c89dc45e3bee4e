"""The losses of the live version in the order in which labels came, and the change in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from numpy.typing import NDArray

from serving.concept.detector import Floats
from serving.concept.detectors import detector_named
from serving.concept.dispersion import LossDispersion
from serving.concept.history import Ints, LossHistory, Sums, less, sums_of

START_RATE = 1e-6


@dataclass(frozen=True)
class Moments:
    """n losses, their mean and variance."""

    n: int
    mean: float
    variance: float

    @classmethod
    def of(cls, *sums: Sums) -> Moments:
        """Return what the sums of losses and of their squares come to, all together."""
        n = sum(each[0] for each in sums)
        total, squares = sum(each[1] for each in sums), sum(each[2] for each in sums)
        mean = total / n if n else 0.0
        return cls(n, mean, max(0.0, squares / n - mean**2) if n else 0.0)


class Change(msgspec.Struct, frozen=True):
    """A change that stands: since when, what was before it, and how often there is an alarm as sure
    as that without a change, in a closing as the one that found it."""

    time_ms: int
    partition: int
    offset: int
    n: int
    mean: float
    variance: float
    chance: float

    @property
    def before(self) -> Moments:
        """The losses before it."""
        return Moments(self.n, self.mean, self.variance)


@dataclass(frozen=True)
class Taken:
    """What a closing's losses came to.

    ``change`` is one that stands, and ``begun`` whether it was found now. ``recent`` are the
    losses of the newest window; where a change stands those of them since it, and ``fresh`` those
    that came after the alarm, so that they had no part in it. ``before``
    is what they are compared with. ``chance``: how often there is evidence as sure as that without
    a change, in such a closing; of a change that stands, in the one that found it. ``dispersion``
    is the factor that was allowed for.
    """

    change: Change | None
    begun: bool
    recent: Moments
    fresh: Moments
    before: Moments
    chance: float
    dispersion: float


class LossCourse:
    """The fold over the losses of one version.

    Args:
        detector: its name.
        level: how often one closing may be a false alarm.
        minimum: fewer losses than this since it began anew raise no alarm.
        closings: how many closings a window is.
    """

    def __init__(self, detector: str, level: float, minimum: int, closings: int) -> None:
        self._name, self._level, self._minimum = detector, level, minimum
        self._closings = closings
        self._dispersion = LossDispersion()
        self.begin()

    def begin(self) -> None:
        """Begin anew: another version is live. How alike losses are that come one after the other
        is the world's doing, and stays known."""
        self._detector = detector_named(self._name, START_RATE)
        self._history = LossHistory()
        self._dispersion.part()
        self.change: Change | None = None
        self._until_alarm: Sums = (0, 0.0, 0.0)
        self._after: list[Sums] = []

    @property
    def dispersion(self) -> float:
        """By how much sums of losses vary more than those of independent ones."""
        return self._dispersion.factor

    def take(self, losses: Floats, places: Ints) -> Taken | None:
        """Take a closing's losses (n,) in their order, and (n, 3) the times of their events and
        partition and offset of their labels. Returns None where there is nothing to compare."""
        first = not self._dispersion.known
        if first:  # there is no other measure yet than the losses themselves
            self._dispersion.add(losses)
        factor = self._dispersion.factor
        before = Moments.of(self._history.since(self._history.n - self._detector.span))
        if len(losses):
            self._detector.rate = min(0.01, self._level / len(losses))
        stood, chance, begin = self.change is not None, 1.0, 0
        while begin < len(losses):
            index = self._detector.update(losses[begin:], factor)
            chance = min(chance, self._detector.chance * len(losses))
            end = len(losses) if index is None else begin + index + 1
            self._history.add(losses[begin:end], places[begin:end])
            begin = end
            if index is None:
                break
            if self.change is None and self._history.n >= self._minimum:
                self._stand(losses[begin:], chance)
            self._history.clear()
        if not first:
            self._dispersion.add(losses)
        if stood or self.change is None:
            self._after = [*self._after, sums_of(losses)][-self._closings :]
        if self.change is None:
            recent = Moments.of(*self._after)
            if before.n < self._minimum or not recent.n:
                return None
            return Taken(None, False, recent, recent, before, chance, factor)
        fresh = Moments.of(*self._after)
        whole = len(self._after) < self._closings
        recent = Moments.of(self._until_alarm, *self._after) if whole else fresh
        if not recent.n:  # no label in a whole window
            return None
        change = self.change
        return Taken(change, not stood, recent, fresh, change.before, change.chance, factor)

    def _stand(self, rest: Floats, chance: float) -> None:
        """An alarm: note where the change began and what was before; ``rest`` came after it."""
        n, span = self._history.n, self._detector.span
        found = self._history.place(n - self._detector.onset, n - span)
        before = Moments.of(found.before)
        self.change = Change(
            found.time_ms, found.partition, found.offset,
            before.n, before.mean, before.variance, chance,
        )  # fmt: skip
        self._until_alarm = less(self._history.since(n - span), found.before)
        self._after = [sums_of(rest)]

    def settle(self) -> None:
        """The change is over: the loss is again about what it was before."""
        self.change = None

    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        detector, of_detector = self._detector.snapshot()
        history, of_history = self._history.snapshot()
        content = {
            "detector": detector,
            "history": history,
            "dispersion": self._dispersion.to_json(),
            "change": msgspec.to_builtins(self.change),
            "until_alarm": list(self._until_alarm),
            "after": [list(each) for each in self._after],
        }
        arrays = {f"detector_{name}": each for name, each in of_detector.items()}
        return content, arrays | {f"history_{name}": each for name, each in of_history.items()}

    def load(self, content: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`snapshot` returned."""
        self.begin()
        self._detector.load(content["detector"], under("detector_", arrays))
        self._history.load(content["history"], under("history_", arrays))
        self._dispersion.load(content["dispersion"])
        self.change = msgspec.convert(content["change"], Change | None)
        self._until_alarm = msgspec.convert(content["until_alarm"], Sums)
        self._after = msgspec.convert(content["after"], list[Sums])


def under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names begin with ``prefix``, named without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
