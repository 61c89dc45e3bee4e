"""What ``kappa models verify`` and ``kappa train --manifest`` share."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kappa.cli.context import Context, open_context

if TYPE_CHECKING:
    from streams.rollout import Rollout
    from training.retraining.verifying import Verification

SHOWN = 16  # characters of a digest


def train_again(pipeline: str, file: Path, as_json: bool) -> None:
    """Make the model of a manifest again; ends with status 1 where it is another."""
    from kappa.cli.models import rollout_of
    from training.retraining.verifying import verification

    manifest = manifest_in(file)
    with open_context(pipeline) as context:
        made = made_again(context, rollout_of(context), manifest, context.home)
    found = verification(manifest, made)
    if as_json:
        typer.echo(json.dumps({"package": made["package"], **found.to_json()}))
    else:
        print_verification(f"The model of {file}, made again", found)
        typer.echo(f"package   {made['package']}")
    if not found.equal:
        raise typer.Exit(1)


def made_again(
    context: Context, rollout: "Rollout", manifest: dict[str, Any], home: Path
) -> dict[str, Any]:
    """Make the model of ``manifest`` again, working in ``home``; return its package's manifest.

    Raises:
        TrainingError: the definition, the log or what it gives is not what the manifest says.
    """
    from rich.console import Console

    from training.dataset.manifest import differences
    from training.package_files import read_manifest
    from training.retraining.job import TrainingJob
    from training.retraining.predecessor import Predecessor
    from training.retraining.remaking import job_of, remake

    declared = context.pipeline
    base = TrainingJob(
        bootstrap=context.bootstrap,
        topics=declared.topics,
        definition=declared.features,
        events=declared.events,
        labels=declared.labels,
        model=declared.model,
        training=declared.training,
        cutoff_ms=0,
        home=home,
        command_id="made-again",
        ranks=1,
    )
    parent = Predecessor.parent(manifest, rollout)
    job = job_of(manifest, base, declared.definitions, parent)
    console = Console(stderr=True)
    for difference in differences(manifest):
        console.print(f"not as then: {difference}", highlight=False, soft_wrap=True)
    with console.status("training again") as status:

        def show(line: str) -> None:
            status.update(line)
            console.print(line, highlight=False, soft_wrap=True)

        trained = remake(job, manifest, show)
    made = read_manifest(trained.package.as_uri(), trained.sha256)[1]
    return {**made, "package": str(trained.package)}


def manifest_in(file: Path) -> dict[str, Any]:
    """Return the manifest in a file; raises ConfigurationError where there is none."""
    from streams.errors import ConfigurationError

    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} is not a manifest: {error}") from error
    if not isinstance(content, dict) or "data_sha256" not in content:
        raise ConfigurationError(
            f"{file} is not the manifest of a training: name the manifest.json of a model package"
        )
    return content


def print_verification(title: str, found: "Verification") -> None:
    """Print what equals and what does not."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for name in ("what", "then", "now", ""):
        table.add_column(name)
    for row in found.rows:
        verdict = "same" if row.equal else "differs"
        table.add_row(row.what, _short(row.then), _short(row.now), verdict)
    Console().print(table)
    for difference in found.environment:
        typer.echo(f"not as then: {difference}")
    typer.echo("the same model, bit for bit" if found.equal else "NOT the same model")


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
