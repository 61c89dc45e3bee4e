"""What equals, and what does not, between a registered model and the one made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.dataset.manifest import differences

_FILES = {
    "weights": "model.safetensors",
    "encoding": "encoding.json",
    "reference": "reference.json",
}


@dataclass(frozen=True)
class Row:
    """One thing as it was and as it came out again, as texts for people."""

    what: str
    then: str
    now: str

    @property
    def equal(self) -> bool:
        """Whether it is the same."""
        return self.then == self.now


@dataclass(frozen=True)
class Verification:
    """All that was compared; ``environment`` says what of code, libraries and devices differs."""

    rows: tuple[Row, ...]
    environment: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether everything is the same, to the last bit."""
        return all(row.equal for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "equal": self.equal,
            "rows": [
                {"what": r.what, "then": r.then, "now": r.now, "equal": r.equal} for r in self.rows
            ],
            "environment": list(self.environment),
        }


def verification(then: Mapping[str, Any], now: Mapping[str, Any]) -> Verification:
    """Compare the manifests of two packages: of a model, and of the same made again."""
    rows = [
        Row("definition", *_both(then, now, "definition", "hash")),
        Row("examples", *_both(then, now, "counts", "examples")),
        Row("data", *_both(then, now, "data_sha256")),
        *(Row(what, *_both(then, now, "files", file)) for what, file in _FILES.items()),
        Row("calibration", *_both(then, now, "calibration")),
        Row("metrics", *_both(then, now, "metrics")),
    ]
    places = [
        f"{name}: {was} then, {came} now"
        for name in ("ranks", "device", "precision")
        for was, came in [_both(then, now, "run", name)]
        if was != came
    ]
    return Verification(tuple(rows), (*differences(then), *places))


def _both(then: Mapping[str, Any], now: Mapping[str, Any], *path: str) -> tuple[str, str]:
    was, came = (_at(manifest, path) for manifest in (then, now))
    return _text(was), _text(came)


def _at(manifest: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        manifest = manifest.get(name) if isinstance(manifest, Mapping) else None
    return manifest


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
