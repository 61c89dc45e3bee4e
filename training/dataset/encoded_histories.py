"""The arrays of a run folder from which a network's histories are taken.

::

    events_numeric.npy, events_codes.npy   (m, W) and (m, C): all events of the log once, sorted so
                                           that a history is a stretch of rows
    events_last.npy                        (1,) how many events a history holds at most
    <part>_rows.npy                        (n,) the row of each example's own event
    <part>_lengths.npy                     (n,) how many events its history holds

At the beginning of a training window histories are shorter than in serving: the log before the
window is not read.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import TrainingError
from training.dataset.column_files import blocks_of, write_array
from training.dataset.encoding import Encoding
from training.dataset.example_set import LogColumns
from training.dataset.histories import stretches
from training.dataset.prepared import Examples

Encoder = Callable[[Examples], NDArray[Any]]


def write_events(
    folder: Path, log: LogColumns, encoding: Encoding, last: int
) -> tuple[dict[str, str], dict[str, Encoder]]:
    """Write the events of the log into ``folder``.

    Returns:
        The SHA-256 of each file by the array's name, and by name what a slice has of its own.
    """
    partitions, sources = np.asarray(log.places).T
    sorted_log = stretches(partitions, sources, np.asarray(log.entities))
    order = sorted_log.order

    def numeric() -> Iterator[NDArray[np.float32]]:
        for block in blocks_of(len(order)):
            yield encoding.numeric_inputs(log.numeric[order[block]])

    def codes() -> Iterator[NDArray[np.int32]]:
        for block in blocks_of(len(order)):
            rows = order[block]
            texts = [column.take(rows) for column in log.categories]
            yield encoding.codes(texts, len(rows)).astype(np.int32)

    n = len(order)
    folder.mkdir(parents=True, exist_ok=True)
    digests = {
        "events_numeric": write_array(
            folder / "events_numeric.npy", np.float32, (n, encoding.numeric_width), numeric()
        ),
        "events_codes": write_array(
            folder / "events_codes.npy", np.int32, (n, len(encoding.category_names)), codes()
        ),
        "events_last": write_array(
            folder / "events_last.npy", np.int64, (1,), iter([np.array([last])])
        ),
    }

    def places(some: Examples) -> NDArray[np.int64]:
        if some.log_rows is None:
            raise TrainingError(
                "the network sees an entity's last events, and the examples do not say which rows "
                "of the log are theirs: read them for this model"
            )
        return sorted_log.places[some.log_rows]

    return digests, {
        "rows": places,
        "lengths": lambda some: sorted_log.lengths(places(some), last),
    }
