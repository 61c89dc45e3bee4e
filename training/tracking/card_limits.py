"""What a model card warns of: rules over the card itself, each with its figures. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

FEW_EXAMPLES = 1_000
SMALL_GROUP = 200
MOSTLY_MISSING = 0.5
NEW_VALUES = 0.01
NAMED = 8


def limits(card: Mapping[str, Any]) -> list[str]:
    """Return the warnings, in sentences for people."""
    return [
        *_age(card),
        *_size(card),
        *_groups(card),
        *_features(card),
        *_calibration(card),
        *_time(card),
        *_comparison(card),
    ]


def day(time_ms: int) -> str:
    """Return an event time as people read it."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _age(card: Mapping[str, Any]) -> Iterator[str]:
    until = day(card["data"]["cutoff_ms"])
    yield f"It knows nothing of what came after {until} UTC; its figures are of the days before."


def _size(card: Mapping[str, Any]) -> Iterator[str]:
    n = card["validation"]["overall"]["n"]
    if n < FEW_EXAMPLES:
        yield f"It was judged on {n:,} examples only; the intervals say how little that tells."


def _groups(card: Mapping[str, Any]) -> Iterator[str]:
    for field, groups in card["validation"]["by_group"].items():
        small = [f"{of['group'] or '(missing)'} ({of['n']:,})" for of in groups
                 if of["n"] < SMALL_GROUP]  # fmt: skip
        if small:
            yield f"Groups of {field} too small to be judged: {_named(small)}."
        untrained = [of["group"] or "(missing)" for of in groups if not of["n_training"]]
        if untrained:
            yield f"Groups of {field} it never learnt from: {_named(untrained)}."
        score = next(iter(card["validation"]["overall"]["scores"]))
        overall = card["validation"]["overall"]["scores"][score]
        worse = [
            f"{of['group'] or '(missing)'} ({of['scores'][score]['value']:.4f})"
            for of in groups
            if of["scores"][score]["low"] is not None
            and overall["high"] is not None
            and of["scores"][score]["low"] > overall["high"]
        ]
        if worse:
            named = f"{score.replace('_', ' ')} ({overall['value']:.4f} over all)"
            yield f"Groups of {field} with a worse {named} beyond chance: {_named(worse)}."


def _features(card: Mapping[str, Any]) -> Iterator[str]:
    features = card["features"]
    missing = [f"{of['name']} ({of['missing']:.0%})" for of in features
               if of["missing"] > MOSTLY_MISSING]  # fmt: skip
    if missing:
        yield f"Mostly missing in training: {_named(missing)}."
    constant = [
        of["name"]
        for of in features
        if of.get("values") == 1
        or (of.get("quantiles") and of["quantiles"][0] == of["quantiles"][-1])
    ]
    if constant:
        yield f"One value only in training, so nothing was learnt from: {_named(constant)}."
    for kind, what in (
        ("category", "Categories that training had not seen"),
        ("numeric", "Values beyond the least and greatest of training"),
    ):
        new = [
            f"{of['name']} ({of['outside_in_validation']:.1%})"
            for of in features
            if of["kind"] == kind and of["outside_in_validation"] > NEW_VALUES
        ]
        if new:
            yield f"{what}, by share of the validation slice: {_named(new)}."


def _calibration(card: Mapping[str, Any]) -> Iterator[str]:
    bins = card["calibration"]
    off = [of for of in bins if not of["low"] <= of["answered"] <= of["high"]]
    # One in twenty lies outside by chance; those of a regression are of the same examples.
    by_chance = len(bins) // 2 if card["task"] == "Regression" else max(1, len(bins) // 10)
    if len(off) > by_chance:
        told = [f"{of['answered']:.3f} came true {of['observed']:.3f}" for of in off]
        yield f"Answers that are off beyond chance: {_named(told)}."


def _time(card: Mapping[str, Any]) -> Iterator[str]:
    parts = card["validation"]["by_time"]
    if len(parts) < 2:
        return
    score = next(iter(parts[0]["scores"]))
    first, last = (parts[place]["scores"][score] for place in (0, -1))
    if first["high"] is not None and last["low"] is not None and last["low"] > first["high"]:
        yield (
            f"It is worse at the end of the validation slice than at its beginning: "
            f"{score.replace('_', ' ')} {first['value']:.4f} to {last['value']:.4f}."
        )


def _comparison(card: Mapping[str, Any]) -> Iterator[str]:
    comparison = card["against_live"]
    if comparison is not None and comparison["not_compared"]:
        yield f"Not compared with a live model: {comparison['not_compared']}."


def _named(items: list[str]) -> str:
    more = len(items) - NAMED
    return ", ".join(items[:NAMED]) + (f" and {more} more" if more > 0 else "")
