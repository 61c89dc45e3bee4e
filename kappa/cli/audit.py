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

    Says too what the skew audit has found, which compares the features served with the log, and
    whether each prediction with a label in time has one outcome.
    """
    from rich.console import Console
    from rich.table import Table

    from serving.auditing.audit import run_audit
    from serving.auditing.skew import skew_account, skew_stages
    from serving.feedback.audit import audit_outcomes

    with open_context(pipeline) as context:
        topics, partitions = context.pipeline.topics, context.pipeline.events.partitions
        account = run_audit(context.bootstrap, topics, partitions)
        stages = skew_stages(context.bootstrap, context.pipeline)
        served = [skew_account(context.bootstrap, stage) for stage in stages]
        matched = audit_outcomes(context.bootstrap, context.pipeline)
    if as_json:
        told = {**account.to_json(), "skew": [asdict(found) for found in served]}
        told["outcomes"] = None if matched is None else matched.to_json()
        typer.echo(json.dumps(told))
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
        of_outcomes = [] if matched is None else [str(matched)]
        for line in (*account.lines, *map(str, served), *of_outcomes):
            console.print(line, highlight=False, soft_wrap=True)
    wrong = any(found.different for found in served) or (matched is not None and not matched.ok)
    if not account.ok or wrong:
        raise typer.Exit(1)
