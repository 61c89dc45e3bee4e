"""``kappa doctor``: what this machine has for a pipeline, what it lacks, how to get it."""

import json
from typing import Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption


def doctor(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the checks as one JSON object on stdout.")
    ] = False,
) -> None:
    """Check what a pipeline needs; status 1 where something needed is missing. Changes nothing."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from infra.doctor import Check, examine
    from kappa.loading import load_pipeline
    from streams.errors import KappaError
    from streams.settings import Settings

    checks: list[Check] = []
    declared = None
    try:
        declared = load_pipeline(pipeline)
    except KappaError as error:
        checks.append(Check("Pipeline", "missing", pipeline, str(error)))
    else:
        checks.append(Check("Pipeline", "ok", f"{declared.name} ({pipeline})"))
    checks += examine(Settings(), declared)
    healthy = all(check.state != "missing" for check in checks)
    if as_json:
        typer.echo(json.dumps({"ok": healthy, "checks": [asdict(check) for check in checks]}))
    else:
        colours = {"ok": "green", "warning": "yellow", "missing": "red"}
        table = Table("", "state", "found", "how to get it")
        for check in checks:
            state = f"[{colours[check.state]}]{check.state}[/]"
            table.add_row(check.name, state, check.found, check.remedy)
        Console().print(table)
    if not healthy:
        raise typer.Exit(1)
