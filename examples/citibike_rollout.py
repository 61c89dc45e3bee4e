"""The trips of :mod:`examples.citibike`, with models that prove themselves before all are theirs.

A new model answers in shadow first, then a quarter of the stations, then half of them; the policy
promotes it, or takes it back, by the labels that come: ``kappa demo -p examples.citibike_rollout``.
"""

from dataclasses import replace

from examples.citibike import pipeline as at_once
from kappa import RolloutPolicy

pipeline = replace(
    at_once,
    name="citibike_rollout",
    features=at_once.definitions,
    rollout=RolloutPolicy(shares=(0.25, 0.5), longest="14d"),
)
