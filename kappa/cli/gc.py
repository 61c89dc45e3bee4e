"""``kappa gc``: away with what retired definitions have left."""

from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context

if TYPE_CHECKING:
    from serving.retired import Retired


def gc(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    previous: Annotated[
        bool,
        typer.Option(
            help="Also remove the definition that answered before the last cut-over, unless it is "
            "declared: there is no going back to it then."
        ),
    ] = False,
    training_age: Annotated[
        str, typer.Option(help="Remove working folders of trainings that rest for so long.")
    ] = "1d",
) -> None:
    """Remove what belongs to definitions that are neither declared nor answering.

    Their features and re-keyed topics, consumer groups, snapshots, online views and cached
    segments; and folders of broken-off trainings and joined examples that nobody uses. Never
    events, labels, predictions or models.
    """
    from serving.retired import find_retired, kept_definitions, remove_retired
    from streams.durations import seconds

    age_s = seconds(training_age)
    with open_context(pipeline) as context:
        kept = kept_definitions(context.bootstrap, context.pipeline, going_back=not previous)
        retired = find_retired(context.bootstrap, context.pipeline, context.home, kept, age_s)
        told = ", ".join(f"v{version} ({why})" for version, why in sorted(kept.items()))
        typer.echo(f"kept: {told}")
        if not retired:
            typer.echo("nothing to remove")
            return
        _print(retired)
        if dry_run:
            return
        if not yes:
            typer.confirm("Remove all this for good?", abort=True)
        remove_retired(context.bootstrap, context.pipeline, context.home, retired)
        typer.echo("removed")


def _print(retired: "Retired") -> None:
    from rich.console import Console
    from rich.table import Table

    versions = ", ".join(f"v{version}" for version in retired.definitions)
    table = Table(title=f"Left of {versions or 'trainings'}")
    for name in ("what", "name"):
        table.add_column(name, overflow="fold")
    for name in ("records", "size"):
        table.add_column(name, justify="right")
    for topic, size in retired.topics.items():
        on_disk = "" if size.bytes is None else _size(size.bytes)
        table.add_row("topic", topic, f"{size.records:,}", on_disk)
    for group in retired.groups:
        table.add_row("group", group, "", "")
    for view in retired.views:
        table.add_row("online view", view, "", "")
    for folder, held in [*retired.folders.items(), *retired.remote.items()]:
        table.add_row("folder", str(folder), "", _size(held))
    Console().print(table)


def _size(size: float) -> str:
    if size < 1000:
        return f"{size:.0f} B"
    units = ["kB", "MB", "GB", "TB"]
    while (size := size / 1000) >= 1000 and len(units) > 1:
        units.pop(0)
    return f"{size:.1f} {units[0]}"
