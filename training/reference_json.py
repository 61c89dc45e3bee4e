"""The reference as JSON: what ``reference.json`` of a model's package holds. numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.dispersion import Dispersion

if TYPE_CHECKING:
    from training.reference import Reference

Counts = dict[str, NDArray[np.int64]]


def written(reference: Reference) -> dict[str, Any]:
    """Return plain JSON values."""
    content: dict[str, Any] = {
        "numeric": [
            {
                "name": name,
                "edges": list(edges),
                "fine_edges": list(reference.fine_edges[name]),
                "range": list(reference.ranges.get(name, ())),
                **_counted(reference, name),
            }
            for name, edges in reference.edges.items()
        ],
        "categories": [
            {
                "name": name,
                "values": list(values),
                "known": list(reference.known[name][len(values) :]),
                **_counted(reference, name),
            }
            for name, values in reference.values.items()
        ],
        "scores": {name: counts.tolist() for name, counts in reference.scores.items()},
        "score_dispersions": {
            name: each.to_json() for name, each in reference.score_dispersions.items()
        },
        "groups": {
            group: [_own(own, name) for name in own.names]
            for group, own in reference.groups.items()
        },
    }
    if reference.calibration is not None:
        content["calibration"] = reference.calibration.tolist()
    return content


def fields_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of :class:`training.reference.Reference`, but for its groups; of an older
    version's content, which knew of nothing but bins, just these.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: it is no reference.
    """
    numeric, categories = content["numeric"], content["categories"]
    entries = [*numeric, *categories]
    fields: dict[str, Any] = {
        "edges": {str(e["name"]): _floats(e["edges"]) for e in numeric},
        "values": {str(e["name"]): tuple(map(str, e["values"])) for e in categories},
        "expected": {str(e["name"]): _counts(e["expected"]) for e in entries},
    }
    if not all("fine_expected" in e for e in entries):
        return fields
    ranges = {str(e["name"]): _floats(e["range"]) for e in numeric if e["range"]}
    moves = content.get("score_dispersions", {})
    told = content.get("calibration")
    return fields | {
        "fine_edges": {str(e["name"]): _floats(e["fine_edges"]) for e in numeric},
        "known": {str(e["name"]): tuple(map(str, [*e["values"], *e["known"]])) for e in categories},
        "fine_expected": {str(e["name"]): _counts(e["fine_expected"]) for e in entries},
        "ranges": {name: (low, high) for name, (low, high) in ranges.items()},
        "dispersions": _dispersions(entries),
        "scores": {str(n): _counts(c) for n, c in content.get("scores", {}).items()},
        "score_dispersions": {str(n): Dispersion.from_json(each) for n, each in moves.items()},
        "calibration": None if told is None else np.asarray(told, np.float64),
    }


def groups_of(content: Mapping[str, Any]) -> dict[str, tuple[Counts, dict[str, Dispersion]]]:
    """Return "field=value" → that group's counts in the fine bins, and how its features move; the
    same errors."""
    return {
        str(group): (
            {str(e["name"]): _counts(e["fine_expected"]) for e in own},
            _dispersions(own),
        )
        for group, own in content.get("groups", {}).items()
    }


def _counted(reference: Reference, name: str) -> dict[str, Any]:
    return {
        "expected": reference.expected[name].tolist(),
        "fine_expected": reference.fine_expected[name].tolist(),
        "dispersion": reference.dispersion(name).to_json(),
    }


def _own(group: Reference, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "fine_expected": group.fine_expected[name].tolist(),
        "dispersion": group.dispersion(name).to_json(),
    }


def _floats(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(map(float, values))


def _counts(values: Sequence[Any]) -> NDArray[np.int64]:
    return np.asarray(values, np.int64)


def _dispersions(entries: Sequence[Mapping[str, Any]]) -> dict[str, Dispersion]:
    told = {str(e["name"]): Dispersion.from_json(e["dispersion"]) for e in entries}
    return {name: each for name, each in told.items() if each.lengths_ms}
