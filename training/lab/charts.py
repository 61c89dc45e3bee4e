"""Draws the charts of the reports as PNG files, with no window and no global state."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from training.lab.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 120
FORWARD, BACKWARD, IDLE = "#4878a8", "#d08045", "#f2f2f2"

Draw = Callable[[Path], None]
"""Draws a chart into a file."""

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Name → x and y. A name that begins with "predicted" is drawn dashed."""


def lines(path: Path, title: str, axes: tuple[str, str], series: Series) -> None:
    """Draw curves; ``axes`` are the labels of x and y."""
    figure, plot = _figure((7.0, 4.2))
    for name, (xs, ys) in series.items():
        predicted = name.startswith("predicted")
        style, marker = ("--", "") if predicted else ("-", ".")
        plot.plot(xs, ys, style, marker=marker, label=name)
    plot.set(title=title, xlabel=axes[0], ylabel=axes[1])
    plot.grid(alpha=0.3)
    plot.legend(fontsize=8)
    _save(figure, path)


def bars(path: Path, title: str, labels: tuple[str, Sequence[str]], groups: Series) -> None:
    """Draw bars side by side; ``labels`` are that of y and those of the groups of bars."""
    figure, plot = _figure((7.0, 4.2))
    width = 0.8 / max(1, len(groups))
    for number, (name, (xs, ys)) in enumerate(groups.items()):
        places = [x + (number - (len(groups) - 1) / 2) * width for x in xs]
        plot.bar(places, ys, width, label=name)
    plot.set(title=title, ylabel=labels[0])
    plot.set_xticks(range(len(labels[1])), labels[1])
    plot.grid(alpha=0.3, axis="y")
    plot.legend(fontsize=8)
    _save(figure, path)


def timelines(path: Path, title: str, parts: Mapping[str, Sequence[Interval]]) -> None:
    """Draw what each stage does when: one picture per part, above each other, on one scale."""
    figure, plots = _figures(len(parts), (9.0, 1.1 + 1.6 * len(parts)))
    longest = max(max(i.end_s for i in found) for found in parts.values()) * 1000
    for plot, (name, intervals) in zip(plots, parts.items(), strict=True):
        stages = 1 + max(interval.stage for interval in intervals)
        plot.set_facecolor(IDLE)
        for interval in intervals:
            begin_ms, width_ms = interval.start_s * 1000, interval.seconds * 1000
            colour = FORWARD if interval.work == "forward" else BACKWARD
            plot.barh(
                interval.stage, width_ms, left=begin_ms, height=0.8, color=colour,
                edgecolor="white", linewidth=0.4,
            )  # fmt: skip
            if width_ms > longest / 60:
                middle = begin_ms + width_ms / 2
                plot.text(
                    middle, interval.stage, str(interval.microbatch + 1), ha="center",
                    va="center", fontsize=6, color="white",
                )  # fmt: skip
        plot.set_yticks(range(stages), [f"stage {stage + 1}" for stage in range(stages)])
        plot.invert_yaxis()
        plot.set_xlim(0, longest)
        plot.set_title(name, fontsize=9)
    plots[-1].set_xlabel("ms; blue forward, orange backward, the micro-batch's number in it")
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def heat_map(
    path: Path,
    title: str,
    sides: tuple[Sequence[str], Sequence[str]],
    values: NDArray[np.float64],
    marks: NDArray[np.bool_],
    label: str,
) -> None:
    """Draw ``values`` (rows, columns) as colours from 0 to .5, NaN left blank, a dot where
    ``marks``; ``sides`` are the names of rows and columns."""
    rows, columns = sides
    figure, plot = _figure((2.5 + 0.16 * len(columns), 1.8 + 0.3 * len(rows)))
    image = plot.imshow(values, aspect="auto", cmap="YlOrRd", vmin=0.0, vmax=0.5)
    ys, xs = np.nonzero(marks)
    plot.scatter(xs, ys, s=6, color="black")
    plot.set_yticks(range(len(rows)), rows, fontsize=8)
    every = max(1, -(-len(columns) // 26))
    shown = range(0, len(columns), every)
    plot.set_xticks(list(shown), [columns[i] for i in shown], rotation=60, ha="right", fontsize=7)
    plot.set_title(title, fontsize=10)
    figure.colorbar(image, ax=plot, label=label, extend="max")
    _save(figure, path)


def _figure(size: tuple[float, float]) -> "tuple[Figure, Axes]":
    figure, plots = _figures(1, size)
    return figure, plots[0]


def _figures(rows: int, size: tuple[float, float]) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    plots = figure.subplots(rows, 1, squeeze=False)
    return figure, [row[0] for row in plots]


def _save(figure: "Figure", path: Path) -> None:
    # No software's name or time in the file: the same figures give the same bytes.
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
