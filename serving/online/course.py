"""One learner's way through the outcomes, from the version that it began from.

A mini-batch is of one partition of the outcomes topic: exactly as many as declared, in log order.
So how reading happened to be cut does not matter. Which partition is next, where several have
enough, is the one that has waited longest in the order of their numbers; with several partitions it
depends on what has come when, and is told (:attr:`Course.taken`), so that a version can be made
again from its manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.records import FeatureCodec
from serving.online.declared import Online
from serving.online.guarded import GuardedLearner, Returned
from serving.online.learner import Arrays, Inputs
from serving.online.outcomes import OUTCOME, Rows, usable_outcomes
from serving.online.rows import EncodedRows
from streams.batch import LogBatch
from streams.errors import StateError
from streams.wire import Positions, Registered
from training.package import Parts


@dataclass(frozen=True)
class Step:
    """What a mini-batch came to; ``due``: a version is to be published."""

    returned: Returned | None
    due: bool


class Course:
    """Learner, queues and rows of one base version.

    Args:
        base: the version.
        parts: its package.
        codec: of its definition's feature records.
        declared: how it learns.
        start: partition of the outcomes topic → first offset.
    """

    def __init__(
        self,
        base: Registered,
        parts: Parts,
        codec: FeatureCodec,
        declared: Online,
        start: Mapping[int, int],
    ) -> None:
        self.base, self._parts, self._codec = base, parts, codec
        self._declared = declared
        self.learner = GuardedLearner(parts, declared)
        self.after_ms = int(parts.manifest.get("label_cutoff_ms") or parts.manifest["cutoff_ms"])
        self.start, self.positions = dict(start), dict(start)
        self.newest_ms = self.after_ms
        """The newest label that was learned from."""
        self.too_old = 0
        """Outcomes whose features were not held any more."""
        self.taken: list[list[int]] = []
        """(partition, mini-batches) since the version before, in their order."""
        self._queues: dict[int, Rows] = {p: np.empty(0, OUTCOME) for p in start}
        self._read = dict(start)
        self._rows: dict[int, EncodedRows] = {}
        self._reached: dict[int, int] = {}
        self._turn = 0
        self._published_at = 0

    # --- what comes in ---------------------------------------------------------------------------

    def take(self, batch: LogBatch) -> None:
        """Take outcomes; those that were taken before are left out."""
        p = batch.partition
        rows = usable_outcomes(batch, self.base.definition, self._parts.task, self.after_ms)
        rows = rows[rows["offset"] >= self._read[p]]
        self._queues[p] = np.concatenate([self._queues[p], rows])
        self._read[p] = max(self._read[p], batch.next_offset)

    def is_full(self, batches: int) -> bool:
        """Return whether so many mini-batches wait in a partition: no more need be read."""
        return any(len(q) >= batches * self._declared.batch for q in self._queues.values())

    def wanted(self) -> dict[int, tuple[int, int]]:
        """Return features partition → (offset to begin from where nothing was read yet, offset up
        to which rows are missing for the mini-batches at hand)."""
        wanted: dict[int, tuple[int, int]] = {}
        for queue in self._queues.values():
            for partition, end in _ends(self._next(queue)).items():
                rows = self._rows.get(partition)
                if rows is None or rows.next_offset < end:
                    end = max(end, wanted.get(partition, (0, 0))[1])
                    begin = max(0, self._reached.get(partition, end) - self._declared.rows)
                    wanted[partition] = (begin, end)
        return wanted

    def begin_rows(self, partition: int, offset: int) -> None:
        """Rows of ``partition`` come from ``offset`` on."""
        encoding, last = self._parts.encoding, self._parts.shape.last
        self._rows[partition] = EncodedRows(encoding, last, offset)

    def give(self, batch: LogBatch) -> None:
        """Take feature records."""
        rows = self._rows[batch.partition]
        keep_from = self._oldest(batch.partition)
        rows.append(self._codec.decode(batch), batch.offsets, batch.next_offset, keep_from)

    def is_ahead(self, partition: int) -> bool:
        """Return whether rows of ``partition`` were read far enough ahead."""
        rows = self._rows.get(partition)
        reached = self._reached.get(partition, 0)
        return rows is not None and rows.next_offset - reached > self._declared.rows

    # --- learning --------------------------------------------------------------------------------

    def step(self) -> Step | None:
        """Learn one mini-batch; None where none is complete with its features."""
        partitions = sorted(self._queues)
        for i in range(len(partitions)):
            p = partitions[(self._turn + i) % len(partitions)]
            chosen = self._complete(p)
            if chosen is not None:
                self._turn = (self._turn + i + 1) % len(partitions)
                return self._learn(p, *chosen)
        return None

    def _learn(self, p: int, rows: Rows, inputs: Inputs) -> Step:
        returned = self.learner.learn(inputs, rows["target"])
        self._queues[p] = self._queues[p][len(rows) :]
        self.positions[p] = int(rows["offset"][-1]) + 1
        self.newest_ms = max(self.newest_ms, int(rows["time_ms"].max()))
        if self.taken and self.taken[-1][0] == p:
            self.taken[-1][1] += 1
        else:
            self.taken.append([p, 1])
        due = self.learner.learned - self._published_at >= self._declared.publish_every
        return Step(returned, due)

    def _complete(self, p: int) -> tuple[Rows, Inputs] | None:
        """Return a mini-batch of partition ``p`` with its inputs, or None."""
        while len(rows := self._next(self._queues[p])):
            oldest = np.array([self._oldest(f) for f in rows["partition"].tolist()])
            if (bad := rows["row"] < oldest).any():
                self._drop(p, bad)
                continue
            ends = _ends(rows)
            if any(f not in self._rows or self._rows[f].next_offset < e for f, e in ends.items()):
                return None
            found = np.empty(len(rows), np.int64)
            for f in ends:
                mine = rows["partition"] == f
                found[mine] = self._rows[f].find(rows["row"][mine])
            if (bad := found < 0).any():
                self._drop(p, bad)
                continue
            for f, end in ends.items():
                self._reached[f] = max(self._reached.get(f, 0), end)
            return rows, self._inputs(rows, found)
        return None

    def _inputs(self, rows: Rows, found: NDArray[np.int64]) -> Inputs:
        columns: list[NDArray[Any]] = []
        for f in np.unique(rows["partition"]).tolist():
            mine = rows["partition"] == f
            parts = self._rows[f].inputs(found[mine], self._oldest(f))
            if not columns:
                columns = [np.zeros((len(rows), *c.shape[1:]), c.dtype) for c in parts]
            for column, part in zip(columns, parts, strict=True):
                column[mine] = part
        return tuple(columns)

    def _drop(self, p: int, bad: NDArray[np.bool_]) -> None:
        self.too_old += int(bad.sum())
        n = len(bad)
        self._queues[p] = np.concatenate([self._queues[p][:n][~bad], self._queues[p][n:]])

    def _next(self, queue: Rows) -> Rows:
        n = self._declared.batch
        return queue[:n] if len(queue) >= n else queue[:0]

    def _oldest(self, partition: int) -> int:
        """Return the first offset whose row counts as held."""
        return max(0, self._reached.get(partition, 0) - self._declared.rows)

    # --- publishing and state --------------------------------------------------------------------

    @property
    def command_id(self) -> str:
        """A name of what was learned from: a function of base and positions alone."""
        at = "-".join(str(self.positions[p]) for p in sorted(self.positions))
        return f"online-{self.base.version}-{at}"

    def note_published(self) -> None:
        """A version was published."""
        self._published_at = self.learner.learned
        self.taken = []

    def offsets(self) -> dict[str, list[int]]:
        """Return partition → [first, end) of the outcomes since the base."""
        return {str(p): [self.start[p], self.positions[p]] for p in sorted(self.positions)}

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return what goes on from here: arrays and JSON values."""
        arrays, told = self.learner.state()
        return arrays, {
            "base": self.base.version,
            "sha256": self.base.sha256,
            "start": _texts(self.start),
            "positions": _texts(self.positions),
            "reached": _texts(self._reached),
            "newest_ms": self.newest_ms,
            "too_old": self.too_old,
            "taken": self.taken,
            "turn": self._turn,
            "published_at": self._published_at,
            "learner": told,
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]], told: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave.

        Raises:
            StateError: it is of another base, or damaged.
        """
        try:
            if told["sha256"] != self.base.sha256:
                raise ValueError(f"it is of model {told['base']}, not of {self.base.version}")
            self.start, self.positions = _numbers(told["start"]), _numbers(told["positions"])
            self._read = dict(self.positions)
            self._reached = _numbers(told["reached"])
            self.newest_ms, self.too_old = int(told["newest_ms"]), int(told["too_old"])
            self.taken = [list(map(int, pair)) for pair in told["taken"]]
            self._turn, self._published_at = int(told["turn"]), int(told["published_at"])
            if set(self.positions) != set(self._queues):
                raise ValueError(f"it is of {len(self.positions)} partitions")
            learner = told["learner"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateError(f"no state of this learner: {error}") from error
        self.learner.restore(arrays, learner)


def _ends(rows: Rows) -> dict[int, int]:
    """Return features partition → offset behind the last row that is needed."""
    return {
        int(p): int(rows["row"][rows["partition"] == p].max()) + 1
        for p in np.unique(rows["partition"])
    }


def _texts(positions: Mapping[int, int]) -> Positions:
    return {str(p): at for p, at in sorted(positions.items())}


def _numbers(positions: Mapping[str, int]) -> dict[int, int]:
    return {int(p): int(at) for p, at in positions.items()}
