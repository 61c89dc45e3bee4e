"""``kappa schema``: what the topics hold, for those who read and write them."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from serving.evolution import Difference


def schema(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Compare types and definitions with what the log was written with; status 1 "
            "where they don't fit. Changes nothing.",
        ),
    ] = False,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept",
            help="Record the types as they are, though a replay would give old records other "
            "features. What makes the log unreadable is refused all the same.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --check: print the differences as JSON.")
    ] = False,
) -> None:
    """Print the pipeline's topics and the JSON Schema of their records, as AsyncAPI 3."""
    from kappa.loading import load_pipeline
    from serving.asyncapi import asyncapi

    if not (check or accept):
        typer.echo(json.dumps(asyncapi(load_pipeline(pipeline)), indent=2))
        return
    from infra.schema_check import check_schemas, look_at_schemas

    with open_context(pipeline) as context:
        replication = context.settings.replication
        if accept:
            verdict = check_schemas(context.bootstrap, context.pipeline, replication, accept=True)
        else:
            verdict = look_at_schemas(context.bootstrap, context.pipeline, replication)
        refused = () if accept else verdict.refused
        _show(verdict.differences, not refused, as_json, context.pipeline.name)
    if refused:
        raise typer.Exit(1)


def _show(differences: "Sequence[Difference]", fits: bool, as_json: bool, name: str) -> None:
    from dataclasses import asdict

    from rich.console import Console

    if as_json:
        typer.echo(json.dumps({"ok": fits, "differences": [asdict(d) for d in differences]}))
        return
    console = Console()
    if differences:
        console.print(differences_table(differences))
    verdict = "fits what its log was written with" if fits else "does not fit its log"
    console.print(f"{name} {verdict}", highlight=False)


def differences_table(differences: "Sequence[Difference]") -> "Table":
    """Return the differences, a row each: where, what was, what is, what to do."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("where", "field", "was", "is", "change", "what to do", show_lines=True)
    for d in differences:
        colour = "red" if d.refused else "green"
        said = map(escape, (d.where, d.field, d.was, d.now))
        table.add_row(*said, f"[{colour}]{d.kind}[/]", escape(d.refused or "nothing"))
    return table
