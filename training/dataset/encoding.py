"""From feature values to the network's inputs: fitted on the training slice. numpy only.

A numeric feature x with training median m and robust spread s becomes three inputs::

    asinh((x − m) / s)      where it lies among the training values
    asinh(30 x / s) / 3     the value itself, finest around 0: differences keep their sign
    1 where x is missing    (then the first two are 0)

asinh is linear near 0 and logarithmic far from it, so a heavy tail neither squeezes the bulk nor
saturates. A category becomes a code: 1 + its place in the training vocabulary, 0 where it is
unknown or missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from training.dataset.prepared import Columns
from training.dataset.texts import CodedTexts, counted

INPUTS_PER_NUMERIC = 3
VOCABULARY_LIMIT = 10_000
SAMPLE_ROWS = 1 << 22
_NEAR_ZERO_GAIN = 30.0
_BOUND = 8.0  # of an input: beyond what asinh makes of any sane value
_NORMAL_IQR = 1.349  # interquartile range of the standard normal distribution


@dataclass(frozen=True)
class Encoding:
    """How values become inputs; one per trained model, stored beside its weights.

    ``centers`` and ``spreads`` have one entry per numeric feature; ``vocabularies`` one tuple of
    texts per category feature, whose order is the order of the codes.
    """

    numeric_names: tuple[str, ...]
    category_names: tuple[str, ...]
    centers: tuple[float, ...]
    spreads: tuple[float, ...]
    vocabularies: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        """Prepare the look-ups."""
        indexes = tuple(
            {text: code for code, text in enumerate(vocabulary, start=1)}
            for vocabulary in self.vocabularies
        )
        object.__setattr__(self, "_indexes", indexes)

    @classmethod
    def fit(
        cls, numeric_names: Sequence[str], category_names: Sequence[str], columns: Columns
    ) -> "Encoding":
        """Return the encoding that the training slice ``columns`` calls for.

        Of more than :data:`SAMPLE_ROWS` rows, numeric features are measured on evenly spaced ones.
        """
        sample = columns.numeric[:: sample_step(len(columns.numeric))]
        fitted = [_center_and_spread(column) for column in sample.T]
        return cls(
            tuple(numeric_names),
            tuple(category_names),
            tuple(center for center, _ in fitted),
            tuple(spread for _, spread in fitted),
            tuple(_vocabulary(texts) for texts in columns.categories),
        )

    @property
    def numeric_width(self) -> int:
        """How many numeric inputs the network has."""
        return INPUTS_PER_NUMERIC * len(self.numeric_names)

    @property
    def code_counts(self) -> tuple[int, ...]:
        """How many codes each category feature has, 0 for unknown included."""
        return tuple(len(vocabulary) + 1 for vocabulary in self.vocabularies)

    def numeric_inputs(self, numeric: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the inputs, shape (n, numeric_width), of values of shape (n, F)."""
        self._check(numeric.shape[1], len(self.numeric_names), "numeric")
        missing = np.isnan(numeric)
        bounded = np.clip(np.where(missing, 0.0, numeric), -1e150, 1e150)  # infinities too
        spreads = np.asarray(self.spreads)
        among = np.arcsinh((bounded - np.asarray(self.centers)) / spreads)
        itself = np.arcsinh(_NEAR_ZERO_GAIN * bounded / spreads) / 3
        inputs = np.empty((len(numeric), self.numeric_width), np.float32)
        features = len(self.numeric_names)
        inputs[:, :features] = np.where(missing, 0.0, np.clip(among, -_BOUND, _BOUND))
        inputs[:, features : 2 * features] = np.where(
            missing, 0.0, np.clip(itself, -_BOUND, _BOUND)
        )
        inputs[:, 2 * features :] = missing
        return inputs

    def codes(self, categories: Sequence[Sequence[str]], rows: int) -> NDArray[np.int64]:
        """Return the codes, shape (rows, C), of C columns of ``rows`` texts."""
        self._check(len(categories), len(self.category_names), "category")
        codes = np.empty((rows, len(categories)), np.int64)
        indexes: tuple[dict[str, int], ...] = self._indexes  # type: ignore[attr-defined]
        for column, (texts, index) in enumerate(zip(categories, indexes, strict=True)):
            if isinstance(texts, CodedTexts):
                known = map(index.get, texts.vocabulary, repeat(0))
                codes[:, column] = texts.mapped(np.fromiter(known, np.int64))
            else:
                codes[:, column] = np.fromiter(map(index.get, texts, repeat(0)), np.int64, rows)
        return codes

    def to_json(self) -> dict[str, Any]:
        """Return the encoding as plain JSON values."""
        return {
            "numeric": [
                {"name": name, "center": center, "spread": spread}
                for name, center, spread in zip(
                    self.numeric_names, self.centers, self.spreads, strict=True
                )
            ],
            "categories": [
                {"name": name, "vocabulary": list(vocabulary)}
                for name, vocabulary in zip(self.category_names, self.vocabularies, strict=True)
            ],
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Encoding":
        """Return the encoding that :meth:`to_json` wrote; raises ModelError where it is none."""
        try:
            numeric, categories = content["numeric"], content["categories"]
            return cls(
                tuple(str(entry["name"]) for entry in numeric),
                tuple(str(entry["name"]) for entry in categories),
                tuple(float(entry["center"]) for entry in numeric),
                tuple(float(entry["spread"]) for entry in numeric),
                tuple(tuple(map(str, entry["vocabulary"])) for entry in categories),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"encoding.json is not an encoding: {error!r}") from error

    def _check(self, found: int, expected: int, kind: str) -> None:
        if found != expected:
            raise ModelError(
                f"{found} {kind} columns, but the model was trained with {expected}: "
                f"{', '.join(self.numeric_names + self.category_names)}; train a model for this "
                "definition"
            )


def sample_step(rows: int) -> int:
    """Return which n-th rows make a sample of at most :data:`SAMPLE_ROWS`; 1 takes all."""
    return max(1, -(-rows // SAMPLE_ROWS))


def _center_and_spread(column: NDArray[np.float64]) -> tuple[float, float]:
    known = column[np.isfinite(column)]
    if not len(known):
        return 0.0, 1.0
    low, center, high = np.quantile(known, [0.25, 0.5, 0.75])
    # A column that is mostly one value has no interquartile range, a constant one no deviation.
    for spread in ((high - low) / _NORMAL_IQR, known.std()):
        if np.isfinite(spread) and spread > 1e-12 * max(1.0, abs(center)):
            return float(center), float(spread)
    return float(center), 1.0


def _vocabulary(texts: Sequence[str]) -> tuple[str, ...]:
    counts = counted(texts)
    del counts[""]
    by_frequency = sorted(counts, key=lambda text: (-counts[text], text))
    return tuple(sorted(by_frequency[:VOCABULARY_LIMIT]))
