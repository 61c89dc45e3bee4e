"""What the monitor is made of: watches, each of which keeps sums over steps and judges windows."""

# ruff: noqa: B027 (what a watch has no use for it leaves empty)

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.records import FeatureRows
from serving.alerting.finding import Finding
from serving.monitoring.judging import LiveModel
from serving.monitoring.matching import Matches

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answered:
    """n predictions of the live path: ``scores`` (n,) or (n, width), see
    :mod:`serving.monitoring.told`; ``versions``, ``event_times_ms`` (n,)."""

    scores: Floats
    versions: Ints
    event_times_ms: Ints

    def only(self, chosen: NDArray[np.bool_]) -> Answered:
        """Return the predictions where ``chosen`` (n,) holds."""
        if chosen.all():
            return self
        return Answered(self.scores[chosen], self.versions[chosen], self.event_times_ms[chosen])


class Watch(ABC):
    """One thing looked at. Pure: a fold over what is added, the same whatever the order in which
    records of one step come and however batches are cut; only integers are summed, or what depends
    on an order is put into one (by time, partition, offset) when the step closes.

    Predictions and matches that come can be scored (:mod:`serving.monitoring.told`).

    Methods that a watch has no use for it leaves as they are here: they do nothing.
    """

    def add_features(self, rows: FeatureRows, fresh: NDArray[np.bool_]) -> None:
        """Take feature records; ``fresh`` (n,) leaves out those that repeat a source offset."""

    def add_answers(self, answered: Answered) -> None:
        """Take predictions."""

    def add_matches(self, matches: Matches) -> None:
        """Take predictions whose labels have come."""

    def use(self, live: LiveModel) -> None:
        """Another version is live, or the same after a restart. Before its first call no model is
        live. Where the bins of its features are others, :meth:`forget_features` follows."""

    def forget_features(self) -> None:
        """Forget what came by :meth:`add_features`: from where a window can still reach, it is
        added again, as it was or as another definition has it."""

    @abstractmethod
    def close(self, live: LiveModel, end_ms: int) -> list[Finding]:
        """Judge the windows that end at ``end_ms``."""

    def forget(self, before_ms: int) -> None:
        """Steps that begin before are in no window any more."""

    @abstractmethod
    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""

    @abstractmethod
    def load(self, content: Any, arrays: Mapping[str, NDArray[Any]], /) -> None:
        """Take over what :meth:`snapshot` returned, of a watch declared in the same way."""
