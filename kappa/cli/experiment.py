"""``kappa experiment``: an A/B experiment, from its plan to the deployment of what won."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kappa.cli.context import DEFAULT_PIPELINE, Context, PipelineOption, open_context

if TYPE_CHECKING:
    from serving.experiments.planning import Plan
    from serving.experiments.running import Experiments

experiment = typer.Typer(
    help="A/B experiments: how many entities, start, watch, report, deploy what won.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The experiment's name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the control log.")]
MetricOption = Annotated[
    list[str],
    typer.Option(
        "--metric",
        "-m",
        help="accuracy, log_loss, brier, crps, error, label, or label.<field> of the label record; "
        "then /entity (default), /event or /ever; then :higher or :lower. The first decides.",
    ),
]
EffectOption = Annotated[
    float, typer.Option("--effect", help="The smallest difference worth finding.")
]
RelativeOption = Annotated[
    bool, typer.Option("--relative", help="The effect is a share of the baseline.")
]
AlphaOption = Annotated[float, typer.Option(help="Probability of a false find, in all.")]
PowerOption = Annotated[float, typer.Option(help="Probability of finding the effect.")]
BaselineOption = Annotated[
    float | None, typer.Option(help="The metric today. Default: from the outcomes in the log.")
]
SigmaOption = Annotated[
    float | None,
    typer.Option(help="Standard deviation between entities. Default: from the outcomes."),
]
ShareOption = Annotated[
    float | None,
    typer.Option(help="Share of the entities for each treatment. Default: equal arms."),
]
RateOption = Annotated[
    float | None,
    typer.Option(help="New entities per day. Default: as the outcomes in the log show."),
]


@experiment.command("plan")
def plan_experiment(
    metric: MetricOption,
    effect: EffectOption,
    relative: RelativeOption = False,
    alpha: AlphaOption = 0.05,
    power: PowerOption = 0.8,
    baseline: BaselineOption = None,
    sigma: SigmaOption = None,
    arms: Annotated[int, typer.Option(min=1, help="How many treatments.")] = 1,
    share: ShareOption = None,
    rate: RateOption = None,
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: JsonOption = False,
) -> None:
    """Say how many entities an experiment needs, and how long that takes; writes nothing."""
    from serving.experiments.planning import Wish

    wish = Wish(effect, relative, alpha, power, baseline, sigma, arms, share, rate)
    with _opened(pipeline) as (_, experiments):
        planned = experiments.plan(metric, wish)
    if as_json:
        typer.echo(json.dumps({**planned.to_json(), "total": planned.total}))
    else:
        _print_plan(planned)


@experiment.command()
def start(
    name: NameArgument,
    treatment: Annotated[
        list[str], typer.Option("--treatment", "-t", help="A version to try; once for each.")
    ],
    metric: MetricOption,
    effect: EffectOption,
    relative: RelativeOption = False,
    alpha: AlphaOption = 0.05,
    power: PowerOption = 0.8,
    baseline: BaselineOption = None,
    sigma: SigmaOption = None,
    share: ShareOption = None,
    rate: RateOption = None,
    days: Annotated[
        float | None, typer.Option(min=0, help="How long it shall run, in days of event time.")
    ] = None,
    hours: Annotated[float | None, typer.Option(min=0, help="The same in hours.")] = None,
    reason: ReasonOption = "started by an operator",
    wait: Annotated[bool, typer.Option(help="Wait until the workers route by it.")] = True,
    timeout: Annotated[
        float, typer.Option(min=0, help="How many seconds to wait; it stands after that.")
    ] = 60.0,
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: JsonOption = False,
) -> None:
    """Start an experiment of versions against the live one."""
    from kappa.cli.rebuild import version_of
    from serving.experiments.planning import Wish

    treatments = [version_of(text) for text in treatment]
    wish = Wish(
        effect, relative, alpha, power, baseline, sigma, len(treatments), share, rate,
        _days(days, hours),
    )  # fmt: skip
    with _opened(pipeline) as (context, experiments):
        planned = experiments.plan(metric, wish)
        started = experiments.start(name, treatments, planned, share, reason)
        obeyed = wait and _wait(experiments, name, context.pipeline.events.partitions, timeout)
    if as_json:
        import msgspec

        told = msgspec.to_builtins(started)
        typer.echo(json.dumps({**told, "obeyed": obeyed}))
    else:
        typer.echo(f"experiment {name}: model {_and(treatments)} against {started.control}")
        _print_plan(planned)
    if wait and not obeyed:
        raise typer.Exit(1)


@experiment.command()
def status(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Default: all.")] = None,
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: JsonOption = False,
) -> None:
    """Show the experiments, and of those that run (or of the one named) how far they are."""
    with _opened(pipeline) as (_, experiments):
        names = list(experiments.rollout.experiments) if name is None else [name]
        told = [_status(experiments, each, name is not None) for each in names]
    if as_json:
        typer.echo(json.dumps([content for content, _ in told]))
        return
    if not told:
        typer.echo("there is no experiment in the log: see kappa experiment start --help")
    for _, line in told:
        typer.echo(line)


@experiment.command()
def stop(
    name: NameArgument,
    reason: ReasonOption = "stopped by an operator",
    pipeline: PipelineOption = DEFAULT_PIPELINE,
) -> None:
    """Stop an experiment: the control answers all again."""
    with _opened(pipeline) as (_, experiments):
        experiments.experiment(name)
        experiments.stop(name, reason)
        control = experiments.experiment(name).started.control
    typer.echo(f"experiment {name} is stopped: model {control} answers all")


@experiment.command()
def report(
    name: NameArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report as Markdown, JSON and a picture.")
    ] = None,
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: JsonOption = False,
) -> None:
    """Print what an experiment shows up to now, with a plain verdict."""
    from serving.experiments.findings import to_json
    from serving.experiments.report import PICTURE, markdown

    with _opened(pipeline) as (context, experiments):
        planned, readings, found = experiments.findings(name)
        shown = experiments.experiment(name)
        metric = experiments.metrics(list(planned.metrics))[0]
    timezone = context.pipeline.timezone
    content = {
        "name": name,
        "plan": planned.to_json(),
        "outcomes": readings.outcomes,
        "mismatches": readings.mismatches,
        "days": readings.days,
        **to_json(found),
    }
    if out is not None:
        from serving.experiments.picture import draw

        out.mkdir(parents=True, exist_ok=True)
        text = markdown(shown, planned, readings, found, timezone)
        (out / "report.md").write_text(text)
        (out / "report.json").write_text(json.dumps(content, indent=2) + "\n")
        if found.course:
            versions = [shown.started.control, *(arm.version for arm in shown.started.arms)]
            title = f"{context.pipeline.name}: experiment {name}"
            draw(out / PICTURE, title, found.course, metric, versions, readings.first_ms)
    if as_json:
        typer.echo(json.dumps(content))
    else:
        typer.echo(markdown(shown, planned, readings, found, timezone, picture=None), nl=False)
        if out is not None:
            typer.echo(f"\nwritten to {out}", err=True)


@experiment.command()
def deploy(
    name: NameArgument,
    winner: Annotated[
        str | None, typer.Option(help="The version to put live. Default: what the report says.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also where the report says something else, or nothing.")
    ] = False,
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: JsonOption = False,
) -> None:
    """End an experiment and put what won live, with the figures in the control log."""
    from kappa.cli.rebuild import version_of

    wanted = None if winner is None else version_of(winner)
    with _opened(pipeline) as (_, experiments):
        version, found = experiments.deploy(name, wanted, force)
    if as_json:
        verdict = {"kind": found.verdict.kind, "reason": found.verdict.reason}
        typer.echo(json.dumps({"live": version, "verdict": verdict, "forced": force}))
    else:
        typer.echo(f"model {version} is live; experiment {name}: {found.verdict.text}")


@contextmanager
def _opened(pipeline: str) -> "Iterator[tuple[Context, Experiments]]":
    from serving.experiments.running import Experiments

    with open_context(pipeline) as context:
        experiments = Experiments(context.bootstrap, context.pipeline)
        try:
            yield context, experiments
        finally:
            experiments.close()


def _days(days: float | None, hours: float | None) -> float | None:
    from streams.errors import ConfigurationError

    if days is not None and hours is not None:
        raise ConfigurationError("--days or --hours, not both")
    return days if hours is None else hours / 24


def _wait(experiments: "Experiments", name: str, partitions: int, timeout_s: float) -> bool:
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("") as shown:

        def show(left: list[int]) -> None:
            shown.update(f"{partitions - len(left)} of {partitions} partitions route by it")

        obeyed = experiments.wait(name, show, timeout_s)
    if not obeyed:
        console.print(
            f"partitions {experiments.waiting_for(name)} do not route by it after "
            f"{timeout_s:.0f} s; it stands: they will as soon as inference workers answer events "
            "there (`kappa up`), and only what they answer by it is counted",
            highlight=False,
        )
    return obeyed


def _status(experiments: "Experiments", name: str, reads: bool) -> tuple[dict[str, Any], str]:
    """Return where an experiment stands, and a line for people.

    What the outcomes say is told where it runs, or where ``reads``.
    """
    found = experiments.experiment(name)
    started, stopped = found.started, found.stopped
    told: dict[str, Any] = {
        "name": name,
        "control": started.control,
        "treatments": [arm.version for arm in started.arms],
        "shares": [arm.share for arm in started.arms],
        "running": stopped is None,
        "reason": started.reason if stopped is None else stopped.reason,
        "waiting_partitions": experiments.waiting_for(name) if stopped is None else [],
    }
    line = f"{name}: model {_and(told['treatments'])} against {started.control}, "
    if stopped is None or reads:
        planned, readings, findings = experiments.findings(name)
        counts = findings.soundness.counts
        told |= {
            "entities": counts,
            "planned": [planned.control, *[planned.treatment] * planned.treatments],
            "days": readings.days,
            "planned_days": planned.days,
            "outcomes": readings.outcomes,
            "mismatch": findings.soundness.mismatch,
            "verdict": findings.verdict.kind,
        }
        line += (
            f"entities {counts} of {told['planned']} planned, {readings.days:.2f} days"
            + (f" of {planned.days:.2f}" if planned.days is not None else "")
            + f", {readings.outcomes:,} outcomes; "
            + ("" if stopped is None else f"ended ({stopped.reason}); ")
            + findings.verdict.text
        )
        if told["waiting_partitions"]:
            line += f"; partitions {told['waiting_partitions']} do not route by it yet"
    elif stopped is not None:
        line += f"ended: {stopped.reason}"
    return told, line


def _print_plan(planned: "Plan") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"An effect of {planned.effect:.4g} in {planned.metrics[0]}")
    for column in ("arm", "entities"):
        table.add_column(column, justify="right" if column == "entities" else "left")
    table.add_row("control", f"{planned.control:,}")
    for number in range(planned.treatments):
        table.add_row(f"treatment {number + 1}", f"{planned.treatment:,}")
    table.add_row("in all", f"{planned.total:,}")
    console = Console()
    console.print(table)
    of = [
        f"{planned.method}",
        "" if planned.baseline is None else f"baseline {planned.baseline:.4g}",
        "" if planned.sigma is None else f"standard deviation {planned.sigma:.4g}",
        f"level {planned.alpha:g} over {planned.aim.comparisons} comparisons",
        f"power {planned.power:g}",
    ]
    how_long = "no rate is known" if planned.days is None else f"{planned.days:.1f} days"
    console.print("; ".join(filter(None, of)), highlight=False, soft_wrap=True)
    console.print(f"duration: {how_long} ({planned.sources})", highlight=False, soft_wrap=True)


def _and(versions: list[int]) -> str:
    return " and ".join(map(str, versions))
