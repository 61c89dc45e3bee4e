"""What an experiment measures: a number per outcome, and how those of an entity become one.

The entity is what is assigned to an arm, so it is the unit of analysis: its events resemble each
other, and counted as independent they would make any difference look certain. Three units:

``entity``   the mean over entities of the entity's own mean: each entity weighs the same.
``event``    the mean over all events, a ratio of sums over entities (delta method).
``ever``     the share of the entities for which it was above 0 at least once.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

import msgspec
import numpy as np

from serving.monitoring.told import Floats, Told, answers_of, can_be_scored, rows_of
from streams.errors import ConfigurationError
from training.networks.tasks import Binary, MultiClass, Regression, Task
from training.scores import losses

Unit = Literal["entity", "event", "ever"]
UNITS: tuple[Unit, ...] = ("entity", "event", "ever")

_TEXT = re.compile(r"(?P<name>[a-z_]+)(\.(?P<field>\w+))?(/(?P<unit>\w+))?(:(?P<better>\w+))?")
_HIGHER = {
    "accuracy": True, "label": True, "log_loss": False, "brier": False, "crps": False,
    "error": False,
}  # fmt: skip
_OF_TASK: dict[type[Task], tuple[str, ...]] = {
    Binary: ("accuracy", "log_loss", "brier", "label"),
    MultiClass: ("accuracy", "log_loss", "brier"),
    Regression: ("error", "log_loss", "crps", "label"),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; ``text`` is how the command line names it.

    ``field`` is that of the label record which ``label.<field>`` names, ``higher`` whether more of
    it is better, ``is_share`` whether an entity's value is 0 or 1, or lies between, as a share of
    its events.
    """

    text: str
    name: str
    unit: Unit
    higher: bool
    field: str | None = None
    is_share: bool = False


def metric_of(text: str, task: Task, label: type[msgspec.Struct]) -> Metric:
    """Return the metric that ``name[.field][/unit][:higher|:lower]`` names.

    Raises:
        ConfigurationError: the task or the label record has no such thing.

    >>> metric_of("label/ever", Binary(), msgspec.Struct).unit
    'ever'
    """
    found, names = _TEXT.fullmatch(text), _OF_TASK[type(task)]
    if found is None or (found["field"] is None and found["name"] not in names):
        raise ConfigurationError(
            f"metric {text!r}: of this task there are {', '.join(names)}, and label.<field> for a "
            "number in the label record; then /entity, /event or /ever, and :higher or :lower"
        )
    name, field, unit, better = found["name"], found["field"], found["unit"], found["better"]
    if unit is not None and unit not in UNITS:
        raise ConfigurationError(f"metric {text!r}: /{unit} is none of {', '.join(UNITS)}")
    if better not in (None, "higher", "lower"):
        raise ConfigurationError(f"metric {text!r}: {better} is better? Say higher or lower")
    if field is not None:
        _check_field(text, name, field, label)
    higher = _HIGHER.get(name, True) if better is None else better == "higher"
    of_labels = name == "label" and isinstance(task, Binary)
    is_share = unit == "ever" or (field is None and (name == "accuracy" or of_labels))
    return Metric(text, name, unit or "entity", higher, field, is_share)


def values_of(metric: Metric, task: Task, told: Sequence[Told], labels: Floats) -> Floats:
    """Return the metric of each outcome, shape (n,); NaN where it has none.

    ``labels`` (n,) are the outcomes'. Not for a metric with a ``field``: :func:`fields_of`.
    """
    if metric.name == "label":
        return labels
    rows = rows_of(task, told)
    whole = can_be_scored(rows)
    if metric.name == "error":
        return np.abs(np.array([each.score for each in told], np.float64) - labels)
    values = np.full(len(told), np.nan)
    if metric.name == "accuracy":
        guess = rows >= 0.5 if isinstance(task, Binary) else rows.argmax(axis=1)
        values[whole] = (guess == labels)[whole]
    else:
        scored = losses(task, answers_of(task, rows[whole]), labels[whole])
        values[whole] = scored[metric.name]
    return values


def fields_of(metric: Metric, records: Sequence[Any]) -> Floats:
    """Return the field that the metric names, of each label record, (n,); NaN where it is None."""
    found = map(attrgetter(metric.field or ""), records)
    return np.array([np.nan if value is None else value for value in found], np.float64)


def of_entities(unit: Unit, counts: Floats, sums: Floats, mean: float | None = None) -> Floats:
    """Return each entity's value, (n,), whose mean is the metric and whose variance over entities,
    divided by n, that of the metric.

    Of a ratio these are the linearised values of the delta method (Deng, Knoblich and Lu 2018,
    "Applying the delta method in metric analytics"): R + (sᵢ − R·nᵢ)/n̄ with R = Σs/Σn, or the
    ``mean`` given.

    Args:
        unit: how the events of an entity become one value.
        counts: how many outcomes each entity has, (n,), all above 0.
        sums: of their values, (n,).
        mean: R, where it is not to be that of these entities.
    """
    if unit == "ever":
        return (sums > 0).astype(np.float64)
    if unit == "entity" or not len(counts):
        return sums / counts
    ratio = float(sums.sum() / counts.sum()) if mean is None else mean
    linear: Floats = ratio + (sums - ratio * counts) / counts.mean()
    return linear


def _check_field(text: str, name: str, field: str, label: type[msgspec.Struct]) -> None:
    numbers = [f.name for f in msgspec.structs.fields(label) if _is_number(f.type)]
    if name != "label" or field not in numbers:
        raise ConfigurationError(
            f"metric {text!r}: {label.__name__} has no number {field!r}; it has "
            f"{', '.join(numbers) or 'none'}: write label.<field>"
        )


def _is_number(annotation: Any) -> bool:
    """Whether a field holds numbers, or numbers or nothing."""
    from msgspec.inspect import BoolType, FloatType, IntType, NoneType, UnionType, type_info

    kinds = type_info(annotation)
    parts = kinds.types if isinstance(kinds, UnionType) else (kinds,)
    return all(isinstance(p, BoolType | FloatType | IntType | NoneType) for p in parts)
