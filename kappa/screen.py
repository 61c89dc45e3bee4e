"""What the demo shows: a live panel on a terminal, plain lines elsewhere; and the summary."""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from infra.conductor import Progress
from serving.pipeline import Pipeline

NEWS_SHOWN = 12
LINE_EVERY_S = 5.0


class DemoScreen:
    """Shows progress on stderr; a context manager. ``update`` is the conductor's observer."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._console = Console(stderr=True)
        self._pipeline = pipeline
        self._news: list[str] = []
        self._began = time.monotonic()
        self._last_line_s = -LINE_EVERY_S
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(self._panel(Progress()), console=self._console, refresh_per_second=8)

    def __enter__(self) -> "DemoScreen":
        """Begin to draw."""
        self._console.print(
            f"[bold]kappa demo[/] · pipeline [cyan]{self._pipeline.name}[/] · starting Apache "
            "Kafka and the pipeline's processes (the first start fetches Kafka's jars, 44 MB)"
        )
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last picture on the screen."""
        if self._live:
            self._live.__exit__(kind, error, trace)

    def update(self, progress: Progress) -> None:
        """Show where the play stands."""
        at = _time(progress.event_time_ms, self._pipeline.timezone)
        for text in progress.news:
            self._news.append(f"{at}  {text}")
            if not self._live:
                self._console.print(f"{at}  {text}", highlight=False, soft_wrap=True)
        if self._live:
            self._live.update(self._panel(progress))
            return
        now = time.monotonic() - self._began
        if now - self._last_line_s >= LINE_EVERY_S:
            self._last_line_s = now
            self._console.print(
                f"{at}  {progress.events:,} events, {progress.labels:,} labels, "
                f"{progress.features:,} features, model {progress.live}, "
                f"{progress.alerts} alerts, lag {progress.lag:,}: {progress.doing}",
                highlight=False,
                soft_wrap=True,
            )

    def tell(self, lines: Sequence[str]) -> None:
        """Print lines that stay, above the panel."""
        for line in lines:
            self._console.print(line, highlight=False, soft_wrap=True)

    def _panel(self, progress: Progress) -> RenderableType:
        flow = Table.grid(padding=(0, 3))
        for _ in range(6):
            flow.add_column()
        flow.add_row("event time", "events", "labels", "features", "predictions", "lag")
        flow.add_row(
            f"[bold]{_time(progress.event_time_ms, self._pipeline.timezone)}[/]",
            f"[bold]{progress.events:,}[/]",
            f"[bold]{progress.labels:,}[/]",
            f"[bold]{progress.features:,}[/]",
            f"[bold]{progress.predictions:,}[/]",
            f"[bold]{progress.lag:,}[/]",
        )
        model = f"model {progress.live}" if progress.live else "model 0 (the stated prior)"
        status = Text.assemble(
            ("live: ", "dim"), (model, "bold green"), ("   alerts: ", "dim"),
            (str(progress.alerts), "bold red" if progress.alerts else "bold"),
            ("   now: ", "dim"), progress.doing,
            ("   elapsed: ", "dim"), f"{time.monotonic() - self._began:.0f} s",
        )  # fmt: skip
        news = [_news_line(text) for text in self._news[-NEWS_SHOWN:]]
        return Panel(Group(flow, status, Text(), *news), title=f"kappa · {self._pipeline.name}")


def print_summary(summary: dict[str, Any], home: Path) -> None:
    """Print the summary's tables on stdout."""
    console = Console()
    console.print(_periods_table(summary))
    if summary["alerts"]:
        console.print(_alerts_table(summary))
    console.print(_models_table(summary))
    for line in summary["audit"]["lines"]:
        console.print(line, highlight=False)
    console.print(
        f"{summary['events']:,} events and {summary['labels']:,} labels in "
        f"{summary['seconds']:.0f} s. To look around: KAPPA_HOME={home} {command()} dashboard "
        "(or alerts, predictions, audit, replay)",
        highlight=False,
        soft_wrap=True,
    )


def _periods_table(summary: dict[str, Any]) -> Table:
    rows = summary["periods"]
    shown = [name for name in ("first", "frozen", "live") if any(name in row for row in rows)]
    of_numbers = any("crps" in row["live"] for row in rows)
    score, name_of_score = ("crps", "CRPS") if of_numbers else ("brier", "Brier score")
    second, name_of_second = ("rmse", "RMSE") if of_numbers else ("accuracy", "accuracy")
    table = Table(
        title=f"{name_of_score} (lower is better), and {name_of_second} of the live model"
    )
    table.add_column("period")
    for name in ("events", "labelled"):
        table.add_column(name, justify="right")
    for name in shown:
        version = summary.get(f"{name}_version")
        table.add_column(f"{name}: {version}" if version else name, justify="right")
    table.add_column(name_of_second, justify="right")
    if any("no_change" in row for row in rows):
        table.add_column("no change", justify="right")
    for name in ("alerts", "models"):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [row["period"], f"{row['events']:,}", f"{row['labelled']:,}"]
        cells += [_figure(row[name][score]) for name in shown]
        cells.append(_figure(row["live"][second]))
        if "no_change" in row:
            cells.append(_figure(row["no_change"][second]))
        cells += [str(row["alerts"]), _versions(row["versions"])]
        table.add_row(*cells)
    return table


def _alerts_table(summary: dict[str, Any]) -> Table:
    """One row per scheduling point: what was found there, and what was done about it."""
    table = Table(title="Alerts")
    for name in ("window ends", "model", "found (threshold)", "action"):
        table.add_column(name)
    at_once: dict[int, list[dict[str, Any]]] = {}
    for alert in summary["alerts"]:
        at_once.setdefault(alert["window"]["end_ms"], []).append(alert)
    for end_ms, alerts in sorted(at_once.items()):
        found = [
            f"{a['metric']} {a['feature'] or ''} {a['value']:.3g} ({a['threshold']:.3g})"
            for a in alerts
        ]
        actions = sorted({a["action"] for a in alerts}, key=lambda text: text != "retrain")
        table.add_row(
            _time(end_ms, summary["timezone"]),
            str(alerts[0]["model_version"]),
            ", ".join(" ".join(text.split()) for text in found),
            actions[0],
        )
    return table


def _models_table(summary: dict[str, Any]) -> Table:
    table = Table(title="Models")
    for name in ("version", "trained by", "examples", "log loss", "Brier", "accuracy"):
        table.add_column(name, justify="left" if name == "trained by" else "right")
    for model in summary["models"]:
        metrics = model["metrics"]
        table.add_row(
            str(model["version"]),
            model["command_id"],
            f"{metrics.get('n_train', 0):,.0f}",
            *(_figure(metrics.get(name)) for name in ("log_loss", "brier", "accuracy")),
        )
    return table


def _news_line(text: str) -> Text:
    style = "red" if "ALERT" in text else "green" if "→ live" in text else ""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _versions(versions: list[int]) -> str:
    if len(versions) > 2:
        return f"{versions[0]}-{versions[-1]}"
    return ", ".join(map(str, versions))


def _time(time_ms: int, timezone: str) -> str:
    if not time_ms:
        return "-"
    local = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(ZoneInfo(timezone))
    return local.strftime("%Y-%m-%d %H:%M")


def command() -> str:
    """Return how this program was called: ``uv run`` sets UV for what it runs."""
    return "uv run kappa" if "UV" in os.environ else "kappa"
