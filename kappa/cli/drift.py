"""``kappa drift report``: what has moved since a model's training, as one page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kappa.cli.context import DEFAULT_PIPELINE, Context, PipelineOption, open_context

if TYPE_CHECKING:
    from serving.drift.domain import Separability
    from serving.drift_report.findings import Findings
    from serving.drift_report.reading import Rows, Subject

drift = typer.Typer(
    help="What has moved since a model's training.",
    no_args_is_help=True,
)


@drift.callback()
def _group() -> None:
    """What has moved since a model's training."""


@drift.command()
def report(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    version: Annotated[
        int | None, typer.Option(min=1, help="Which model. Default: the one that is live.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from", help="Begin of the window: event time, such as 2020-03-09 or 2020-03-09T12:00"
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="End of the window. Default: the newest event.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file. Default: below .kappa, by model and window.")
    ] = None,
    multivariate: Annotated[
        bool,
        typer.Option(
            "--multivariate", help="Also ask whether all features together tell the window apart."
        ),
    ] = False,
    beside: Annotated[
        Literal["evidently"] | None,
        typer.Option("--with", help="Also write evidently's report beside it."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as one JSON object.")
    ] = False,
) -> None:
    """Compare a window of the log with a model's training, and write it as a page with pictures.

    Features from the log, the reference from the model's package; the model's answers, how good
    they are and how well calibrated, as far as labels are there.
    """
    import json

    from serving.drift_report.by_evidently import check_installed
    from serving.drift_report.findings import examine
    from serving.drift_report.page import page
    from serving.drift_report.reading import observe, subject_of, window_of

    if beside is not None:
        check_installed()
    with open_context(pipeline) as context:
        declared, bootstrap = context.pipeline, context.bootstrap
        zone = declared.timezone
        limits = (_time_ms("--from", since, zone), _time_ms("--to", until, zone))
        subject = subject_of(bootstrap, declared, version)
        start_ms, end_ms = window_of(bootstrap, declared, subject, *limits)
        observed = observe(bootstrap, declared, subject, start_ms, end_ms)
        together = _together(context, subject, start_ms, end_ms) if multivariate else None
        found = examine(subject.reference, observed, declared.model.task, subject.metrics, together)
        path = out or _default_path(context, subject, start_ms, end_ms)
        title = f"Drift of {declared.name}: model {subject.version}"
        _write(path, page(found, title, _facts(context, subject), zone))
        written = [path]
        if beside is not None:
            written.append(_write_evidently(context, subject, (start_ms, end_ms), path))
        if as_json:
            figures = {
                "model": subject.version,
                "definition": subject.definition.version,
                "written": [str(each) for each in written],
                **found.to_json(),
            }
            typer.echo(json.dumps(figures))
            return
        _show(found, written)


def _together(context: Context, subject: "Subject", start_ms: int, end_ms: int) -> "Separability":
    from serving.drift.domain import separability
    from streams.errors import ConfigurationError

    definition = subject.definition
    reference, window = _both_sides(context, subject, (start_ms, end_ms))
    found = separability(
        reference, window, definition.names("numeric"), definition.names("category")
    )
    if found is None:
        raise ConfigurationError(
            f"--multivariate: {min(len(reference), len(window))} events of one side are too few "
            "for a classifier: choose a longer window"
        )
    return found


def _both_sides(
    context: Context, subject: "Subject", window: tuple[int, int]
) -> "tuple[Rows, Rows]":
    """Return rows of training and of the window, as they are."""
    from serving.drift_report.reading import sample, trained_between

    limits = trained_between(subject), window
    one, other = (
        sample(context.bootstrap, context.pipeline, subject.definition, *each) for each in limits
    )
    return one, other


def _show(found: "Findings", written: list[Path]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("feature", "finding", title="The furthest first")
    for name in ("PSI", "by chance", "p", "effect"):
        table.add_column(name, justify="right")
    for row in found.features:
        d, p = row.drift, min(row.p.values())
        table.add_row(
            d.feature, row.verdict, f"{d.psi:.3g}", f"{d.critical:.2g}", f"{p:.2g}",
            f"{d.effect:.2g}",
        )  # fmt: skip
    console.print(table)
    if (together := found.separable) is not None:
        console.print(
            f"all features together: area {together.auc:.3f} ({together.low:.3f} to "
            f"{together.high:.3f}; 0.5 is a guess), "
            + ("beyond" if together.is_beyond_chance else "no more than")
            + f" what is usual, most by {together.features[0].feature}",
            markup=False, highlight=False,
        )  # fmt: skip
    for path in written:
        console.print(f"report: {path}", soft_wrap=True, markup=False, highlight=False)


def _facts(context: Context, subject: "Subject") -> dict[str, str]:
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    from serving.drift_report.reading import trained_between

    zone = ZoneInfo(context.pipeline.timezone)

    def day(time_ms: int) -> str:
        return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(zone).strftime("%Y-%m-%d")

    reference = f"the training of model {subject.trained.version}"
    if "cutoff_ms" in subject.trained.manifest:
        begin_ms, end_ms = trained_between(subject)
        reference += f", {day(begin_ms)} to {day(end_ms)}" if begin_ms else f", to {day(end_ms)}"
    return {
        "pipeline": f"{context.pipeline.name}, definition v{subject.definition.version}",
        "model": str(subject.version),
        "reference": reference,
    }


def _write_evidently(
    context: Context, subject: "Subject", window: tuple[int, int], path: Path
) -> Path:
    from serving.drift_report.by_evidently import write_evidently

    definition = subject.definition
    beside = path.with_name(f"{path.stem}-evidently.html")
    write_evidently(
        beside, *_both_sides(context, subject, window),
        definition.names("numeric"), definition.names("category"),
    )  # fmt: skip
    return beside


def _default_path(context: Context, subject: "Subject", start_ms: int, end_ms: int) -> Path:
    from datetime import UTC, datetime

    stamps = [
        datetime.fromtimestamp(at / 1000, UTC).strftime("%Y%m%dT%H%M") for at in (start_ms, end_ms)
    ]
    return context.home / "reports" / f"drift-model{subject.version}-{'-'.join(stamps)}.html"


def _write(path: Path, text: str) -> None:
    from streams.errors import ConfigurationError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"the report can't be written: {error}") from error


def _time_ms(option: str, text: str | None, timezone: str) -> int | None:
    """Return milliseconds since the epoch; a time without a zone is one of the pipeline's."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from streams.errors import ConfigurationError

    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{option} {text!r}: a day or a time, such as 2020-03-09 or 2020-03-09T12:00"
        ) from None
    at = at if at.tzinfo else at.replace(tzinfo=ZoneInfo(timezone))
    return round(at.timestamp() * 1000)
