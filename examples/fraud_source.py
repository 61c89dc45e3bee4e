"""Reads the card payments of the fraud detection handbook: simulated, as its authors say.

A row of the monthly Parquet files is a payment with its verdict. Here it becomes what a bank would
have seen: an event when the card is used, and a label a week later, when the verdict is known by
the handbook's convention. How a fraud was simulated (the scenario) is in neither.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streams.files import PARQUET, find_files
from streams.merging import merge
from streams.recording import Recording
from streams.rows import optional_ints, record_times, recording_of
from streams.tables import plain_values, read_tables, times_ms

DELAY = "7d"
DELAY_MS = 7 * 86_400_000

_EVENT_COLUMNS = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT")
_LABEL_COLUMNS = ("TRANSACTION_ID", "TX_DATETIME", "TERMINAL_ID", "TX_FRAUD")
_EVENT_FIELDS = ("payment", "customer", "terminal", "paid_at_ms", "amount")
_LABEL_FIELDS = ("payment", "terminal", "paid_at_ms", "known_at_ms", "fraud")


def read(path: Path) -> Iterator[Recording]:
    """Yield the payments of a monthly file or of a folder of them, and each verdict a week later.

    Raises SourceError where a file can't be read.
    """
    files = find_files(path, PARQUET)
    # Two readings side by side: a week of verdicts to come need not be held in memory.
    yield from merge([_events(files), _labels(files)])


def _events(files: list[Path]) -> Iterator[Recording]:
    for table in _tables(files, _EVENT_COLUMNS):
        paid_ms, valid = times_ms(table["TX_DATETIME"])
        ids = plain_values(table["TRANSACTION_ID"], "text")
        customers = plain_values(table["CUSTOMER_ID"], "text")
        terminals = plain_values(table["TERMINAL_ID"], "text")
        amounts = plain_values(table["TX_AMOUNT"], "float")
        columns = [ids, customers, terminals, optional_ints(paid_ms, valid), amounts]
        yield recording_of(
            _ascending(record_times(paid_ms, valid)), False, customers, _EVENT_FIELDS, columns
        )


def _labels(files: list[Path]) -> Iterator[Recording]:
    for table in _tables(files, _LABEL_COLUMNS):
        paid_ms, valid = times_ms(table["TX_DATETIME"])
        ids = plain_values(table["TRANSACTION_ID"], "text")
        terminals = plain_values(table["TERMINAL_ID"], "text")
        paid = optional_ints(paid_ms, valid)
        known = optional_ints(paid_ms + DELAY_MS, valid)
        verdicts = plain_values(table["TX_FRAUD"], "int")
        yield recording_of(
            _ascending(record_times(paid_ms, valid)) + DELAY_MS,
            True, terminals, _LABEL_FIELDS, [ids, terminals, paid, known, verdicts],
        )  # fmt: skip


def _tables(files: list[Path], columns: tuple[str, ...]) -> Iterator[pa.Table]:
    for file in files:
        yield from read_tables(file, columns, (), [])


def _ascending(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return record times that never step back."""
    ascending: NDArray[np.int64] = np.maximum.accumulate(times)
    return ascending
