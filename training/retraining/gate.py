"""Whether a trained model may go live: a pure function of its validation figures."""

import math
from collections.abc import Mapping


def refusal(metrics: Mapping[str, float]) -> str | None:
    """Return why a model may not go live, or None where it may.

    ``metrics`` holds at least ``log_loss`` and ``base_rate_log_loss``, both of the validation
    slice: a model that knows less than the share of positives in training is of no use.
    """
    unsound = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if unsound:
        return f"the model's {', '.join(unsound)} is not a finite number: training diverged"
    loss, base = metrics["log_loss"], metrics["base_rate_log_loss"]
    if loss >= base:
        return (
            f"log loss {loss:.4f} on later data is not better than the {base:.4f} of always "
            "answering the base rate"
        )
    return None
