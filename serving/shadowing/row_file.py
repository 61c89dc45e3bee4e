"""The compared rows as a Parquet file, written as they come, in its place once it is whole."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serving.shadowing.pairs import Pairs
from streams.errors import ConfigurationError
from training.networks.tasks import Binary, MultiClass, Task


class RowFile:
    """A context manager; the file stands there only where all went well.

    Columns: ``event_id``, ``event_time`` (UTC), ``live_version``, ``label`` (null where none came)
    and of both, ``live`` and ``version``: the score; of classes ``live_<class>``; of a regression
    ``live_mean`` and ``live_spread``.
    """

    def __init__(self, path: Path, task: Task) -> None:
        self._path, self._part = path, path.with_name(f".{path.name}.part")
        self._endings = _endings(task)
        self._writer: Any = None

    def __enter__(self) -> Self:
        """Begin; raises ConfigurationError where nothing can be written there."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        fields = [
            ("event_id", pa.string()),
            ("event_time", pa.timestamp("ms", tz="UTC")),
            ("live_version", pa.int64()),
            *((f"live{ending}", pa.float64()) for ending in self._endings),
            *((f"version{ending}", pa.float64()) for ending in self._endings),
            ("label", pa.float64()),
        ]
        self._schema = pa.schema(fields)
        try:
            self._writer = pq.ParquetWriter(self._part, self._schema, compression="zstd")
        except OSError as error:
            raise ConfigurationError(f"--out {self._path} can't be written: {error}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the file in its place, or take away what was begun."""
        self._writer.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)

    def add(self, pairs: Pairs) -> None:
        """Append rows."""
        import pyarrow as pa

        labels = pa.array(pairs.labels, mask=np.isnan(pairs.labels))
        columns: list[Any] = [
            pa.array(pairs.event_ids),
            pa.array(pairs.event_times_ms).cast(pa.timestamp("ms", tz="UTC")),
            pa.array(pairs.live_versions),
            *_columns(pairs.live),
            *_columns(pairs.answers),
            labels,
        ]
        self._writer.write_table(pa.table(columns, schema=self._schema))


def _columns(rows: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return [np.ascontiguousarray(rows[:, i]) for i in range(rows.shape[1])]


def _endings(task: Task) -> list[str]:
    match task:
        case Binary():
            return [""]
        case MultiClass(classes=classes):
            return [f"_{name}" for name in classes]
        case _:
            return ["_mean", "_spread"]
