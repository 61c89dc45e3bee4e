"""``kappa fairness``: the groups of each version side by side, with intervals."""

from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption
from kappa.cli.performance import SHORT, JsonOption, VersionOption, WindowsOption, cell, show, span

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from rich.console import RenderableType
    from rich.table import Table

    from serving.performance.reading import Row


def fairness(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    field: Annotated[
        str | None, typer.Option(help="Only the groups of this field, as user_type.")
    ] = None,
    version: VersionOption = None,
    limit: WindowsOption = 1,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as windows close, until Ctrl-C.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show whether groups are treated alike: rates of selection and of errors, by group."""
    from rich.console import Group

    from serving.fairness.names import FAIRNESS_METRICS
    from serving.performance.reading import Wanted

    def tables(rows: "Sequence[Row]", name: str, zone: "ZoneInfo") -> "RenderableType":
        return Group(*fairness_tables(rows, f"Fairness of {name}", zone))

    wanted = Wanted(FAIRNESS_METRICS, "label", version, field=field)
    show(pipeline, wanted, tables, limit, follow, as_json)


def fairness_tables(rows: "Sequence[Row]", title: str, zone: "ZoneInfo") -> "list[Table]":
    """Return a table of the groups' figures, and one of how far apart those of a field are."""
    from serving.fairness.names import DIFFERENCES, GROUP_METRICS

    of_groups = [row for row in rows if row.group is not None and "=" in row.group]
    of_fields = [row for row in rows if row.group is not None and "=" not in row.group]
    found = [_table(of_groups, title, GROUP_METRICS, "group", zone)] if of_groups else []
    if of_fields:
        names = tuple(DIFFERENCES.values())
        found.append(_table(of_fields, "Largest difference between groups", names, "field", zone))
    return found


def _table(
    rows: "Sequence[Row]", title: str, metrics: "Sequence[str]", about: str, zone: "ZoneInfo"
) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    names = [name for name in metrics if any(name in row.figures for row in rows)]
    by_class = any(row.about is not None for row in rows)
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("from\nuntil", no_wrap=True)
    table.add_column("model", justify="right")
    table.add_column(about)
    if by_class:
        table.add_column("class")
    table.add_column("n", justify="right", no_wrap=True)
    for name in names:
        short = SHORT.get(name, name.removesuffix("_difference").replace("_", " "))
        table.add_column(short, justify="right", no_wrap=True)
    for row in rows:
        cells = [span(row, zone), str(row.model_version), row.group or ""]
        cells += [row.about or ""] * by_class + [f"{row.n:,}"]
        table.add_row(*cells, *(cell(row.figures.get(name)) for name in names))
    return table
