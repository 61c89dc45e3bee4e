"""From label records to what the windows over labels take, placed among the events."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.engine.columns import LabelColumns, LabelDecoder
from features.engine.decoding import trim_before
from features.engine.identities import SeenIds
from streams.batch import LogBatch
from streams.errors import StateError


@dataclass(frozen=True, slots=True)
class PlacedLabels:
    """Labels in log order; ``before`` (m,) says before which event of a batch each is applied."""

    columns: LabelColumns
    before: NDArray[np.int64]

    def split(self, event: int) -> tuple["PlacedLabels", "PlacedLabels"]:
        """Return those up to right before event ``event``, and the others as placed from it on."""
        n = int(np.searchsorted(self.before, event, side="right"))
        return (
            PlacedLabels(self.columns.between(0, n), self.before[:n]),
            PlacedLabels(self.columns.between(n, len(self.before)), self.before[n:] - event),
        )


class LabelFeed:
    """The labels that one partition's stage has taken.

    A label is taken once: those before ``offset`` were taken earlier, and an id that comes again
    within ``dedupe_ms`` of the labels' own time is a repetition.
    """

    def __init__(self, decoder: LabelDecoder, dedupe_ms: int) -> None:
        self._decoder = decoder
        self._ids = SeenIds(dedupe_ms)
        self.offset = 0

    def take(self, batch: LogBatch | None, seen: NDArray[np.int64]) -> PlacedLabels:
        """Take the next labels; ``seen`` (n,) are the label offsets of the events, ascending.

        Raises:
            StateError: an event has seen labels that are not among them.
        """
        if batch is None:
            batch = _NO_LABELS
        columns = self._decoder.decode(trim_before(batch, self.offset))
        is_new, _ = self._ids.admit(columns.ids, columns.known_ms)
        if not is_new.all():
            columns = columns.only(is_new)
        self.offset = max(self.offset, batch.next_offset)
        if len(seen) and seen[-1] > self.offset:
            raise StateError(
                f"an event was computed with the labels before offset {int(seen[-1])}, but only "
                f"those before {self.offset} were given: the labels partition was cut off, or read "
                "too little"
            )
        return PlacedLabels(columns, np.searchsorted(seen, columns.offsets, side="right"))

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return the state as plain arrays."""
        ids = self._ids.snapshot()
        return {
            "label_offset": np.array([self.offset], dtype=np.int64),
            "label_watermark_ms": ids["watermark_ms"],
            "label_ids": ids["seen_ids"],
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Put back what :meth:`snapshot` returned; raises ValueError where it is damaged."""
        if arrays["label_offset"].shape != (1,):
            raise ValueError(f"label_offset has shape {arrays['label_offset'].shape}")
        self.offset = int(arrays["label_offset"][0])
        self._ids.restore(arrays["label_watermark_ms"], arrays["label_ids"])


_NO_LABELS = LogBatch(
    "", 0, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), [], [], next_offset=0
)
