"""What a monitor compares with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.reference import Reference

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class LiveModel:
    """The model now judged: training's counts per bin, the validation figures, and all else that
    its training left as a reference.

    Version 0, the stated prior, has none of them.
    """

    version: int = 0
    expected: Mapping[str, Counts] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)
    reference: Reference | None = None
