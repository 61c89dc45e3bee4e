"""Outcomes as columns: what the verdicts need of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.monitoring.told import Told, answers_of, can_be_scored, rows_of
from serving.rollout.statistics import buckets_of
from streams.assignment import places_of
from streams.wire import Outcome
from training.networks.tasks import Binary, MultiClass, Task
from training.scores import losses

NONE = -1
GROUP_VALUES = 64
"""Values of groups that are told apart; events of further ones count in no group."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """n answers with their labels; all arrays are (n,), ``groups`` is (n, fields of groups).

    ``bucket`` is the entity's cluster, ``entity`` its place in [0, 1). ``loss`` is NaN where the
    answer can't be scored; ``residual`` is what is 0 in the mean where the scores are calibrated.
    ``latency_ms`` is NaN where it is not known; ``groups`` are codes, −1 for none.
    """

    bucket: Ints
    entity: Floats
    loss: Floats
    residual: Floats
    score: Floats
    latency_ms: Floats
    event_ms: Ints
    groups: Ints

    def __len__(self) -> int:
        """Return the number of answers."""
        return len(self.loss)

    def at(self, which: Ints | NDArray[np.bool_] | slice) -> "Rows":
        """Return some of them."""
        return Rows(*(getattr(self, f.name)[which] for f in fields(self)))

    def to_matrix(self) -> Floats:
        """Return them as numbers, a row each, shape (n, 7 + fields of groups)."""
        plain = [getattr(self, f.name) for f in fields(self)[:-1]]
        return np.column_stack([*plain, self.groups]).astype(np.float64)

    @classmethod
    def from_matrix(cls, matrix: Floats) -> "Rows":
        """Return the rows of :meth:`to_matrix`."""
        bucket, entity, loss, residual, score, latency, event = matrix[:, :7].T
        whole = bucket.astype(np.int64), event.astype(np.int64), matrix[:, 7:].astype(np.int64)
        return cls(whole[0], entity, loss, residual, score, latency, whole[1], whole[2])


class GroupCodes:
    """Numbers for (field, value) of groups, given in the order in which they are seen."""

    def __init__(self, names: Sequence[tuple[str, str]] = ()) -> None:
        self.names = list(names)
        self._codes = {name: code for code, name in enumerate(self.names)}

    def of(self, groups: Mapping[str, str] | None, width: int) -> list[int]:
        """Return the codes of an outcome's groups, ``width`` of them."""
        found = [self._code(name) for name in sorted(groups.items())] if groups else []
        return (found + [NONE] * width)[:width]

    def _code(self, name: tuple[str, str]) -> int:
        code = self._codes.get(name, NONE)
        if code == NONE and len(self.names) < GROUP_VALUES:
            code = self._codes[name] = len(self.names)
            self.names.append(name)
        return code


class RowMaker:
    """Makes :class:`Rows` of outcomes of a task, judged by ``metric``."""

    def __init__(self, task: Task, metric: str, codes: GroupCodes, width: int) -> None:
        self._task, self._metric = task, metric
        self._codes, self._width = codes, width

    def of(self, outcomes: Sequence[Outcome]) -> Rows:
        """Return the rows of ``outcomes``."""
        n = len(outcomes)
        told = [
            Told(o.event_id, o.score, o.model_version, o.event_time_ms, o.probabilities, o.spread)
            for o in outcomes
        ]
        labels = np.array([o.label for o in outcomes], np.float64)
        given = rows_of(self._task, told)
        whole = can_be_scored(given)
        loss, residual, score = np.full((3, n), np.nan)
        if whole.any():
            loss[whole], residual[whole], score[whole] = self._scored(given[whole], labels[whole])
        entities = [o.entity for o in outcomes]
        latency = [np.nan if o.latency_ms is None else o.latency_ms for o in outcomes]
        groups = [self._codes.of(o.groups, self._width) for o in outcomes]
        return Rows(
            buckets_of(entities),
            places_of("kappa-entity", entities),
            loss,
            residual,
            score,
            np.array(latency, np.float64),
            np.array([o.event_time_ms for o in outcomes], np.int64),
            np.array(groups, np.int64).reshape(n, self._width),
        )

    def _scored(self, given: Floats, labels: Floats) -> tuple[Floats, Floats, Floats]:
        answers = answers_of(self._task, given)
        loss = losses(self._task, answers, labels)[self._metric]
        match self._task:
            case Binary():
                return loss, given - labels, given
            case MultiClass():
                top = given.max(axis=1)
                hits = (given.argmax(axis=1) == labels).astype(np.float64)
                return loss, top - hits, top
            case _:
                mean = given[:, 0]
                return loss, np.where(labels > mean, -0.5, 0.5), mean


def decoder() -> Callable[[bytes], Outcome]:
    """Return what decodes a record of ``P.outcomes.v1``; it raises msgspec.MsgspecError."""
    return msgspec.json.Decoder(Outcome).decode
