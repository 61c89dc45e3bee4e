"""Letting the live model and the new one answer the same later examples: the effects around
:mod:`training.retraining.comparison`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from training.dataset.prepared import Examples, PreparedData
from training.networks.declared import Custom, Network
from training.package import load_package, load_parts
from training.retraining.answered_rows import rows_for
from training.retraining.comparison import MINIMUM, Comparison, Losses, compare, out_of_fold
from training.retraining.fit import Fitted
from training.retraining.predecessor import Predecessor
from training.scores import losses


def contest(champion: Predecessor | None, prepared: PreparedData, fitted: Fitted) -> Comparison:
    """Return what ``fitted`` showed against ``champion`` on the validation slice of ``prepared``.

    Whatever keeps them from being compared is in the result: no defect of an old model may keep a
    new one from going live.
    """
    if champion is None:
        return Comparison(0, not_compared="no model is live yet")
    try:
        return _contest(champion, prepared, fitted)
    except ModelError as error:
        why = f"model {champion.version} can't answer: {error}"
        return Comparison(champion.version, not_compared=why)


def losses_of(
    package: str, sha256: str | None, network: Network, prepared: PreparedData, examples: Examples
) -> dict[str, Losses]:
    """Return name → losses (n,) of what the model in ``package`` answers to ``examples``.

    Args:
        package: its path or file: URI.
        sha256: of the package, or None.
        network: what the pipeline file declares; one of the user's own may then be imported.
        prepared: where the examples are from.
        examples: some of its examples.

    Raises:
        ModelError: the model can't be loaded, or reads other features.
    """
    parts = load_parts(package, sha256)
    rows = rows_for(parts.encoding, parts.shape.last, prepared, examples)
    own = (network.network,) if isinstance(network, Custom) else ()
    answers = load_package(package, sha256, own, "cpu").answers(rows)
    return losses(parts.task, answers, examples.targets)


def _contest(champion: Predecessor, prepared: PreparedData, fitted: Fitted) -> Comparison:
    parts = load_parts(champion.uri, champion.sha256)
    if parts.task != fitted.task:
        raise ModelError(f"it is for {parts.task}, the new one for {fitted.task}")
    slice_ = prepared.validation
    later = np.flatnonzero(slice_.event_times_ms >= int(parts.manifest["cutoff_ms"]))
    times = slice_.event_times_ms[later]
    if len(later) < MINIMUM:
        return compare(champion.version, {}, times)
    of_champion = losses_of(
        champion.uri, champion.sha256, fitted.shape.network, prepared, slice_.some(later)
    )
    of_challenger = out_of_fold(fitted.outputs, slice_.targets, functools.partial(_judged, fitted))
    scores = {name: (of_champion[name], of_challenger[name][later]) for name in of_champion}
    return compare(champion.version, scores, times)


def _judged(
    fitted: Fitted,
    fitted_outputs: NDArray[Any],
    fitted_targets: NDArray[Any],
    outputs: NDArray[Any],
    targets: NDArray[Any],
) -> dict[str, Losses]:
    calibration = fitted.calibration.refit(fitted_outputs, fitted_targets)
    return losses(fitted.task, calibration.answers(outputs), targets)
