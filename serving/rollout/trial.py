"""What is known of one version on its way: sums of its outcomes beside those of the live version.

In shadow both versions answer the same events, so the losses are compared pair by pair. The version
stays in shadow while it is in canary, and the pairs go on: there the arms answer different
entities, and are compared as independent, stage after stage anew.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serving.rollout.labelled import Labelled
from serving.rollout.rows import Rows
from serving.rollout.sums import Comparison

ENTITIES = 16_384
"""Entities of a canary's stage, the first to be seen, whose arms are counted."""

Step = Literal["shadow", "canary"]


@dataclass(slots=True)
class Trial:
    """A version on its way; sums only, of bounded memory.

    ``live`` is the version it is compared with. ``share`` is that of a canary, 0 in shadow.
    ``since`` and ``begins`` (partition → offset of the features topic) are where the shadow and the
    canary's stage begin.
    ``first_ms`` and ``newest_ms`` are the event times between which outcomes of the stage lie.
    ``entities``: place of an entity → whether the canary answers it.
    """

    version: int
    live: int
    definition: int
    labelled: Labelled
    since: dict[int, int] = field(default_factory=dict)
    share: float = 0.0
    pairs: Comparison = field(default_factory=Comparison)
    arms: Comparison = field(default_factory=Comparison)
    begins: dict[int, int] = field(default_factory=dict)
    first_ms: int = 0
    newest_ms: int = 0
    entities: dict[float, bool] = field(default_factory=dict)

    @property
    def stage(self) -> Step:
        """The stage it is in."""
        return "canary" if self.share else "shadow"

    @property
    def elapsed_ms(self) -> int:
        """How much event time its stage has seen."""
        return self.newest_ms - self.first_ms

    @property
    def entity_counts(self) -> tuple[int, int]:
        """How many entities the canary answers, and how many the live version."""
        in_arm = sum(self.entities.values())
        return in_arm, len(self.entities) - in_arm

    def enter(self, share: float) -> None:
        """Begin a stage: what was summed of the arms, and its time, begin anew."""
        self.share = share
        self.arms, self.begins, self.entities = Comparison(), {}, {}
        self.first_ms = self.newest_ms = 0

    def add_pairs(self, challenger: Rows, live: Rows) -> None:
        """Count answers of both versions to the same events."""
        if len(live):
            self.pairs.add_pairs(challenger, live)

    def add_arms(self, rows: Rows, is_challenger: NDArray[np.bool_]) -> None:
        """Count answers of the canary's stage, in the order of the log."""
        if not len(rows):
            return
        self.arms.add_arms(rows, is_challenger)
        if len(self.entities) < ENTITIES:
            for place, in_arm in zip(rows.entity.tolist(), is_challenger.tolist(), strict=True):
                if len(self.entities) < ENTITIES:
                    self.entities.setdefault(place, in_arm)

    def pass_time(self, event_ms: NDArray[np.int64]) -> None:
        """Note the event times of outcomes of the stage, (n,)."""
        if len(event_ms):
            first, newest = int(event_ms.min()), int(event_ms.max())
            self.first_ms = min(self.first_ms, first) if self.newest_ms else first
            self.newest_ms = max(self.newest_ms, newest)
