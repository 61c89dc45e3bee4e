"""What the figures of fairness are called in the metrics topic."""

from collections.abc import Mapping
from types import MappingProxyType

SELECTION_RATE = "selection_rate"
TRUE_POSITIVE_RATE = "true_positive_rate"
FALSE_POSITIVE_RATE = "false_positive_rate"
CALIBRATION_GAP = "group_calibration_gap"
SELECTION_RATIO = "selection_ratio"
MEAN_ERROR = "mean_error_in_spreads"

DIFFERENCES: Mapping[str, str] = MappingProxyType(
    {
        TRUE_POSITIVE_RATE: "true_positive_rate_difference",
        FALSE_POSITIVE_RATE: "false_positive_rate_difference",
        CALIBRATION_GAP: "calibration_gap_difference",
        MEAN_ERROR: "mean_error_difference",
    }
)
"""Of a figure of groups: the name of its largest difference between two of them."""

GROUP_METRICS = (
    SELECTION_RATE,
    TRUE_POSITIVE_RATE,
    FALSE_POSITIVE_RATE,
    CALIBRATION_GAP,
    SELECTION_RATIO,
    MEAN_ERROR,
)
"""Figures of one group: ``group`` is ``"field=value"``."""

FAIRNESS_METRICS = (*GROUP_METRICS, *DIFFERENCES.values())
"""All of them; ``group`` of a difference is the field alone."""
