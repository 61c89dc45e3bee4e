"""``kappa audit``: does every event have exactly one answer."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context


def audit(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the account as one JSON object.")
    ] = False,
) -> None:
    """Count events, predictions and dead letters; status 1 where they don't add up.

    Says too what the skew audit has found, which compares the features served with the log.
    """
    from rich.console import Console
    from rich.table import Table

    from serving.auditing.audit import run_audit
    from serving.auditing.skew import skew_account, skew_stages

    with open_context(pipeline) as context:
        topics, partitions = context.pipeline.topics, context.pipeline.events.partitions
        account = run_audit(context.bootstrap, topics, partitions)
        stages = skew_stages(context.bootstrap, context.pipeline)
        served = [skew_account(context.bootstrap, stage) for stage in stages]
    if as_json:
        typer.echo(json.dumps({**account.to_json(), "skew": [asdict(found) for found in served]}))
    else:
        columns = ["events", "predictions", "dead letters", "lost", "doubled", "both", "orphans"]
        if any(p.misplaced for p in account.partitions):
            columns.append("misplaced")
        table = Table("partition", title=f"Audit of {context.pipeline.name}")
        for column in columns:
            table.add_column(column, justify="right")
        for p in account.partitions:
            counts = (p.events, p.predictions, p.dead_letters)
            problems = map(len, (p.lost, p.doubled, p.both, p.orphans, p.misplaced))
            cells = [f"{n:,}" for n in (*counts, *problems)]
            table.add_row(str(p.partition), *cells[: len(columns)])
        console = Console()
        console.print(table)
        for line in (*account.lines, *map(str, served)):
            console.print(line, highlight=False, soft_wrap=True)
    if not account.ok or any(found.different for found in served):
        raise typer.Exit(1)
