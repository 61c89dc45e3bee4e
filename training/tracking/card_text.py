"""The model card in Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from training.tracking.card_limits import day

FEATURE_HEADER = ("feature", "missing", "5 %", "median", "95 %", "new in validation")


def as_markdown(card: Mapping[str, Any], has_chart: bool = True) -> str:
    """Return the card as Markdown, with ``calibration.png`` beside it where there is one."""
    return "\n".join([*_head(card), *_data(card), *_quality(card), *_groups(card),
                      *_calibration(card, has_chart), *_against_live(card), *_features(card),
                      *_reproduction(card)]) + "\n"  # fmt: skip


def _head(card: Mapping[str, Any]) -> Iterator[str]:
    definition = card["definition"]
    yield f"# Model {card['model']} of {card['pipeline']}"
    yield ""
    yield (
        f"{card['task']} task, trained on the features of definition v{definition['version']} "
        f"(`{definition['hash'][:12]}`). Shares and means stand with 95 % intervals; "
        "those of shares take the examples to be independent."
    )
    yield ""
    yield "## Limits"
    yield from (f"- {limit}" for limit in card["limits"])
    yield ""


def _data(card: Mapping[str, Any]) -> Iterator[str]:
    data = card["data"]
    yield "## Data"
    rows = [
        (name, f"{data[name]['n']:,}", day(data[name]["from_ms"]), day(data[name]["to_ms"]),
         f"{data[name]['mean_target']:.4g}")
        for name in ("training", "validation")
    ]  # fmt: skip
    yield from _table(("slice", "examples", "from (UTC)", "to", "mean target"), rows)
    yield ""
    for kind in ("features", "labels"):
        ranges = ", ".join(
            f"{partition}: {first:,} to {end:,}"
            for partition, (first, end) in data[kind]["offsets"].items()
        )
        yield f"- `{data[kind]['topic']}`, partition: first to end offset: {ranges}"
    yield f"- Labels known by {day(data['label_cutoff_ms'])} UTC."
    yield f"- Counts: {', '.join(f'{k} {v:,}' for k, v in data['counts'].items())}."
    yield ""


def _quality(card: Mapping[str, Any]) -> Iterator[str]:
    judged = card["validation"]
    yield "## How good it is"
    yield (
        "On the validation slice, later than what it learnt from, each half answered with the "
        "calibration fitted to the other."
    )
    yield ""
    parts = [(f"{day(of['from_ms'])} to {day(of['to_ms'])}", of) for of in judged["by_time"]]
    yield from _judged([("all", judged["overall"]), *parts], "slice")
    yield ""


def _groups(card: Mapping[str, Any]) -> Iterator[str]:
    for field, groups in card["validation"]["by_group"].items():
        yield f"### By {field}"
        yield from _judged([(of["group"] or "(missing)", of) for of in groups], field)
        yield ""


def _judged(parts: Sequence[tuple[str, Mapping[str, Any]]], what: str) -> Iterator[str]:
    first = parts[0][1]
    scores = list(first["scores"])
    extra = [name for name in ("observed", "answered", "accuracy") if name in first]
    header = (what, "n", *(name.replace("_", " ") for name in scores), *extra)
    rows = [
        (
            name,
            f"{of['n']:,}",
            *(_estimate(of["scores"][score]) for score in scores),
            *(f"{of[e]:.4g}" if e == "answered" else _estimate(of[e]) for e in extra),
        )
        for name, of in parts
    ]
    yield from _table(header, rows)


def _calibration(card: Mapping[str, Any], has_chart: bool) -> Iterator[str]:
    yield "## Calibration"
    if has_chart:
        yield "![answered against observed](calibration.png)"
        yield ""
    rows = [
        (f"{of['answered']:.4f}", _estimate({"value": of["observed"], **of}), f"{of['n']:,}")
        for of in card["calibration"]
    ]
    yield from _table(("answered", "observed", "n"), rows)
    yield ""


def _against_live(card: Mapping[str, Any]) -> Iterator[str]:
    comparison = card["against_live"]
    if comparison is None or comparison["not_compared"]:
        return
    yield f"## Against version {comparison['champion']}, which was live"
    yield f"On {comparison['n']:,} examples later than what either was trained on."
    yield ""
    rows = [
        (
            name.replace("_", " "), f"{of['champion']:.4f}", f"{of['challenger']:.4f}",
            _estimate({"value": of["difference"]["mean"], **of["difference"]}),
        )
        for name, of in comparison["scores"].items()
    ]  # fmt: skip
    yield from _table(("score", "live", "this one", "difference"), rows)
    yield ""


def _features(card: Mapping[str, Any]) -> Iterator[str]:
    yield "## Features in training"
    numeric = [of for of in card["features"] if of["kind"] == "numeric"]
    if numeric:
        rows = [
            (
                of["name"],
                f"{of['missing']:.1%}",
                *([f"{of['quantiles'][i]:.4g}" for i in (1, 3, 5)] if of["quantiles"]
                  else ["", "", ""]),
                f"{of['outside_in_validation']:.2%}",
            )
            for of in numeric
        ]  # fmt: skip
        yield from _table(FEATURE_HEADER, rows)
        yield ""
    for of in card["features"]:
        if of["kind"] == "category":
            most = ", ".join(f"{k or '(missing)'} {v:.1%}" for k, v in of["most_frequent"].items())
            yield (
                f"- {of['name']}: {of['values']:,} values, {of['missing']:.1%} missing, "
                f"{of['outside_in_validation']:.2%} of the validation slice new; {most}"
            )
    yield ""


def _reproduction(card: Mapping[str, Any]) -> Iterator[str]:
    yield "## How to make it again"
    yield (
        "`kappa models verify VERSION` makes the version again from the log and compares it, byte "
        "for byte; `kappa models list` shows its number. `kappa train --manifest manifest.json` "
        f"makes it from its manifest. SHA-256 of the joined data: `{card['data']['data_sha256']}`."
    )


def _estimate(of: Mapping[str, Any]) -> str:
    if of["low"] is None:
        return f"{of['value']:.4f}"
    return f"{of['value']:.4f} [{of['low']:.4f}, {of['high']:.4f}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
