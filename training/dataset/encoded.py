"""From prepared examples to the arrays of a run folder, written block by block."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import TrainingError
from training.dataset.column_files import blocks_of, write_array
from training.dataset.encoded_histories import Encoder, write_events
from training.dataset.encoding import Encoding
from training.dataset.prepared import Examples, PreparedData
from training.dataset.weights import example_weights, kept_rows
from training.loop.run_folder import Slice, array_path
from training.networks.declared import events_seen
from training.networks.tasks import MultiClass
from training.spec import Model

AsTargets = Callable[[NDArray[np.float64]], NDArray[Any]]
"""What the network learns, of a stretch of targets; the type stays the same."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the SHA-256 of each file by the array's name, and what was made of classes.

    ``factors`` (classes,) are what the examples of each class count more
    (:func:`training.correction.class_factors`), ``trained`` how many examples are trained on.
    """

    digests: dict[str, str]
    factors: NDArray[np.float64]
    trained: int


def write_slices(
    folder: Path,
    prepared: PreparedData,
    encoding: Encoding,
    model: Model,
    seed: int,
    as_targets: AsTargets | None = None,
) -> Written:
    """Write both slices into ``folder``.

    ``train_weights`` holds what each example counts; negatives that are not kept are left out.
    ``as_targets`` None leaves them: int64 of several classes, else float32.

    Raises:
        TrainingError: no example is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = as_targets or _targets_of(model)
    kept = kept_rows(prepared.train, model, seed)
    if kept is not None and not len(kept):
        raise TrainingError(
            f"keep_negatives={model.keep_negatives} of the model leaves no example of the training "
            "slice: keep more, or train on a longer window"
        )
    times, targets = prepared.train.event_times_ms, prepared.train.targets
    if kept is not None:
        times, targets = times[kept], targets[kept]
    weights, factors = example_weights(targets, times, model)
    digests = {"train_weights": _write(folder, "train", "weights", iter([weights]), len(weights))}
    slices: list[tuple[Slice, Examples, NDArray[np.int64] | None]] = [
        ("train", prepared.train, kept), ("validation", prepared.validation, None)
    ]  # fmt: skip
    events, encoders = _inputs(folder, prepared, encoding, events_seen(model.network))
    digests |= events
    encoders["targets"] = lambda some: made(some.targets)
    for part, examples, rows in slices:
        n = len(examples) if rows is None else len(rows)
        for name, encoded in encoders.items():
            blocks = (encoded(some) for some in _some(examples, rows))
            digests[f"{part}_{name}"] = _write(folder, part, name, blocks, n)
    return Written(digests, factors, len(targets))


def _inputs(
    folder: Path, prepared: PreparedData, encoding: Encoding, last: int
) -> tuple[dict[str, str], dict[str, Encoder]]:
    """Write what both slices share; return its digests, and by name what a slice has of its own."""
    if not last:
        for part in ("train", "validation"):  # of another network: its rows would be taken
            (folder / f"{part}_rows.npy").unlink(missing_ok=True)
        return {}, {
            "numeric": lambda some: encoding.numeric_inputs(some.numeric),
            "codes": lambda some: encoding.codes(some.categories, len(some)).astype(np.int32),
        }
    if prepared.log is None:
        raise TrainingError(
            f"the network sees the last {last} events of an entity, and the data were read without "
            "the log they stand in: read them for this model"
        )
    return write_events(folder, prepared.log, encoding, last)


def _some(examples: Examples, rows: NDArray[np.int64] | None) -> Iterator[Examples]:
    """Yield the examples, or the ``rows`` of them, block by block."""
    for block in blocks_of(len(examples) if rows is None else len(rows)):
        yield examples.some(block if rows is None else rows[block])


def _write(folder: Path, part: Slice, name: str, blocks: Iterator[NDArray[Any]], rows: int) -> str:
    first = next(blocks)
    shape = (rows, *first.shape[1:])
    return write_array(
        array_path(folder, part, name), first.dtype, shape, itertools.chain([first], blocks)
    )


def _targets_of(model: Model) -> AsTargets:
    dtype = np.int64 if isinstance(model.task, MultiClass) else np.float32
    return lambda targets: targets.astype(dtype)
