"""The names of the figures that concept drift tells."""

LOG_LOSS_CHANGE = "log_loss_change"
CALIBRATION_SHIFT = "calibration_shift"
ESTIMATED_LOG_LOSS = "estimated_log_loss"
LABEL_DELAY_MEDIAN = "label_delay_median_s"
LABEL_DELAY_P90 = "label_delay_p90_s"
LABEL_OVERDUE = "label_overdue_share"

LABEL_DELAY_METRICS = frozenset({LABEL_DELAY_MEDIAN, LABEL_DELAY_P90, LABEL_OVERDUE})
"""Those that say nothing of a model: how labels come."""
