"""How long labels take, and how many do not come: sums per step. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.monitoring.cells import cells_of
from serving.monitoring.windows import StepSums, step_starts
from serving.performance.packing import pack, unpack

PER_DOUBLING = 8
CELLS = 27 * PER_DOUBLING + 1
"""Cells of delays from a second to four years; a median is right to a tenth."""
PAST = 4
"""The usual delay is that of so many windows before."""
SHARES = 28
"""Closings whose share of unlabelled predictions is remembered."""

Ints = NDArray[np.int64]


def delay_cells(delays_ms: Ints) -> Ints:
    """Return the cell of each delay, (n,); a label from before its event has none."""
    seconds = np.maximum(delays_ms / 1000, 1.0)
    found: Ints = np.clip(np.ceil(np.log2(seconds) * PER_DOUBLING), 0, CELLS - 1).astype(np.int64)
    return found


def delay_quantile(counts: Ints, share: float) -> float:
    """Return the delay in seconds, the upper bound of its cell, that ``share`` of ``counts``
    (CELLS,) do not exceed."""
    reached = np.searchsorted(np.cumsum(counts), share * counts.sum(), side="left")
    return float(2.0 ** (float(reached) / PER_DOUBLING))


class LabelDelay:
    """Delays by the step in which the label came; predictions and labels by the event's step."""

    def __init__(self, step_ms: int, window_ms: int) -> None:
        self._step_ms, self._window_ms = step_ms, window_ms
        self._sums, self._coming = StepSums(step_ms), StepSums(step_ms)
        self._shares: list[float] = []

    def add_answers(self, event_times_ms: Ints) -> None:
        """Take predictions."""
        self._sums.add("answered", event_times_ms, np.ones((len(event_times_ms), 1), np.int64))

    def add_matches(self, event_times_ms: Ints, label_times_ms: Ints) -> None:
        """Take predictions whose labels have come."""
        if not len(event_times_ms):
            return
        came = step_starts(label_times_ms, self._step_ms)
        events = step_starts(event_times_ms, self._step_ms)
        numbers, first = cells_of([came, events])
        counts = np.bincount(numbers)
        for row, count in zip(first.tolist(), counts.tolist(), strict=True):
            self._coming.add_total(f"{came[row]}", int(events[row]), np.array([count]))
        numbers, first = cells_of([came])
        places = numbers * CELLS + delay_cells(label_times_ms - event_times_ms)
        totals = np.bincount(places, minlength=len(first) * CELLS).reshape(-1, CELLS)
        for row, total in zip(first.tolist(), totals, strict=True):
            self._sums.add_total("delay", int(came[row]), total)

    def settle(self, end_ms: int) -> None:
        """Count the labels that came before ``end_ms``; what was read ahead waits."""
        coming = StepSums(self._step_ms)
        for came, event, total in self._coming.items():
            if int(came) < end_ms:
                self._sums.add_total("labelled", event, total)
            else:
                coming.add_total(came, event, total)
        self._coming = coming

    def delays(self, end_ms: int) -> tuple[Ints, Ints]:
        """Return the counts (CELLS,) of the window that ends, and of the ones before it."""
        begin = end_ms - self._window_ms
        now = self._sums.window("delay", begin, end_ms)
        past = self._sums.window("delay", begin - PAST * self._window_ms, begin)
        nothing = np.zeros(CELLS, np.int64)
        return nothing if now is None else now, nothing if past is None else past

    def unlabelled(self, end_ms: int, usual_s: float) -> tuple[float, int, float | None] | None:
        """Return the share of predictions without a label, of a window of events that are older
        than ``usual_s``; their number; and the usual share, None in the beginning. The share is
        remembered, so it is to be asked for once per closing, after :meth:`settle`.

        None where there were none.
        """
        late_ms = int(np.ceil(usual_s * 1000 / self._step_ms)) * self._step_ms
        begin, end = end_ms - late_ms - self._window_ms, end_ms - late_ms
        answered = self._sums.window("answered", begin, end)
        if answered is None:
            return None
        labelled = self._sums.window("labelled", begin, end)
        n = int(answered[0])
        share = max(0.0, 1 - (0 if labelled is None else int(labelled[0])) / n)
        known = self._shares[: max(0, len(self._shares) - self._window_ms // self._step_ms)]
        usual = float(np.median(known)) if known else None
        self._shares = [*self._shares, share][-SHARES - self._window_ms // self._step_ms :]
        return share, n, usual

    def forget(self, end_ms: int) -> None:
        """Nothing is needed of steps that ended :data:`PAST` windows and more before ``end_ms``;
        of longer delays than that no share is told."""
        self._sums.drop_before(end_ms - (PAST + 1) * self._window_ms)

    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        keys, arrays = pack(self._sums, "delay")
        coming, of_coming = pack(self._coming, "coming")
        content = {"sums": keys, "coming": coming, "shares": self._shares}
        return content, arrays | of_coming

    def load(self, content: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`snapshot` returned."""
        self._sums = unpack(self._step_ms, content["sums"], arrays, "delay")
        self._coming = unpack(self._step_ms, content["coming"], arrays, "coming")
        self._shares = [float(x) for x in content["shares"]]
