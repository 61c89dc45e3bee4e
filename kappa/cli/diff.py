"""``kappa diff``: two versions of the features, row by row."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kappa.cli.context import DEFAULT_PIPELINE, Context, PipelineOption, open_context
from kappa.cli.ranges import FromOption, ToOption, event_ranges, moment_or_offset

if TYPE_CHECKING:
    from features.reprocessing.diff import DifferingRow, DiffReport
    from features.reprocessing.diff_reading import Side
    from features.reprocessing.diff_statistics import FeatureDifference


def diff(
    left: Annotated[str, typer.Argument(help="A version, such as v1.")],
    right: Annotated[str, typer.Argument(help="The version it is compared with, such as v2.")],
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    begin: FromOption = None,
    end: ToOption = None,
    sample: Annotated[int, typer.Option(min=0, help="Show so many of the rows that differ.")] = 10,
    expect_equal: Annotated[
        bool, typer.Option("--expect-equal", help="Status 1 where anything differs.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as one JSON object.")
    ] = False,
) -> None:
    """Compare the features of two versions event by event, with statistics per feature."""
    from kappa.cli.rebuild import version_of

    limits = moment_or_offset(begin, "--from"), moment_or_offset(end, "--to")
    with open_context(pipeline) as context:
        sides = [_side(context, version_of(version)) for version in (left, right)]
        ranges = None if limits == (None, None) else event_ranges(context, *limits)
        report = _compare(context, sides[0], sides[1], ranges, sample)
    if as_json:
        typer.echo(json.dumps(_plain(report)))
    else:
        _print(report)
    if expect_equal and not report.equal:
        raise typer.Exit(1)


def _side(context: Context, version: int) -> "Side":
    from features.reprocessing.diff_reading import Side

    declared = context.pipeline
    definition = declared.definition(version)
    return Side(declared.topics_of(definition), definition, declared.events, declared.labels)


def _compare(
    context: Context,
    left: "Side",
    right: "Side",
    ranges: dict[int, tuple[int, int]] | None,
    sample: int,
) -> "DiffReport":
    from rich.console import Console

    from features.reprocessing.diff import compare

    with Console(stderr=True).status("reading") as status:
        return compare(
            context.bootstrap,
            left,
            right,
            ranges,
            sample,
            lambda records: status.update(f"{records:,} feature records read"),
        )


def _plain(report: "DiffReport") -> dict[str, Any]:
    plain = asdict(report)
    for told, feature in zip(plain["features"], report.features, strict=True):
        told["differing"] = feature.differing
    return {**plain, "equal": report.equal}


def _print(report: "DiffReport") -> None:
    from rich.console import Console

    console = Console()
    a, b = f"v{report.left}", f"v{report.right}"
    console.print(_feature_table(report.features, a, b))
    for version, names in ((a, report.only_left), (b, report.only_right)):
        if names:
            console.print(f"only in {version}: {', '.join(names)}")
    if report.other_kind:
        console.print(f"a number in one, a category in the other: {', '.join(report.other_kind)}")
    for row in report.sample:
        console.print(_row_line(row), highlight=False, soft_wrap=True)
    told = [
        f"{report.rows:,} events in both, {report.rows_equal:,} of them equal bit for bit in all "
        "shared features"
    ]
    for count, text in (
        (report.missing_left, f"missing in {a}"),
        (report.missing_right, f"missing in {b}"),
        (report.outside_left, f"in {a} outside the stretch that {b} holds"),
        (report.outside_right, f"in {b} outside the stretch that {a} holds"),
    ):
        if count:
            told.append(f"{count:,} {text}")
    console.print("; ".join(told), highlight=False, soft_wrap=True)
    console.print(f"{report.records:,} records read in {report.seconds:.1f} s", highlight=False)


def _feature_table(features: "list[FeatureDifference]", a: str, b: str) -> Any:
    from rich.table import Table

    table = Table(title=f"Features of {a} and {b}, differences are {b} - {a}")
    table.add_column("feature")
    for name in (
        "rows", "equal", "differing", "mean |diff|", "max |diff|", "5 %", "median", "95 %",
        "correlation", f"missing {a}", f"missing {b}",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for feature in features:
        quantiles = feature.quantiles or {}
        table.add_row(
            feature.name,
            f"{feature.rows:,}",
            f"{feature.equal:,}",
            f"{feature.differing:,}",
            _figure(feature.mean_absolute),
            _figure(feature.max_absolute),
            *(_figure(quantiles.get(q)) for q in ("0.05", "0.5", "0.95")),
            "-" if feature.correlation is None else f"{feature.correlation:.4f}",
            f"{feature.missing_left:.2%}",
            f"{feature.missing_right:.2%}",
        )
    return table


def _row_line(row: "DifferingRow") -> str:
    values = ", ".join(f"{name} {x} → {y}" for name, (x, y) in row.features.items())
    return f"  {row.event_id} (partition {row.partition}, offset {row.offset}): {values}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
