"""Letting the live model and the new one answer the same later examples: the effects around
:mod:`training.retraining.comparison`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from training.dataset.encoding import Encoding
from training.dataset.prepared import Examples, PreparedData
from training.networks.declared import Custom, Network
from training.package import load_package, load_parts
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


def _contest(champion: Predecessor, prepared: PreparedData, fitted: Fitted) -> Comparison:
    parts = load_parts(champion.uri, champion.sha256)
    difference = _differs(parts.encoding, prepared)
    if parts.task != fitted.task:
        difference = f"it is for {parts.task}, the new one for {fitted.task}"
    if difference is not None:
        why = f"model {champion.version}: {difference}"
        return Comparison(champion.version, not_compared=why)
    slice_ = prepared.validation
    later = np.flatnonzero(slice_.event_times_ms >= int(parts.manifest["cutoff_ms"]))
    times = slice_.event_times_ms[later]
    if len(later) < MINIMUM:
        return compare(champion.version, {}, times)
    rows = _in_order_of(parts.encoding, prepared, _taken(slice_, later))
    package = load_package(champion.uri, champion.sha256, _own(fitted.shape.network))
    of_champion = losses(fitted.task, package.answers(rows), slice_.targets[later])
    of_challenger = out_of_fold(fitted.outputs, slice_.targets, functools.partial(_judged, fitted))
    scores = {name: (of_champion[name], of_challenger[name][later]) for name in of_champion}
    return compare(champion.version, scores, times)


def _differs(encoding: Encoding, prepared: PreparedData) -> str | None:
    for kind, theirs, ours in (
        ("numeric", encoding.numeric_names, prepared.numeric_names),
        ("category", encoding.category_names, prepared.category_names),
    ):
        if set(theirs) != set(ours):
            return (
                f"it reads the {kind} features {', '.join(sorted(theirs)) or 'none'}, the new one "
                f"{', '.join(sorted(ours)) or 'none'}"
            )
    return None


def _taken(examples: Examples, rows: NDArray[np.intp]) -> Examples:
    return Examples(
        examples.numeric[rows],
        [[column[i] for i in rows] for column in examples.categories],
        examples.targets[rows],
        examples.event_times_ms[rows],
    )


def _in_order_of(encoding: Encoding, prepared: PreparedData, rows: Examples) -> Examples:
    """Return the rows with the columns in the order in which ``encoding`` has them."""
    numeric = [list(prepared.numeric_names).index(name) for name in encoding.numeric_names]
    category = [list(prepared.category_names).index(name) for name in encoding.category_names]
    return Examples(
        rows.numeric[:, numeric],
        [rows.categories[i] for i in category],
        rows.targets,
        rows.event_times_ms,
    )


def _judged(
    fitted: Fitted,
    fitted_outputs: NDArray[Any],
    fitted_targets: NDArray[Any],
    outputs: NDArray[Any],
    targets: NDArray[Any],
) -> dict[str, Losses]:
    calibration = fitted.calibration.refit(fitted_outputs, fitted_targets)
    return losses(fitted.task, calibration.answers(outputs), targets)


def _own(network: Network) -> tuple[str, ...]:
    """Return the network of the user's own that the pipeline declares, which may be imported."""
    return (network.network,) if isinstance(network, Custom) else ()
