"""The calibration of a model as a chart. No window, no global state, the same bytes each time."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

DOTS_PER_INCH = 120
BLUE, GREY = "#4878a8", "#999999"


def calibration_chart(card: Mapping[str, Any]) -> bytes:
    """Return a PNG: answered against observed with intervals, and how many answers there are.

    Raises ImportError where matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bins = card["calibration"]
    figure = Figure(figsize=(5.4, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    plot = figure.subplots()
    answered = [of["answered"] for of in bins]
    observed = [of["observed"] for of in bins]
    # Wilson's interval need not be centred; at 0 and 1 rounding may take a bound past the share.
    below = [max(0.0, of["observed"] - of["low"]) for of in bins]
    above = [max(0.0, of["high"] - of["observed"]) for of in bins]
    reach = max([0.01, *answered, *(of["high"] for of in bins)])
    plot.plot([0, reach], [0, reach], "--", color=GREY, linewidth=1, label="answers that hold")
    plot.errorbar(
        answered, observed, yerr=[below, above], fmt="o", color=BLUE, capsize=3, markersize=4,
        label="validation slice, 95 % intervals",
    )  # fmt: skip
    is_regression = card["task"] == "Regression"
    plot.set(
        title=f"{card['pipeline']}, model {card['model']}",
        xlabel="interval's nominal share" if is_regression else "mean answer",
        ylabel="share of targets in it" if is_regression else "share that came true",
        xlim=(0, reach * 1.03),
        ylim=(0, reach * 1.03),
    )
    plot.grid(alpha=0.3)
    plot.legend(loc="upper left", fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, dpi=DOTS_PER_INCH, format="png", metadata={"Software": None})
    return content.getvalue()
