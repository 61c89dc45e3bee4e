"""The rows of later examples as a model reads them: its own columns in its own order, or histories
where its network sees an entity's last events. numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from training.dataset.encoding import Encoding
from training.dataset.histories import NONE, EventValues, Histories, stretches
from training.dataset.prepared import Columns, Examples, PreparedData


def rows_for(
    encoding: Encoding, last: int, prepared: PreparedData, examples: Examples
) -> Columns | Histories:
    """Return what the model of ``encoding``, whose network sees ``last`` events, is given.

    Args:
        encoding: the model's; it may order the columns otherwise.
        last: 0 for the one event alone.
        prepared: where the examples are from.
        examples: n of its examples.

    Raises:
        ModelError: the model reads other features; or it sees last events, and the data were read
            without the log they stand in.
    """
    numeric = _places(encoding.numeric_names, prepared.numeric_names, "numeric")
    category = _places(encoding.category_names, prepared.category_names, "category")
    if not last:
        texts = examples.categories
        return EventValues(examples.numeric[:, numeric], [list(texts[i]) for i in category])
    log = prepared.log
    if log is None or examples.log_rows is None:
        raise ModelError(
            f"it sees the last {last} events of an entity, and the data were read for a network "
            "that sees one event"
        )
    rows = history_rows(log.places, log.entities, examples.log_rows, last)
    needed = np.unique(rows[rows != NONE])
    index = np.where(rows == NONE, NONE, np.searchsorted(needed, rows))
    columns = [log.categories[i].take(needed) for i in category]
    values = EventValues(log.numeric[needed][:, numeric], [list(column) for column in columns])
    return Histories(values, index)


def history_rows(
    places: NDArray[np.int64], entities: NDArray[np.int64], rows: NDArray[np.int64], last: int
) -> NDArray[np.int64]:
    """Return the rows (n, last) of the log that are the histories of the events at ``rows`` (n,).

    ``places`` (N, 2) and ``entities`` (N,) are those of the log; the event itself is in the last
    column, and what has no event is :data:`NONE`.
    """
    partitions, sources = np.asarray(places).T
    ordered = stretches(partitions, sources, np.asarray(entities))
    ends = ordered.places[rows]
    lengths = ordered.lengths(ends, last)
    steps = np.arange(last)
    found: NDArray[np.int64] = ordered.order[np.maximum(ends[:, None] + (steps - (last - 1)), 0)]
    found[steps < last - lengths[:, None]] = NONE
    return found


def _places(theirs: Sequence[str], ours: Sequence[str], kind: str) -> list[int]:
    if set(theirs) != set(ours):
        raise ModelError(
            f"it reads the {kind} features {', '.join(sorted(theirs)) or 'none'}, the new one "
            f"{', '.join(sorted(ours)) or 'none'}"
        )
    return [list(ours).index(name) for name in theirs]
