"""The joined examples of a training on disk: an immutable folder of memory-mapped arrays.

::

    about.json        names, vocabularies, counts, digest of the data, SHA-256 of each file
    times.npy         (n,) event times, ascending; milliseconds since the epoch
    targets.npy       (n,) float64
    places.npy        (n, 2) int64: partition and source offset
    numeric.npy       (n, F) float64, NaN = missing
    codes.npy         (n, C + G) int32: category features and groups, places in their vocabularies

and where a network sees histories, what they are of: all feature records that count, in log order::

    rows.npy          (n,) the row of each example among them
    log_numeric.npy, log_codes.npy, log_places.npy
    log_entities.npy  (N,) a number per entity

Examples are ordered by event time, then partition, then source offset.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from training.dataset.column_files import map_array
from training.dataset.texts import CodedTexts

FORMAT = 1
ABOUT = "about.json"
KEPT_SETS = 4
_LOG = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LogColumns:
    """All N feature records that count, in log order; ``entities`` (N,) int64, a number for each.

    ``places`` (N, 2), ``numeric`` (N, F) and ``categories`` are as in :class:`ExampleSet`.
    """

    places: NDArray[np.int64]
    entities: NDArray[np.int64]
    numeric: NDArray[np.float64]
    categories: list[CodedTexts]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.entities)


@dataclass(frozen=True, slots=True)
class ExampleSet:
    """n labelled examples, mapped; ``log`` and ``rows`` where histories are wanted."""

    numeric_names: list[str]
    category_names: list[str]
    group_names: list[str]
    event_times_ms: NDArray[np.int64]
    targets: NDArray[np.float64]
    places: NDArray[np.int64]
    numeric: NDArray[np.float64]
    categories: list[CodedTexts]
    groups: list[CodedTexts]
    counts: dict[str, int]
    data_sha256: str
    log: LogColumns | None
    rows: NDArray[np.int64] | None

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.targets)

    @classmethod
    def open(cls, folder: Path, check: bool = True) -> ExampleSet:
        """Map a set; ``check`` compares each file with its checksum.

        Raises:
            OSError, ValueError, KeyError: it is missing or damaged.
        """
        about = json.loads((folder / ABOUT).read_bytes())
        if check:
            for name, expected in about["files"].items():
                with (folder / name).open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                if found != expected:
                    raise ValueError(f"{name} does not match its checksum")
        arrays = {name.removesuffix(".npy"): map_array(folder / name) for name in about["files"]}
        categories, groups = about["categories"], about["groups"]
        vocabularies = [tuple(column["vocabulary"]) for column in (*categories, *groups)]
        texts = _texts(arrays["codes"], vocabularies)
        log = None
        if "rows" in arrays:
            log = LogColumns(
                arrays["log_places"],
                arrays["log_entities"],
                arrays["log_numeric"],
                _texts(arrays["log_codes"], vocabularies)[: len(categories)],
            )
        return cls(
            list(about["numeric"]),
            [column["name"] for column in categories],
            [column["name"] for column in groups],
            arrays["times"],
            arrays["targets"],
            arrays["places"],
            arrays["numeric"],
            texts[: len(categories)],
            texts[len(categories) :],
            dict(about["counts"]),
            str(about["data_sha256"]),
            log,
            arrays.get("rows"),
        )


def opened(folder: Path) -> ExampleSet | None:
    """Return the set in ``folder``, or None where none is; a damaged one is removed, and told."""
    if not (folder / ABOUT).exists():
        return None
    try:
        found = ExampleSet.open(folder)
        os.utime(folder / ABOUT)  # which sets are in use, for prune
    except (OSError, ValueError, KeyError, TypeError) as error:
        _LOG.warning("damaged examples are made again", folder=str(folder), why=str(error))
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return found


def prune(folder: Path, kept: int = KEPT_SETS) -> None:
    """Remove all example sets in ``folder`` but the last used ones; what is mapped stays so."""
    used: list[tuple[float, Path]] = []
    for about in folder.glob(f"*/{ABOUT}"):
        try:
            used.append((about.stat().st_mtime, about.parent))
        except OSError:  # another process removed it
            continue
    for _, old in sorted(used, reverse=True)[kept:]:
        shutil.rmtree(old, ignore_errors=True)


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """Write what makes a folder a set; last."""
    (folder / ABOUT).write_bytes(json.dumps(about, indent=1, sort_keys=True).encode())


def _texts(codes: NDArray[np.int32], vocabularies: list[tuple[str, ...]]) -> list[CodedTexts]:
    return [CodedTexts(codes[:, i], texts) for i, texts in enumerate(vocabularies)]
