"""A digest of rows that depends on their values and order alone, not on how they came in pieces."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class RowDigest:
    """SHA-256 of each column, as rows come; of texts their lengths and their bytes."""

    def __init__(self) -> None:
        self._columns: dict[str, hashlib._Hash] = {}

    def add(self, columns: dict[str, pa.Array | NDArray[np.float64]]) -> None:
        """Take the next rows; every call gives the same columns."""
        for name, column in columns.items():
            if isinstance(column, pa.Array) and pa.types.is_string(column.type):
                lengths = pc.binary_length(column).to_numpy()
                self._update(f"{name}#", lengths.astype("<i4"))
                data = column.buffers()[2]
                if data is not None:
                    ends = np.frombuffer(column.buffers()[1], "<i4")[column.offset :]
                    self._sha(name).update(memoryview(data)[ends[0] : ends[len(column)]])
            else:
                values = column.to_numpy() if isinstance(column, pa.Array) else column
                if values.dtype.kind == "f":  # NaN has many bit patterns; missing is missing
                    values = np.where(np.isnan(values), np.nan, values)
                self._update(name, values.astype(values.dtype.newbyteorder("<")))

    def hexdigest(self) -> str:
        """Return the SHA-256 over the columns' names and digests."""
        whole = hashlib.sha256()
        for name, sha in sorted(self._columns.items()):
            whole.update(f"{name}\0".encode() + sha.digest())
        return whole.hexdigest()

    def _update(self, name: str, values: NDArray[np.generic]) -> None:
        self._sha(name).update(np.ascontiguousarray(values).data)

    def _sha(self, name: str) -> "hashlib._Hash":
        return self._columns.setdefault(name, hashlib.sha256())
