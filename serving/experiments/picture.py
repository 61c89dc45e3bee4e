"""The picture of an experiment: the effect with both intervals over time, and the arms' means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from serving.experiments.comparing import Moment
from serving.experiments.metrics import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOTS_PER_INCH = 120
COLOURS = ("#4878a8", "#d08045", "#5f9e6e", "#8d6cab")
DAY_MS = 86_400_000
GREY = "#777777"
CUT = 4.0  # fixed half-widths beyond which the early sequential band is not drawn


def draw(
    path: Path,
    title: str,
    course: list[Moment],
    metric: Metric,
    versions: list[int],
    first_ms: int,
) -> None:
    """Draw into ``path`` (PNG); ``versions`` are those of the arms, control first;
    ``first_ms`` is where time begins.

    The same findings give the same bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    times = [(moment.time_ms - first_ms) / DAY_MS for moment in course]
    figure = Figure(figsize=(8.0, 7.0), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for number, version in enumerate(versions[1:]):
        _effects(upper, times, course, number, version)
    upper.axhline(0.0, color=GREY, linewidth=1)
    better = "higher" if metric.higher else "lower"
    upper.set(title=title, ylabel=f"difference in {metric.text} ({better} is better)")
    upper.set_ylim(*_limits(course))
    for number, version in enumerate(versions):
        means = [moment.means[number] for moment in course]
        colour = GREY if number == 0 else COLOURS[(number - 1) % len(COLOURS)]
        name = f"control, model {version}" if number == 0 else f"model {version}"
        lower.errorbar(
            times, [mean for mean, _ in means], yerr=[error for _, error in means], fmt=".-",
            color=colour, capsize=2, linewidth=1, label=f"{name} (± standard error)",
        )  # fmt: skip
    lower.set(ylabel=f"{metric.text}, mean over all so far", xlabel="days of event time")
    for plot in (upper, lower):
        plot.grid(alpha=0.3)
        plot.legend(fontsize=8)
    figure.savefig(path, dpi=DOTS_PER_INCH, format="png", metadata={"Software": None})


def _effects(
    plot: Axes, times: list[float], course: list[Moment], number: int, version: int
) -> None:
    colour = COLOURS[number % len(COLOURS)]
    effects = [moment.effects[number] for moment in course]
    low, high = _limits(course)
    for name, bands, shade in (
        ("at all times", [effect.sequential for effect in effects], 0.15),
        ("at the planned size", [effect.fixed for effect in effects], 0.3),
    ):
        plot.fill_between(
            times, [max(low, band.low) for band in bands], [min(high, band.high) for band in bands],
            color=colour, alpha=shade, linewidth=0, label=f"model {version}, interval {name}",
        )  # fmt: skip
    plot.plot(times, [e.difference.mean for e in effects], ".-", color=colour, linewidth=1.2)


def _limits(course: list[Moment]) -> tuple[float, float]:
    """Return the lowest and highest value drawn: the last interval, several times over."""
    last = course[-1].effects
    reach = max(effect.fixed.high - effect.difference.mean for effect in last)
    low = min(effect.difference.mean for effect in last) - CUT * reach
    high = max(effect.difference.mean for effect in last) + CUT * reach
    return (low, high) if low < high else (low - 1.0, high + 1.0)
