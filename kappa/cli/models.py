"""``kappa models``: the versions in the control log, what made each, and making one again."""

import json
import shutil
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kappa.cli.context import DEFAULT_PIPELINE, Context, PipelineOption, open_context

if TYPE_CHECKING:
    from streams.rollout import Rollout
    from streams.wire import Registered

models = typer.Typer(
    help="Model versions: list them, show what made one, make one again and compare.",
    no_args_is_help=True,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="3 or v3, or live.")]


@models.command("list")
def list_models(pipeline: PipelineOption = DEFAULT_PIPELINE, as_json: JsonOption = False) -> None:
    """List the versions that were registered."""
    with open_context(pipeline) as context:
        rollout = rollout_of(context)
    found = [_told(rollout, event) for _, event in sorted(rollout.versions.items())]
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found:
        typer.echo("no model is registered yet: version 0, the declared prior, answers")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Models of {context.pipeline.name}")
    for name in (
        "version",
        "stage",
        "share",
        "definition",
        "trained until",
        "examples",
        "from",
        "figures",
    ):
        table.add_column(name, justify="right" if name in ("version", "examples") else "left")
    for told in found:
        table.add_row(
            str(told["version"]), told["stage"] + (", pinned" if told["pinned"] else ""),
            "" if told["share"] is None else f"{told['share']:.3g}", f"v{told['definition']}",
            event_time(context, told["cutoff_ms"]), f"{told['examples'] or 0:,}",
            f"v{told['parent']}" if told["parent"] else "", _figures(told["metrics"]),
        )  # fmt: skip
    Console().print(table)


@models.command("show")
def show_model(
    version: VersionArgument,
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: JsonOption = False,
) -> None:
    """Show all that is known of a version: stage, figures, package, and what made it."""
    with open_context(pipeline) as context:
        rollout = rollout_of(context)
    event = registered(rollout, version)
    told = {
        **_told(rollout, event),
        "package": event.uri,
        "sha256": event.sha256,
        "command_id": event.command_id,
        "run_id": event.run_id,
        "comparison": event.comparison,
        "manifest": event.manifest,
    }
    if as_json:
        typer.echo(json.dumps(told))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Model {event.version} of {context.pipeline.name}", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in told.items():
        if name not in ("manifest", "metrics"):
            table.add_row(name, _cell(value))
    for prefix in ("metrics", "manifest"):
        for name, value in told[prefix].items():
            table.add_row(f"{prefix}.{name}", _cell(value))
    Console().print(table)


@models.command("verify")
def verify_model(
    version: VersionArgument,
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    cached: Annotated[
        bool,
        typer.Option(
            "--cached", help="Read the segments that lie on disk rather than the log anew."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a version again from its manifest, and compare it bit for bit; status 1 if it differs.

    The same log, code, libraries, device and number of ranks give the same weights.
    """
    from pathlib import Path
    from tempfile import mkdtemp

    from kappa.cli.remaking import made_again, print_verification
    from training.package_files import read_manifest
    from training.retraining.verifying import verification

    with open_context(pipeline) as context:
        rollout = rollout_of(context)
        event = registered(rollout, version)
        _, then = read_manifest(event.uri, event.sha256)
        context.home.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix=".verify-", dir=context.home))
        try:
            if cached and (context.home / "segments").is_dir():
                (scratch / "segments").symlink_to((context.home / "segments").resolve())
            now = made_again(context, rollout, then, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    found = verification(then, now)
    if as_json:
        typer.echo(json.dumps({"version": event.version, **found.to_json()}))
    else:
        print_verification(f"Model {event.version}, made again", found)
    if not found.equal:
        raise typer.Exit(1)


def rollout_of(context: Context) -> "Rollout":
    """Return what the control log says now."""
    from training.retraining.registering import Registry

    registry = Registry(context.bootstrap, context.pipeline.topics.models)
    try:
        return registry.follow()
    finally:
        registry.close()


def registered(rollout: "Rollout", version: str) -> "Registered":
    """Return the record of a version; raises ConfigurationError where there is none."""
    from kappa.cli.rebuild import version_of
    from streams.errors import ConfigurationError

    number = rollout.live if version == "live" else version_of(version)
    if number not in rollout.versions:
        known = ", ".join(map(str, sorted(rollout.versions))) or "none yet"
        raise ConfigurationError(f"there is no model {number}; registered are: {known}")
    return rollout.versions[number]


def _told(rollout: "Rollout", event: "Registered") -> dict[str, Any]:
    """Return what the log says of a version, as plain JSON values."""
    manifest = event.manifest
    parent = manifest.get("parent") or {}
    return {
        "version": event.version,
        "stage": _stage(rollout, event),
        "share": _share(rollout, event),
        "pinned": rollout.pinned.get(event.definition) == event.version,
        "definition": event.definition,
        "cutoff_ms": manifest.get("cutoff_ms"),
        "examples": (manifest.get("counts") or {}).get("examples"),
        "parent": parent.get("version"),
        "metrics": event.metrics,
    }


def _stage(rollout: "Rollout", event: "Registered") -> str:
    if event.version == rollout.live:
        return "live"
    if rollout.lives.get(event.definition) == event.version:
        return f"live on v{event.definition}"
    stage = rollout.stages.get(event.version)
    return "registered" if stage is None else stage.replace("_", " ")


def _share(rollout: "Rollout", event: "Registered") -> float | None:
    arms = rollout.routing(event.definition).arms
    return next((arm.share for arm in arms if arm.version == event.version), None)


def _figures(metrics: dict[str, float]) -> str:
    shown = {k: v for k, v in metrics.items() if not k.startswith("n_")}
    return ", ".join(f"{name} {value:.4g}" for name, value in list(shown.items())[:3])


def event_time(context: Context, time_ms: int | None) -> str:
    """Return a time of the log in the pipeline's time zone, for people."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    if time_ms is None:
        return ""
    time = datetime.fromtimestamp(time_ms / 1000, ZoneInfo(context.pipeline.timezone))
    return f"{time:%Y-%m-%d %H:%M}"


def _cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
