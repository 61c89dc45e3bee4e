"""The model card: what a model was made of, how good it is and for whom, and where that ends.

Made at the end of a training from the validation slice, which is later than all that the network
learnt from; each half of it is answered with the calibration fitted to the other. It lies in
``card/`` beside the package's files, is no part of the package's hash, and holds no wall-clock
time: the same model has the same card. After Mitchell et al., "Model Cards for Model Reporting"
(2019).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.answers import Answers
from training.calibration import Calibration
from training.dataset.encoding import Encoding
from training.dataset.prepared import Examples, PreparedData
from training.dataset.texts import counted
from training.networks.tasks import Binary, MultiClass, Task
from training.scores import losses
from training.tracking.card_limits import limits
from training.tracking.card_statistics import (
    Estimate,
    calibration_bins,
    held_out,
    mean_of,
    rows_by_text,
    time_parts,
    wilson,
)
from training.tracking.card_text import as_markdown

FORMAT = 1
GROUPS_SHOWN = 30
VALUES_SHOWN = 8
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

Floats = NDArray[np.float64]
Card = dict[str, Any]
"""Plain JSON values."""


@dataclass(frozen=True)
class Subject:
    """The model that a card is about; ``outputs`` (n, O) are its own on the validation slice,
    before calibration, and ``comparison`` what it showed against the live model."""

    identity: str
    manifest: Mapping[str, Any]
    task: Task
    encoding: Encoding
    calibration: Calibration
    outputs: Floats
    metrics: Mapping[str, float]
    comparison: Mapping[str, Any] | None = None


def make_card(subject: Subject, prepared: PreparedData) -> Card:
    """Return the card of a model that was trained on ``prepared``."""
    later = prepared.validation
    answers = held_out(subject.calibration, subject.outputs, later.targets)
    scores = losses(subject.task, answers, later.targets)
    judged = _Judged(subject.task, later, answers, scores)
    everything = np.arange(len(later))
    manifest = subject.manifest
    card: Card = {
        "format": FORMAT,
        "model": subject.identity,
        "pipeline": manifest["pipeline"],
        "task": type(subject.task).__name__,
        "network": manifest["model"].get("network"),
        "data": _data(manifest, prepared),
        "definition": manifest["definition"],
        "features": _features(subject.encoding, prepared),
        "metrics": {
            name: float(value) for name, value in subject.metrics.items() if math.isfinite(value)
        },
        "validation": {
            "overall": judged.of(everything),
            "by_time": [
                {
                    "from_ms": int(later.event_times_ms[rows[0]]),
                    "to_ms": int(later.event_times_ms[rows[-1]]),
                    **judged.of(rows),
                }
                for rows in time_parts(later.event_times_ms)
            ],
            "by_group": _by_group(judged, prepared),
        },
        "calibration": [
            asdict(found) for found in calibration_bins(subject.task, answers, later.targets)
        ],
        "against_live": None if subject.comparison is None else dict(subject.comparison),
    }
    card["limits"] = limits(card)
    return card


def write_card(folder: Path, card: Card) -> None:
    """Write ``card.json``, ``card.md`` and, where matplotlib is there, ``calibration.png``."""
    from training.tracking.chart import calibration_chart

    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "card.json", json.dumps(card, indent=1, allow_nan=False).encode())
    try:
        _write(folder / "calibration.png", calibration_chart(card))
    except ImportError:
        (folder / "calibration.png").unlink(missing_ok=True)
    has_chart = (folder / "calibration.png").exists()
    _write(folder / "card.md", as_markdown(card, has_chart).encode())


@dataclass(frozen=True)
class _Judged:
    """The validation slice with its answers and losses, to be looked at in parts."""

    task: Task
    examples: Examples
    answers: Answers
    scores: Mapping[str, Floats]

    def of(self, rows: NDArray[np.int64]) -> dict[str, Any]:
        """Return n, the scores, and what was answered beside what came true, of some rows."""
        targets, n = self.examples.targets[rows], len(rows)
        told: dict[str, Any] = {
            "n": n,
            "scores": {name: asdict(mean_of(each[rows])) for name, each in self.scores.items()},
        }
        match self.task:
            case Binary():
                hits = float(targets.sum())
                low, high = wilson(hits, n)
                told["observed"] = asdict(Estimate(hits / n, low, high))
                told["answered"] = float(self.answers.score[rows].mean())
            case MultiClass() if self.answers.probabilities is not None:
                came = float((self.answers.probabilities[rows].argmax(axis=1) == targets).sum())
                told["accuracy"] = asdict(Estimate(came / n, *wilson(came, n)))
            case _:
                told["observed"] = asdict(mean_of(targets.astype(np.float64)))
                told["answered"] = float(self.answers.score[rows].mean())
        return told


def _data(manifest: Mapping[str, Any], prepared: PreparedData) -> dict[str, Any]:
    return {
        "since_ms": manifest["since_ms"],
        "cutoff_ms": manifest["cutoff_ms"],
        "label_cutoff_ms": manifest["label_cutoff_ms"],
        "training": _span(prepared.train),
        "validation": _span(prepared.validation),
        "counts": dict(manifest["counts"]),
        "features": manifest["features"],
        "labels": manifest["labels"],
        "data_sha256": manifest["data_sha256"],
    }


def _span(examples: Examples) -> dict[str, Any]:
    return {
        "n": len(examples),
        "from_ms": int(examples.event_times_ms.min()),
        "to_ms": int(examples.event_times_ms.max()),
        "mean_target": float(examples.targets.mean()),
    }


def _features(encoding: Encoding, prepared: PreparedData) -> list[dict[str, Any]]:
    """Return the training distribution of each feature, and what of it is new in validation."""
    train, later = prepared.train, prepared.validation
    told: list[dict[str, Any]] = []
    for i, name in enumerate(prepared.numeric_names):
        column = np.asarray(train.numeric[:, i])
        known = column[np.isfinite(column)]
        quantiles = np.quantile(known, QUANTILES).tolist() if len(known) else None
        outside = 0.0
        if len(known):
            new = np.asarray(later.numeric[:, i])
            outside = float(((new < known.min()) | (new > known.max())).mean())
        told.append({
            "name": name,
            "kind": "numeric",
            "missing": 1 - len(known) / len(column),
            "quantiles": quantiles,
            "outside_in_validation": outside,
        })  # fmt: skip
    vocabularies = dict(zip(encoding.category_names, encoding.vocabularies, strict=True))
    for i, name in enumerate(prepared.category_names):
        seen, n = counted(train.categories[i]), len(train)
        most = sorted(seen, key=lambda text: (-seen[text], text))
        now = counted(later.categories[i])
        vocabulary = set(vocabularies[name])
        unseen = sum(count for text, count in now.items() if text and text not in vocabulary)
        told.append({
            "name": name,
            "kind": "category",
            "missing": seen.get("", 0) / n,
            "values": len(seen) - ("" in seen),
            "most_frequent": {text: seen[text] / n for text in most[:VALUES_SHOWN]},
            "outside_in_validation": unseen / len(later),
        })  # fmt: skip
    return told


def _by_group(judged: _Judged, prepared: PreparedData) -> dict[str, list[dict[str, Any]]]:
    """Return field → its groups, the largest first."""
    train = prepared.train
    told: dict[str, list[dict[str, Any]]] = {}
    for i, name in enumerate(prepared.group_names):
        trained_on = counted(train.groups[i])
        rows = rows_by_text(judged.examples.groups[i])
        largest = sorted(rows, key=lambda text: (-len(rows[text]), text))[:GROUPS_SHOWN]
        told[name] = [
            {"group": text, "n_training": trained_on.get(text, 0), **judged.of(rows[text])}
            for text in largest
        ]
    return told


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
