"""Histories of examples as a model is asked them: with the values as the log has them."""

import numpy as np
from numpy.typing import NDArray

from training.dataset.example_set import LogColumns
from training.dataset.histories import NONE, EventValues, Histories, stretches


def looking_back(log: LogColumns, rows: NDArray[np.int64], last: int) -> Histories:
    """Return the histories of the events in ``rows`` (n,) of the log, ``last`` events at most."""
    partitions, sources = np.asarray(log.places).T
    sorted_log = stretches(partitions, sources, np.asarray(log.entities))
    places = sorted_log.places[rows]
    back = np.arange(last) - (last - 1)
    there = back > -sorted_log.lengths(places, last)[:, None]
    index = sorted_log.order[np.where(there, places[:, None] + back, 0)]
    used, told = np.unique(np.where(there, index, index[:, -1:]), return_inverse=True)
    events = EventValues(log.numeric[used], [column.take(used) for column in log.categories])
    return Histories(events, np.where(there, told.reshape(index.shape), NONE))
