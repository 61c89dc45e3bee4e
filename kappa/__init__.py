"""The public API: what a pipeline file imports."""

from features.aggregations import (
    Count,
    DecayedMean,
    DistinctCount,
    First,
    Last,
    Max,
    Mean,
    Min,
    Quantile,
    Rate,
    Std,
    Sum,
    TimeSinceLast,
    TopShare,
    Variance,
)
from features.definition import (
    Category,
    DayOfWeek,
    Definition,
    HourOfDay,
    Minus,
    Number,
    Plus,
    Ratio,
    Times,
)
from serving.pipeline import Pipeline
from serving.spec import DataDrift, Performance
from streams.expressions import Above, Below, Equals, OneOf, Value
from streams.stream import EventStream, LabelStream
from training.spec import Model, Training

__all__ = [
    "Above",
    "Below",
    "Category",
    "Count",
    "DataDrift",
    "DayOfWeek",
    "DecayedMean",
    "Definition",
    "DistinctCount",
    "Equals",
    "EventStream",
    "First",
    "HourOfDay",
    "LabelStream",
    "Last",
    "Max",
    "Mean",
    "Min",
    "Minus",
    "Model",
    "Number",
    "OneOf",
    "Performance",
    "Pipeline",
    "Plus",
    "Quantile",
    "Rate",
    "Ratio",
    "Std",
    "Sum",
    "TimeSinceLast",
    "Times",
    "TopShare",
    "Training",
    "Value",
    "Variance",
]
