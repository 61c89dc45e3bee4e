"""The roles of a pipeline's processes, and what each of them runs."""

import os
import socket

import structlog

from infra.supervisor import ROLES
from serving.pipeline import Pipeline
from streams.errors import ConfigurationError
from streams.settings import Settings


def check_role(role: str) -> None:
    """Raise ConfigurationError unless ``role`` is one that a process can have."""
    if role not in ROLES:
        raise ConfigurationError(f"role {role!r}: there is no such one; it is {', '.join(ROLES)}")


def run_role(role: str, pipeline: Pipeline, settings: Settings, bootstrap: str) -> None:
    """Run one role until SIGTERM or SIGINT; the topics must exist.

    Each branch imports what it needs and no more: Faust, torch and Feast are slow to import.

    Raises:
        ConfigurationError: there is no such role.
        KappaError: what the role's own entry raises.
    """
    check_role(role)
    log = structlog.get_logger().bind(role=role, pipeline=pipeline.name)
    log.info("process starts", pid=os.getpid(), bootstrap=bootstrap)
    home = settings.pipeline_home(pipeline.name)
    home.mkdir(parents=True, exist_ok=True)
    if role == "features":
        from features.worker import FeatureJob, run_features

        run_features(
            FeatureJob(bootstrap, pipeline.topics, pipeline.features, pipeline.events, home)
        )
    elif role in ("inference", "shadow"):
        from serving.inference import run_inference

        run_inference(
            bootstrap,
            pipeline.topics,
            pipeline.definitions,
            pipeline.events,
            pipeline.model,
            home,
            "shadow" if role == "shadow" else "inference",
            worker=worker_name(role, settings),
            labels=pipeline.labels,
        )
    elif role == "monitor":
        from serving.monitor import run_monitor

        run_monitor(
            bootstrap,
            pipeline.topics,
            pipeline.definitions,
            pipeline.events,
            pipeline.labels,
            pipeline.monitors,
            pipeline.training,
            pipeline.step,
            home,
        )
    elif role == "trainer":
        from training.trainer import run_trainer

        run_trainer(
            bootstrap,
            pipeline.topics,
            pipeline.definitions,
            pipeline.events,
            pipeline.labels,
            pipeline.model,
            pipeline.training,
            home,
            settings.training_ranks,
            settings.mlflow_tracking_uri,
        )
    log.info("process ends")


def worker_name(role: str, settings: Settings) -> str:
    """Return a name that is the worker's own and outlasts restarts, such as ``inference-host1``."""
    return f"{role}-{settings.worker or socket.gethostname()}"
