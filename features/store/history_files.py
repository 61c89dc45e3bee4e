"""The Parquet files of a definition's history: what is in them, and where writing goes on.

One file holds one stretch of one partition of the features topic, and is called so::

    history/features_v1/00003-00000000000000050000-00000000000000120000.parquet

is partition 3 from offset 50,000 to before 120,000. A partition's files follow each other without a
gap, are written under another name, flushed and renamed, and never changed: so the names alone say
where to go on. Parquet's metadata tell which log and definition they are of, and the last source
offset, by which a stretch that a worker emitted twice is known.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.records import FeatureRows
from features.store.registry import HISTORY_TIME
from streams.errors import StateError

_NAME = re.compile(r"(\d{5})-(\d{20})-(\d{20})\.parquet")
_LOG, _DEFINITION, _SOURCE_END = b"kappa.log", b"kappa.definition", b"kappa.source_end"
_LAST_MS = 9_223_372_036_000


@dataclass(frozen=True)
class Position:
    """Where a partition's history ends.

    ``next_offset`` of the features topic; None where nothing is written yet. ``source_end``: what
    stands before this offset of the source log is in the history.
    """

    next_offset: int | None = None
    source_end: int = 0


@dataclass(frozen=True)
class Columns:
    """Names of what the files hold beside the event's own: key fields, numbers, texts."""

    keys: tuple[str, ...]
    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    groups: tuple[str, ...]  # of the records, some of them keys

    def table(self, rows: FeatureRows) -> pa.Table:
        """Return the rows as Parquet has them; the last key is the records' entity."""
        groups = dict(zip(self.groups, rows.groups, strict=True))
        entities = {key: groups[key] for key in self.keys[:-1]} | {self.keys[-1]: rows.entities}
        texts = zip(self.texts, rows.categories, strict=True)
        places = {
            "kappa_label_offset": rows.label_offsets,
            "kappa_origin_partition": rows.origin_partitions,
            "kappa_origin_offset": rows.origin_offsets,
        }
        return pa.table(
            {
                **{key: pa.array(values, pa.string()) for key, values in entities.items()},
                # Feast's frames count nanoseconds, which end in the year 2262.
                HISTORY_TIME: pa.array(
                    rows.event_times_ms.clip(-_LAST_MS, _LAST_MS), pa.timestamp("ms", "UTC")
                ),
                **{
                    name: pa.array(rows.numeric[:, i], pa.float64(), from_pandas=True)
                    for i, name in enumerate(self.numbers)
                },
                **{name: pa.array([t or None for t in ts], pa.string()) for name, ts in texts},
                "kappa_event_id": pa.array(rows.event_ids, pa.string()),
                "kappa_event_time_ms": pa.array(rows.event_times_ms, pa.int64()),
                "kappa_partition": pa.array(np.full(len(rows), rows.partition, np.int32)),
                "kappa_source_offset": pa.array(rows.source_offsets, pa.int64()),
                **{n: pa.array(c, pa.int64()) for n, c in places.items() if c is not None},
            }
        )


class HistoryFolder:
    """The files of one definition; use :meth:`locked`, as only one may write.

    Args:
        folder: where they lie.
        log: identity of the features topic, see :func:`streams.snapshots.log_identity`.
        definition: hash of the definition.
    """

    def __init__(self, folder: Path, log: str, definition: str) -> None:
        self._folder = folder
        self._metadata = {_LOG: log.encode(), _DEFINITION: definition.encode()}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers out, and drop what one that was killed left half written.

        Raises:
            StateError: another process writes this history.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StateError(
                    f"another process writes the history in {self._folder}: one is enough; "
                    "end that one first"
                ) from None
            for draft in self._folder.glob(".*.draft"):
                draft.unlink()
            yield

    def positions(self, partitions: int) -> dict[int, Position]:
        """Return partition → where its history ends.

        Raises:
            StateError: a file is missing or damaged, or they are of another log or definition.
        """
        return {p: self._position(files) for p, files in self._files(partitions).items()}

    def write(
        self, partition: int, first: int, end: int, tables: Sequence[pa.Table], source_end: int
    ) -> Path:
        """Add the stretch [first, end) of the features topic; returns when it is on the disk."""
        metadata = {**self._metadata, _SOURCE_END: str(source_end).encode()}
        table = pa.concat_tables(tables).replace_schema_metadata(metadata)
        path = self._folder / f"{partition:05d}-{first:020d}-{end:020d}.parquet"
        draft = path.with_name(f".{path.name}.draft")
        try:
            with draft.open("wb") as file:
                pq.write_table(table, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            _sync(self._folder)
        except OSError as error:
            raise StateError(
                f"the history {path} can't be written ({error}): make room or grant the right, "
                "and start again; it goes on behind the last whole file"
            ) from error
        return path

    def _files(self, partitions: int) -> dict[int, list[tuple[int, int, Path]]]:
        found: dict[int, list[tuple[int, int, Path]]] = {p: [] for p in range(partitions)}
        for path in sorted(self._folder.glob("*.parquet")):
            match = _NAME.fullmatch(path.name)
            if match is None or int(match[1]) >= partitions:
                raise StateError(
                    f"{path} is no file of this history: move it elsewhere, as Feast would read it"
                )
            found[int(match[1])].append((int(match[2]), int(match[3]), path))
        return found

    def _position(self, files: list[tuple[int, int, Path]]) -> Position:
        if not files:
            return Position()
        for (_, end, path), (first, _, following) in pairwise(files):
            if first != end:
                raise StateError(
                    f"between {path.name} and {following.name} in {self._folder} a stretch is "
                    "missing: put the file back, or delete the folder to write the history anew"
                )
        _, end, last = files[-1]
        try:
            metadata = pq.read_schema(last).metadata or {}
            source_end = int(metadata[_SOURCE_END])
        except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
            raise StateError(
                f"{last} is damaged ({error}): delete it, its stretch is written again"
            ) from error
        for key, what in ((_LOG, "features topic"), (_DEFINITION, "definition")):
            if metadata.get(key) != self._metadata[key]:
                raise StateError(
                    f"the history in {self._folder} is of another {what} than there is now: "
                    "delete the folder to write it anew, or move it away to keep it"
                )
        return Position(end, source_end)


def new_rows(source_offsets: NDArray[np.int64], source_end: int) -> NDArray[np.bool_]:
    """Return which rows come for the first time, shape (n,).

    After a crash a worker emits a stretch again; what stands at or before the greatest source
    offset so far is a repetition.
    """
    before = np.maximum.accumulate(np.concatenate([[source_end - 1], source_offsets]))[:-1]
    fresh: NDArray[np.bool_] = source_offsets > before
    return fresh


def _sync(folder: Path) -> None:
    """Bring a folder's entries to the disk: a rename is lasting only then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
