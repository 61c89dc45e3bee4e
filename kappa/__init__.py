"""The public API: what a pipeline file imports.

A name is loaded when it is asked for, so that ``kappa --help`` waits for none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from serving.alerting.declared import Alerting, Alertmanager, Policy, Webhook
    from serving.online.declared import Online
    from serving.pipeline import Pipeline
    from serving.rollout.declared import Guardrails, RolloutPolicy
    from serving.spec import ConceptDrift, DataDrift, Fairness, Performance, PredictionDrift
    from streams.expressions import Above, Below, Equals, OneOf, Value
    from streams.stream import EventStream, LabelStream
    from training.dataset.examples import SliceArrays
    from training.dataset.torch_dataset import ReplayDataset
    from training.networks.declared import Custom, Experts, Tabular, Transformer
    from training.networks.tasks import Binary, MultiClass, Regression
    from training.parallel.declared import Parallel
    from training.retraining.space import Space
    from training.spec import Model, Training

__all__ = [
    "Above",
    "Alerting",
    "Alertmanager",
    "Below",
    "Binary",
    "Category",
    "ConceptDrift",
    "Count",
    "Custom",
    "DataDrift",
    "DayOfWeek",
    "DecayedMean",
    "Definition",
    "DistinctCount",
    "Equals",
    "EventStream",
    "Experts",
    "Fairness",
    "First",
    "Guardrails",
    "HourOfDay",
    "LabelStream",
    "Last",
    "Max",
    "Mean",
    "Min",
    "Minus",
    "Model",
    "MultiClass",
    "Number",
    "OneOf",
    "Online",
    "Parallel",
    "Performance",
    "Pipeline",
    "Plus",
    "Policy",
    "PredictionDrift",
    "Quantile",
    "Rate",
    "Ratio",
    "Regression",
    "ReplayDataset",
    "RolloutPolicy",
    "SliceArrays",
    "Space",
    "Std",
    "Sum",
    "Tabular",
    "TimeSinceLast",
    "Times",
    "TopShare",
    "Training",
    "Transformer",
    "Value",
    "Variance",
    "Webhook",
]

_NAMES = {
    "features.aggregations": (
        "Count DecayedMean DistinctCount First Last Max Mean Min Quantile Rate Std Sum "
        "TimeSinceLast TopShare Variance"
    ),
    "features.definition": "Category DayOfWeek Definition HourOfDay Minus Number Plus Ratio Times",
    "serving.alerting.declared": "Alerting Alertmanager Policy Webhook",
    "serving.online.declared": "Online",
    "serving.pipeline": "Pipeline",
    "serving.rollout.declared": "Guardrails RolloutPolicy",
    "serving.spec": "ConceptDrift DataDrift Fairness Performance PredictionDrift",
    "streams.expressions": "Above Below Equals OneOf Value",
    "streams.stream": "EventStream LabelStream",
    "training.dataset.examples": "SliceArrays",
    "training.dataset.torch_dataset": "ReplayDataset",
    "training.networks.declared": "Custom Experts Tabular Transformer",
    "training.networks.tasks": "Binary MultiClass Regression",
    "training.parallel.declared": "Parallel",
    "training.retraining.space": "Space",
    "training.spec": "Model Training",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)
