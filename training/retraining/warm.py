"""Warm starts: a training that goes on from the parameters of the live model.

It keeps the live model's encoding too, since its weights mean nothing without it. So a category
that came up since has no vector of its own, and is answered as unknown, until a full training
makes a vocabulary anew; and what a numeric feature's spread was then stays its unit. The optimiser
begins at nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from training.calibration import Spread
from training.dataset.encoding import Encoding
from training.networks.shape import Shape
from training.package import load_parts
from training.retraining.predecessor import Predecessor
from training.spec import Model
from training.standard import Standard


@dataclass(frozen=True)
class Initial:
    """What a warm start begins with; ``sha256`` is that of the package it is from.

    ``standard`` are the units in which the weights of a regression answer.
    """

    encoding: Encoding
    weights: dict[str, NDArray[np.float32]]
    sha256: str
    standard: Standard = field(default_factory=Standard)


class UnfitError(Exception):
    """The live model can't be gone on from; says why."""


def initial_of(
    parent: Predecessor,
    model: Model,
    numeric_names: Sequence[str],
    category_names: Sequence[str],
) -> Initial:
    """Return what ``model`` begins with when it goes on from ``parent``.

    Args:
        parent: the live model.
        model: what is to be trained.
        numeric_names: of the features it reads, in their order; so ``category_names``.

    Raises:
        UnfitError: the parent reads other features, is another network, or can't be loaded.
    """
    try:
        parts = load_parts(parent.uri, parent.sha256)
    except ModelError as error:
        raise UnfitError(f"model {parent.version} can't be loaded: {error}") from error
    encoding = parts.encoding
    names = (*numeric_names, *category_names)
    theirs = (*encoding.numeric_names, *encoding.category_names)
    if names != theirs:
        raise UnfitError(
            f"model {parent.version} reads {', '.join(theirs)}, this one {', '.join(names)}"
        )
    shape = Shape(encoding.numeric_width, encoding.code_counts, model.network, model.task.outputs)
    if shape != parts.shape:
        raise UnfitError(
            f"model {parent.version} is {parts.shape.network} with {parts.shape.outputs} outputs, "
            f"this one {model.network} with {model.task.outputs}"
        )
    if model.task != parts.task:
        raise UnfitError(f"model {parent.version} is for {parts.task}, this one for {model.task}")
    calibration = parts.calibration
    standard = calibration.standard if isinstance(calibration, Spread) else Standard()
    return Initial(encoding, parts.weights, parent.sha256, standard)
