"""The sections of the page, by name."""

from serving.dashboard.documents.actions import Actions
from serving.dashboard.documents.alerts import Alerts, Trainings
from serving.dashboard.documents.figures import Drift, Fairness, Performance
from serving.dashboard.documents.health import Health
from serving.dashboard.documents.overview import Overview
from serving.dashboard.documents.rollout import Experiments, Rollout
from serving.dashboard.documents.topics import TopicList

SECTIONS = {
    "overview": Overview,
    "drift": Drift,
    "performance": Performance,
    "fairness": Fairness,
    "rollout": Rollout,
    "experiments": Experiments,
    "health": Health,
    "alerts": Alerts,
    "trainings": Trainings,
    "topics": TopicList,
    "actions": Actions,
}
"""Section (path and name of the event) → its document."""
