"""``kappa fairness``: the groups of each version side by side, with intervals."""

from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption
from kappa.cli.performance import (
    JsonOption,
    VersionOption,
    WindowsOption,
    figures_table,
    show,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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

    def tables(
        rows: "Sequence[Row]", name: str, zone: "ZoneInfo", width: int | None
    ) -> "RenderableType":
        return Group(*fairness_tables(rows, f"Fairness of {name}", zone, width))

    wanted = Wanted(FAIRNESS_METRICS, "label", version, field=field)
    show(pipeline, wanted, tables, limit, follow, as_json)


def fairness_tables(
    rows: "Sequence[Row]", title: str, zone: "ZoneInfo", width: int | None = None
) -> "list[Table]":
    """Return a table of the groups' figures, and one of how far apart those of a field are."""
    from serving.fairness.names import DIFFERENCES, GROUP_METRICS

    apart = "Largest difference between groups"
    parts = (
        ("group", title, GROUP_METRICS, [r for r in rows if "=" in (r.group or "")]),
        (
            "field",
            apart,
            tuple(DIFFERENCES.values()),
            [r for r in rows if "=" not in (r.group or "")],
        ),
    )
    return [
        figures_table(of, called, _heads(about, of), metrics, zone, width)
        for about, called, metrics, of in parts
        if of
    ]


def _heads(about: str, rows: "Sequence[Row]") -> "dict[str, Callable[[Row], str]]":
    heads: dict[str, Callable[[Row], str]] = {
        "model": lambda row: str(row.model_version),
        about: lambda row: row.group or "",
    }
    if any(row.about is not None for row in rows):
        heads["class"] = lambda row: row.about or ""
    return heads | {"n": lambda row: f"{row.n:,}"}
