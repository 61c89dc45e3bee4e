"""The offline store: the features topic as Parquet, appended, where Feast's file store reads it.

Feast's own ``push`` to its offline store writes the whole file anew, in place; this only ever adds
files (:mod:`features.store.history_files`). All views of a definition share them: a row has every
feature, and the keys that the records carry: the last key, which is their entity, and of the others
those that the definition names among its ``groups``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from features.definition import Definition
from features.records import FeatureCodec
from features.store.history_files import Columns, HistoryFolder, Position, new_rows
from features.store.registry import history_path
from features.store.table import store_folder
from streams.batch import LogBatch
from streams.errors import BrokerError
from streams.replay import offset_bounds, read_ranges
from streams.snapshots import log_identity
from streams.stream import EventStream, LabelStream
from streams.topics import Topics

ROWS_PER_FILE = 200_000
EVERY_S = 60.0


@dataclass(frozen=True)
class HistoryProgress:
    """How far the history is.

    ``done`` of ``records`` records of the features topic (of this pass) were read; ``rows`` were
    written to ``files`` files, ``repeated`` ones were there before.
    """

    done: int = 0
    records: int = 0
    rows: int = 0
    repeated: int = 0
    files: int = 0


class History:
    """Brings one definition's history up to the end of its features topic.

    Args:
        bootstrap: the brokers.
        topics: the pipeline's topics, of the definition's version.
        definition: the features.
        events: the stream.
        home: the folder of the pipeline's state.
        labels: the labels, where the definition uses them.
        rows_per_file: how many rows a file holds at least, but for the last one.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        definition: Definition,
        events: EventStream,
        home: Path,
        labels: LabelStream | None = None,
        rows_per_file: int = ROWS_PER_FILE,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topics.features
        self._partitions = events.partitions
        self._codec = FeatureCodec(definition, events, labels)
        self._rows_per_file = rows_per_file
        keys = definition.keys(events, labels)
        others = [key for key in keys[:-1] if key in definition.groups]
        self._columns = Columns(
            keys=(*others, keys[-1]),
            numbers=tuple(definition.names("numeric")),
            texts=tuple(definition.names("category")),
            groups=definition.groups,
        )
        self.folder = store_folder(home) / history_path(definition.version)
        self._files = HistoryFolder(
            self.folder,
            log_identity(bootstrap, self._topic),
            definition.hash(events, labels),
        )

    def run(
        self,
        observe: Callable[[HistoryProgress], None] | None = None,
        stop: threading.Event | None = None,
        every_s: float = EVERY_S,
    ) -> HistoryProgress:
        """Write what the topic holds beyond the history; with ``stop``, go on until it is set.

        Args:
            observe: called with the progress after every batch that was read.
            stop: makes this follow the topic: it looks for more every ``every_s`` seconds.
            every_s: so long a record waits, at most, until it is in a file.

        Returns:
            What was done in all.

        Raises:
            StateError: the history is of something else, damaged, or being written by another.
            BrokerError: the broker fails, or records that were not read yet are gone.
        """
        progress = HistoryProgress()
        tell = observe or (lambda _: None)
        with self._files.locked():
            positions = self._files.positions(self._partitions)
            while True:
                started_s = time.monotonic()
                progress = self._pass(positions, progress, tell)
                if stop is None or stop.wait(max(0.0, started_s + every_s - time.monotonic())):
                    return progress

    def _pass(
        self,
        positions: dict[int, Position],
        progress: HistoryProgress,
        tell: Callable[[HistoryProgress], None],
    ) -> HistoryProgress:
        """Read up to the present end; ``positions`` move with each file."""
        bounds = offset_bounds(self._bootstrap, self._topic, self._partitions)
        ranges = {p: (self._first(positions[p], *bounds[p]), bounds[p][1]) for p in bounds}
        waiting = sum(end - first for first, end in ranges.values())
        progress = replace(progress, records=progress.done + waiting)
        tell(progress)
        for partition, (first, end) in ranges.items():
            part = _Stretch(self._columns, first, positions[partition].source_end)
            for batch in read_ranges(self._bootstrap, self._topic, {partition: (first, end)}):
                done, repeated = part.take(batch, self._codec)
                progress = replace(
                    progress, done=progress.done + done, repeated=progress.repeated + repeated
                )
                if part.rows >= self._rows_per_file:
                    progress = self._write(partition, part, positions, progress)
                    part = _Stretch(self._columns, part.end, part.source_end)
                tell(progress)
            if part.rows:
                progress = self._write(partition, part, positions, progress)
                tell(progress)
        return progress

    def _write(
        self,
        partition: int,
        part: _Stretch,
        positions: dict[int, Position],
        progress: HistoryProgress,
    ) -> HistoryProgress:
        self._files.write(partition, part.first, part.end, part.tables, part.source_end)
        positions[partition] = Position(part.end, part.source_end)
        return replace(progress, rows=progress.rows + part.rows, files=progress.files + 1)

    def _first(self, position: Position, first: int, end: int) -> int:
        """Return where reading begins."""
        if position.next_offset is None:
            return first
        if not first <= position.next_offset <= end:
            raise BrokerError(
                f"the history in {self.folder} ends at offset {position.next_offset}, but "
                f"{self._topic} holds [{first}, {end}): records are gone; keep them by "
                "retention.ms=-1. To begin anew with what there is, delete the folder"
            )
        return position.next_offset


class _Stretch:
    """What is to become one file."""

    def __init__(self, columns: Columns, first: int, source_end: int) -> None:
        self._columns = columns
        self.first = self.end = first
        self.source_end = source_end
        self.tables: list[pa.Table] = []
        self.rows = 0

    def take(self, batch: LogBatch, codec: FeatureCodec) -> tuple[int, int]:
        """Add a batch; return how many offsets it covers, and how many rows came again."""
        rows = codec.decode(batch)
        fresh = new_rows(rows.source_offsets, self.source_end)
        kept = int(fresh.sum())
        if kept:
            self.tables.append(self._columns.table(rows).filter(pa.array(fresh)))
            self.source_end = int(rows.source_offsets[fresh][-1]) + 1
            self.rows += kept
        covered, self.end = batch.next_offset - self.end, batch.next_offset
        return covered, len(rows) - kept
