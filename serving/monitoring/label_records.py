"""Label records: decoded into columns, the unusable ones apart with the reason."""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.batch import LogBatch
from streams.dead_letters import DECODE_ERROR, NULL_VALUE, VALIDATION_ERROR, DeadLetter
from streams.stream import LabelStream
from training.networks.tasks import Binary, Task
from training.targets import Targets

ORPHAN_LABEL = "OrphanLabel"
DUPLICATE_LABEL = "DuplicateLabel"

_BINARY = Binary()
_UNREADABLE = (msgspec.MsgspecError, TypeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class LabelRows:
    """Usable labels of one batch, log order; ``rows`` (n,) are their places in the batch.

    ``labels`` (n,) are what the task answers, as a number (:class:`training.targets.Targets`);
    ``times_ms`` (n,) when they became known, milliseconds since the epoch; ``offsets`` (n,) where
    they stand in the partition.
    """

    event_ids: list[str]
    labels: NDArray[np.float64]
    times_ms: NDArray[np.int64]
    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]


class LabelCodec:
    """Decodes the values of a labels topic, as ``task`` understands them."""

    def __init__(self, stream: LabelStream, task: Task = _BINARY) -> None:
        self._decode = msgspec.json.Decoder(stream.type).decode
        self._targets = Targets(task, stream.target)
        self._id = attrgetter(stream.id)
        self._time = attrgetter(stream.event_time)

    def decode(self, batch: LogBatch) -> tuple[LabelRows, list[DeadLetter]]:
        """Return the usable labels and the dead letters; a bad record costs only itself."""
        try:
            decode = self._decode
            records = [decode(value) for value in batch.values]  # type: ignore[arg-type]
            rows, dead = np.arange(len(records)), list[DeadLetter]()
        except _UNREADABLE:
            records, rows, dead = self._decode_each(batch)
        labels = self._targets.of(records)
        times = np.fromiter(map(self._time, records), np.int64, len(records))
        ids = list(map(str, map(self._id, records)))
        wrong = ~self._targets.usable(labels)
        if wrong.any():
            for i in np.flatnonzero(wrong).tolist():
                reason = self._reason(records[i], labels[i])
                dead.append(dead_letter(batch, int(rows[i]), VALIDATION_ERROR, reason))
            kept = np.flatnonzero(~wrong)
            ids = [ids[i] for i in kept.tolist()]
            labels, times, rows = labels[kept], times[kept], rows[kept]
        dead.sort(key=attrgetter("offset"))
        return LabelRows(ids, labels, times, batch.offsets[rows], rows), dead

    def _reason(self, record: Any, label: float) -> str:
        if isinstance(self._targets.task, Binary):
            return f"the label is {label:g}, neither 0 nor 1"
        found = ", ".join(repr(getattr(record, field)) for field in self._targets.fields)
        return f"the label is made of {found}, and must be {self._targets.expected()}"

    def _decode_each(
        self, batch: LogBatch
    ) -> tuple[list[Any], NDArray[np.int64], list[DeadLetter]]:
        records: list[Any] = []
        rows: list[int] = []
        dead: list[DeadLetter] = []
        for row, value in enumerate(batch.values):
            if value is None:
                dead.append(dead_letter(batch, row, NULL_VALUE, "the record has no value"))
                continue
            try:
                records.append(self._decode(value))
                rows.append(row)
            except msgspec.ValidationError as error:
                dead.append(dead_letter(batch, row, VALIDATION_ERROR, str(error)))
            except _UNREADABLE as error:
                dead.append(dead_letter(batch, row, DECODE_ERROR, str(error)))
        return records, np.array(rows, dtype=np.int64), dead


def dead_letter(batch: LogBatch, row: int, error: str, reason: str) -> DeadLetter:
    """Return the dead letter of a record of the batch."""
    return DeadLetter(
        error=error,
        reason=reason,
        topic=batch.topic,
        partition=batch.partition,
        offset=int(batch.offsets[row]),
        key=batch.keys[row],
        value=batch.values[row],
        timestamp_ms=int(batch.timestamps_ms[row]),
    )
