"""The groups of events as small numbers: what the definition declares, and codes of the texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from features.records import FeatureRows

Ints = NDArray[np.int64]


class Groups:
    """The group ``fields`` of a definition, and the texts seen of each, numbered as they came."""

    def __init__(self, fields: Sequence[str]) -> None:
        self.reset(fields)

    def reset(self, fields: Sequence[str]) -> None:
        """Begin anew with these fields."""
        self.fields = tuple(fields)
        self._codes: list[dict[str, int]] = [{} for _ in self.fields]

    def code(self, rows: FeatureRows) -> Ints:
        """Return the codes of rows, shape (n, fields); new texts get the next ones."""
        coded = np.zeros((len(rows), len(self.fields)), dtype=np.int64)
        for i, (texts, codes) in enumerate(zip(rows.groups, self._codes, strict=True)):
            for text in sorted(set(texts).difference(codes)):
                codes[text] = len(codes)
            coded[:, i] = np.fromiter(map(codes.__getitem__, texts), np.int64, len(texts))
        return coded

    def texts(self, field: int) -> list[str]:
        """Return the texts of the ``field``-th field, by code."""
        return list(self._codes[field])

    def to_json(self) -> list[list[str]]:
        """Return the texts of each field."""
        return [list(codes) for codes in self._codes]

    def load(self, texts: Sequence[Sequence[str]]) -> None:
        """Take over what :meth:`to_json` returned, of the same fields."""
        self._codes = [{text: code for code, text in enumerate(each)} for each in texts]
