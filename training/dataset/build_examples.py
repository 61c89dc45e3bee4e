"""Joins the segments of a training into an example set, one segment in memory at a time.

(1) The labels that count are read into memory. (2) The features are read in log order; what is
wanted of them is appended to files. (3) The examples are put in order of time, block by block. In
memory are the labels, the vocabularies, and 16 bytes per example: the order.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streams.errors import TrainingError
from training.dataset.column_files import GrowingArray, blocks_of, write_array
from training.dataset.example_set import FORMAT, ExampleSet, write_about
from training.dataset.ids import Ids
from training.dataset.join import Join, KnownLabels
from training.dataset.row_digest import RowDigest

NOT_DIGESTED = ("offset",)  # where a crash repeats records, this differs between equal logs


@dataclass(frozen=True)
class Bounds:
    """Which records count; milliseconds since the epoch, see :mod:`training.dataset.join`."""

    since_ms: int | None
    cutoff_ms: int
    label_cutoff_ms: int


def build_examples(
    folder: Path,
    schema: pa.Schema,
    labels: Iterable[pa.Table],
    features: Iterable[pa.Table],
    bounds: Bounds,
    *,
    with_log: bool = False,
    check: Callable[[], None] = lambda: None,
) -> ExampleSet:
    """Write the example set ``folder``, whole or not at all, and return it.

    Args:
        folder: where it is to lie; one that stands there is replaced.
        schema: of the feature tables (:mod:`training.dataset.columns`).
        labels: tables of the labels topic, in log order.
        features: tables of the features topic, in log order.
        bounds: which of them count.
        with_log: keep all feature records too, for histories.
        check: is called after each table; what it raises ends the work.

    Raises:
        TrainingError: the disk does not take it.
    """
    known = KnownLabels(bounds.label_cutoff_ms)
    for table in labels:
        known.add(table)
        check()
    join = Join(known, since_ms=bounds.since_ms, cutoff_ms=bounds.cutoff_ms)
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        with contextlib.closing(_Writer(building, schema, with_log)) as writer:
            for table in features:
                writer.take(table, join)
                check()
            writer.finish(join)
        shutil.rmtree(folder, ignore_errors=True)
        building.replace(folder)
    except OSError as error:
        raise TrainingError(
            f"the examples can't be written to {folder} ({error}): make room there, or set "
            "KAPPA_HOME to a larger disk"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return ExampleSet.open(folder, check=False)


class _Writer:
    """Appends what is wanted of the log to files, then orders it."""

    def __init__(self, folder: Path, schema: pa.Schema, with_log: bool) -> None:
        self._folder, self._with_log = folder, with_log
        self._names = {kind: [n for n in schema.names if n.startswith(kind)] for kind in "fcg"}
        texts = self._names["c"] + self._names["g"]
        self._vocabularies = [Ids() for _ in texts]
        self._texts: list[list[str]] = [[] for _ in texts]
        self._entities = Ids()
        self._digest = RowDigest()
        widths = {"numeric": len(self._names["f"]), "codes": len(texts), "places": 2}
        types = {
            "numeric": "<f8", "codes": "<i4", "places": "<i8", "entities": "<i8", "rows": "<i8",
            "times": "<i8", "targets": "<f8",
        }  # fmt: skip
        self._files = {
            name: GrowingArray(folder / f".{name}", dtype, widths.get(name))
            for name, dtype in types.items()
        }
        self._rows = 0

    def take(self, table: pa.Table, join: Join) -> None:
        """Take the next stretch of the log."""
        taken = join.take(table)
        stored = taken.counting if self._with_log else taken.examples
        columns = {
            name: table[name].combine_chunks().take(pa.array(stored)) for name in table.column_names
        }
        places = np.searchsorted(stored, taken.examples)
        targets = np.full(len(stored), np.nan)
        targets[places] = taken.targets
        digested = {n: column for n, column in columns.items() if n not in NOT_DIGESTED}
        self._digest.add({**digested, "target": targets})
        files, n = self._files, len(stored)
        files["numeric"].append(_stacked([columns[f].to_numpy() for f in self._names["f"]], n))
        files["codes"].append(_stacked(list(self._codes(columns)), n))
        of_log = [columns[name].to_numpy() for name in ("partition", "source_offset")]
        files["places"].append(_stacked(of_log, n))
        if self._with_log:
            files["entities"].append(self._entities.add(columns["entity"]))
        files["rows"].append(self._rows + places)
        files["times"].append(columns["event_time_ms"].to_numpy()[places])
        files["targets"].append(taken.targets)
        self._rows += n

    def finish(self, join: Join) -> None:
        """Write the arrays in order of time, and what the set is."""
        stored = {name: file.mapped() for name, file in self._files.items()}
        rows = stored["rows"]
        # The log's order is by partition and source offset, and stays so among equal times.
        order = np.argsort(stored["times"], kind="stable")
        of_log = rows[order]
        chosen = {
            "times": order, "targets": order, "numeric": of_log, "codes": of_log, "places": of_log
        }  # fmt: skip
        if self._with_log:
            chosen["rows"] = order
        sha256 = {f"{name}.npy": self._write(name, stored[name], of) for name, of in chosen.items()}
        if self._with_log:
            for name in ("numeric", "codes", "places", "entities"):
                sha256[f"log_{name}.npy"] = self._write(f"log_{name}", stored[name], None)
        for file in self._files.values():
            file.path.unlink()
        names = {kind: [name[2:] for name in found] for kind, found in self._names.items()}
        vocabularies = iter(self._texts)
        targets = stored["targets"]
        write_about(
            self._folder,
            {
                "format": FORMAT,
                "numeric": names["f"],
                "categories": [{"name": n, "vocabulary": next(vocabularies)} for n in names["c"]],
                "groups": [{"name": n, "vocabulary": next(vocabularies)} for n in names["g"]],
                "counts": {
                    **join.counts, "examples": len(targets), "positives": int((targets == 1).sum())
                },
                "data_sha256": self._digest.hexdigest(),
                "files": sha256,
            },
        )  # fmt: skip

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _codes(self, columns: dict[str, Any]) -> Iterator[NDArray[np.int64]]:
        for i, name in enumerate(self._names["c"] + self._names["g"]):
            coded = columns[name].dictionary_encode()
            numbers = self._vocabularies[i].add(coded.dictionary)
            new = numbers >= len(self._texts[i])
            self._texts[i] += coded.dictionary.filter(pa.array(new)).to_pylist()
            yield numbers[coded.indices.to_numpy()]

    def _write(self, name: str, stored: NDArray[Any], chosen: NDArray[np.int64] | None) -> str:
        rows = len(stored) if chosen is None else len(chosen)
        blocks = (
            stored[block] if chosen is None else stored[chosen[block]] for block in blocks_of(rows)
        )
        return write_array(
            self._folder / f"{name}.npy", stored.dtype, (rows, *stored.shape[1:]), blocks
        )


def _stacked(columns: list[NDArray[Any]], rows: int) -> NDArray[Any]:
    return np.stack(columns, axis=1) if columns else np.empty((rows, 0))
