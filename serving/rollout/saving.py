"""The state on disk: the sums of all versions on their way, and the outcomes that they are of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.rollout.labelled import Labelled
from serving.rollout.ladder import Ladder
from serving.rollout.pairing import Pairing
from serving.rollout.rows import GroupCodes
from serving.rollout.sums import Arm, Comparison
from serving.rollout.trial import Trial
from streams.snapshots import Snapshot, SnapshotStore, log_identity

Arrays = dict[str, NDArray[Any]]
_ARRAYS = ("sums", "groups", "scores", "latency")


class RolloutSnapshots:
    """Saves and loads; what was summed of another log, or by another metric, is not used."""

    def __init__(self, folder: Path | str, bootstrap: str, topic: str, ladder: Ladder) -> None:
        self._store = SnapshotStore(folder, log_identity(bootstrap, topic))
        kept = (ladder.task, ladder.policy.metric, ladder.policy.longest, ladder.group_fields)
        self._maker = hashlib.sha256(repr(kept).encode()).hexdigest()

    def save(self, ladder: Ladder, positions: Mapping[int, int], read: int) -> None:
        """Replace the snapshot; raises StateError where the disk refuses."""
        arrays: Arrays = {}
        meta = {
            "positions": {str(p): at for p, at in positions.items()},
            "read": read,
            "groups": ladder.codes.names,
            "trials": [
                _trial_out(trial, ladder.pairing[version], f"{version}/", arrays)
                for version, trial in ladder.trials.items()
            ],
        }
        arrays["meta"] = np.frombuffer(msgspec.json.encode(meta), np.uint8)
        self._store.save(0, Snapshot(0, arrays, self._maker))

    def load(self, ladder: Ladder) -> tuple[dict[int, int], int]:
        """Put what was saved into ``ladder``; return the positions and how many were read."""
        found = self._store.load(0)
        if found is not None and found.maker != self._maker:
            self._store.discard(0, "the metric, the task or the groups have changed")
            found = None
        if found is None:
            return {}, 0
        arrays = dict(found.arrays)
        meta = msgspec.json.decode(arrays["meta"].tobytes())
        ladder.codes = GroupCodes([(name, value) for name, value in meta["groups"]])
        for saved in meta["trials"]:
            trial, pairing = _trial_in(saved, arrays)
            ladder.trials[trial.version], ladder.pairing[trial.version] = trial, pairing
        return {int(p): at for p, at in meta["positions"].items()}, meta["read"]


def _trial_out(trial: Trial, pairing: Pairing, at: str, arrays: Arrays) -> dict[str, Any]:
    labelled = trial.labelled
    arrays[at + "delays"] = labelled.delays
    entities = trial.entities
    arrays[at + "entities"] = np.array([*entities], np.float64)
    arrays[at + "in_arm"] = np.array([*entities.values()], bool)
    for name, waiting in (("live", pairing.live), ("challenger", pairing.challenger)):
        arrays[f"{at}{name}/keys"] = np.array([*waiting], np.int64)
        arrays[f"{at}{name}/rows"] = np.array([*waiting.values()], np.float64)
    plain = ("version", "live", "definition", "share", "first_ms", "newest_ms")
    return {
        **{name: getattr(trial, name) for name in plain},
        "since": _text_keys(trial.since),
        "begins": _text_keys(trial.begins),
        "bin_ms": labelled.bin_ms,
        "labelled_begins": _text_keys(labelled.begins),
        "bins": [[p, number, *values] for (p, number), values in labelled.bins.items()],
        "newest_label_ms": labelled.newest_ms,
        "pairs": _comparison_out(trial.pairs, at + "pairs/", arrays),
        "arms": _comparison_out(trial.arms, at + "arms/", arrays),
    }


def _trial_in(saved: dict[str, Any], arrays: Arrays) -> tuple[Trial, Pairing]:
    at = f"{saved['version']}/"
    labelled = Labelled(
        saved["bin_ms"],
        _number_keys(saved["labelled_begins"]),
        {(p, number): [end, count] for p, number, end, count in saved["bins"]},
        arrays[at + "delays"],
        saved["newest_label_ms"],
    )
    places, in_arm = arrays[at + "entities"].tolist(), arrays[at + "in_arm"].tolist()
    trial = Trial(
        saved["version"],
        saved["live"],
        saved["definition"],
        labelled,
        _number_keys(saved["since"]),
        saved["share"],
        _comparison_in(saved["pairs"], at + "pairs/", arrays),
        _comparison_in(saved["arms"], at + "arms/", arrays),
        _number_keys(saved["begins"]),
        saved["first_ms"],
        saved["newest_ms"],
        dict(zip(places, in_arm, strict=True)),
    )
    live, challenger = (
        dict(
            zip(
                arrays[f"{at}{name}/keys"].tolist(),
                arrays[f"{at}{name}/rows"].tolist(),
                strict=True,
            )
        )
        for name in ("live", "challenger")
    )
    return trial, Pairing(live, challenger)


def _comparison_out(found: Comparison, at: str, arrays: Arrays) -> dict[str, Any]:
    arrays[at + "cross"] = found.cross
    for side, arm in (("challenger/", found.challenger), ("live/", found.live)):
        for name in _ARRAYS:
            arrays[at + side + name] = getattr(arm, name)
    return {
        "edges": None if found.edges is None else found.edges.tolist(),
        "waiting": found.waiting,
        "failures": [found.challenger.failures, found.live.failures],
    }


def _comparison_in(saved: dict[str, Any], at: str, arrays: Arrays) -> Comparison:
    arms = [
        Arm(**{name: arrays[at + side + name] for name in _ARRAYS}, failures=failures)
        for side, failures in zip(("challenger/", "live/"), saved["failures"], strict=True)
    ]
    edges = None if saved["edges"] is None else np.array(saved["edges"], np.float64)
    waiting = [(bool(of), float(score)) for of, score in saved["waiting"]]
    return Comparison(arms[0], arms[1], arrays[at + "cross"], edges, waiting)


def _text_keys(numbers: Mapping[int, int]) -> dict[str, int]:
    return {str(p): at for p, at in numbers.items()}


def _number_keys(texts: Mapping[str, int]) -> dict[int, int]:
    return {int(p): at for p, at in texts.items()}
