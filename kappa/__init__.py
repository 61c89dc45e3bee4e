"""The public API: what a pipeline file imports."""

from features.definition import (
    Category,
    Count,
    DayOfWeek,
    Definition,
    HourOfDay,
    Mean,
    Minus,
    Number,
    Sum,
    TimeSinceLast,
)
from serving.pipeline import Pipeline
from serving.spec import DataDrift, Performance
from streams.expressions import Above, Equals, Value
from streams.stream import EventStream, LabelStream
from training.spec import Model, Training

__all__ = [
    "Above",
    "Category",
    "Count",
    "DataDrift",
    "DayOfWeek",
    "Definition",
    "Equals",
    "EventStream",
    "HourOfDay",
    "LabelStream",
    "Mean",
    "Minus",
    "Model",
    "Number",
    "Performance",
    "Pipeline",
    "Sum",
    "TimeSinceLast",
    "Training",
    "Value",
]
