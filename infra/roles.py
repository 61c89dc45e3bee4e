"""The roles of a pipeline's processes, and what each of them runs."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import structlog

from features.definition import Definition
from features.processing.stages import ROLE as FEATURES
from features.processing.stages import Stage, stages_of
from infra.supervisor import ROLES
from serving.health.process import looked_after
from serving.pipeline import Pipeline
from streams.errors import ConfigurationError
from streams.settings import Settings
from streams.topics import Topics

SKEW = "skew"
"""The role that compares what is served with the log; beside the others, which do without it."""

OUTCOMES = "outcomes"
"""The role that joins predictions with their labels; beside the others, unless the pipeline
declares a rollout or online learning, which need it."""

HEALTH = "health"
"""The role that looks after the others, and after the brokers; beside them, as it is not needed."""

ROLLOUT = "rollout"
ONLINE = "online"

NOTIFY = "notify"
"""The role that passes alerts on and rolls back on them, where the pipeline declares such."""


def feature_stages(
    pipeline: Pipeline, definitions: Sequence[Definition] | None = None
) -> dict[str, Stage]:
    """Return role → stage of the processes that make features, in the order of the data.

    The stages of the pipeline's first definition have their own names, such as ``features``; those
    of a further one the version behind it, such as ``features.v2``.

    Args:
        pipeline: the pipeline.
        definitions: of them those to run; all by default.
    """
    chosen = pipeline.definitions if definitions is None else definitions
    found: dict[str, Stage] = {}
    for definition in chosen:
        topics = pipeline.topics_of(definition)
        is_first = definition.version == pipeline.features.version
        ending = "" if is_first else f".v{definition.version}"
        for stage in stages_of(definition, pipeline.events, pipeline.labels, topics):
            found[stage.role + ending] = stage
    return found


def stages_at(pipeline: Pipeline, topics: Topics) -> list[Stage]:
    """Return the stages of the definition that ``topics`` are of."""
    definition = pipeline.definition(topics.definition)
    return stages_of(definition, pipeline.events, pipeline.labels, topics)


def roles_of(
    pipeline: Pipeline, definitions: Sequence[Definition] | None = None
) -> tuple[str, ...]:
    """Return the roles of a pipeline's processes, in the order in which data pass through them.

    ``definitions`` are those whose features are made; the first alone by default.
    """
    chosen = (pipeline.features,) if definitions is None else definitions
    lasting = [role for role in ROLES if role != FEATURES]
    if pipeline.rollout is not None or pipeline.online is not None:
        lasting.append(OUTCOMES)
    if pipeline.rollout is not None:
        lasting.append(ROLLOUT)
    if pipeline.online is not None:
        lasting.append(ONLINE)
    alerting = pipeline.alerting
    if alerting.notify or any(policy.do == "roll back" for policy in alerting.policies):
        lasting.append(NOTIFY)
    return (*feature_stages(pipeline, chosen), *lasting)


def check_role(role: str, pipeline: Pipeline) -> None:
    """Raise ConfigurationError unless ``role`` is one that a process of the pipeline can have."""
    known = dict.fromkeys(
        (*roles_of(pipeline, pipeline.definitions), SKEW, OUTCOMES, HEALTH, NOTIFY)
    )
    if role not in known:
        raise ConfigurationError(f"role {role!r}: there is no such one; it is {', '.join(known)}")


def run_role(role: str, pipeline: Pipeline, settings: Settings, bootstrap: str) -> None:
    """Run one role until SIGTERM or SIGINT; the topics must exist.

    Each branch imports what it needs and no more: Faust, torch and Feast are slow to import.

    Raises:
        ConfigurationError: there is no such role.
        KappaError: what the role's own entry raises.
    """
    check_role(role, pipeline)
    log = structlog.get_logger().bind(role=role, pipeline=pipeline.name)
    log.info("process starts", pid=os.getpid(), bootstrap=bootstrap)
    home = settings.pipeline_home(pipeline.name)
    home.mkdir(parents=True, exist_ok=True)
    # The feature stages watch over themselves: a partition that stands still is stuck too.
    watched = role not in feature_stages(pipeline)
    worker = worker_name(role, settings)
    with looked_after(bootstrap, pipeline.topics, role, worker, settings, watched=watched):
        _run(role, pipeline, settings, bootstrap, home)
    log.info("process ends")


def _run(role: str, pipeline: Pipeline, settings: Settings, bootstrap: str, home: Path) -> None:
    """Run a role's own entry."""
    stages = feature_stages(pipeline)
    if role in stages:
        from features.worker import FeatureJob, run_features

        stage = stages[role]
        run_features(
            FeatureJob(
                bootstrap,
                stage.topics,
                stage.definition,
                stage.events,
                home,
                labels=stage.labels,
                stage=stage.number,
                dead_letters=stage.definition.version == pipeline.features.version,
            )
        )
    elif role in ("inference", "shadow"):
        from serving.inference.worker import run_inference

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
        from serving.monitoring.worker import run_monitor

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
            pipeline.model.task,
            pipeline.alerting,
        )
    elif role == "trainer":
        from training.retraining.trainer import run_trainer

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
            shadow_first=pipeline.rollout is not None,
        )
    elif role == OUTCOMES:
        from serving.feedback.worker import run_outcomes

        run_outcomes(bootstrap, pipeline, home)
    elif role == ONLINE:
        from serving.online.worker import run_online

        run_online(bootstrap, pipeline, home)
    elif role == SKEW:
        from serving.auditing.skew import SkewOptions, run_skew, skew_stages

        options = SkewOptions(every=settings.skew_every)
        run_skew(bootstrap, lambda: skew_stages(bootstrap, pipeline), home, options)
    elif role == HEALTH:
        from serving.health.worker import run_health

        run_health(bootstrap, pipeline.topics, pipeline.events.partitions, stages)
    elif role == ROLLOUT:
        from serving.rollout.worker import run_rollout

        run_rollout(bootstrap, pipeline, home)
    elif role == NOTIFY:
        from serving.alerting.notifying import run_notify

        run_notify(bootstrap, pipeline)


def worker_name(role: str, settings: Settings) -> str:
    """Return a name that is the worker's own and outlasts restarts, such as ``inference-host1``."""
    return f"{role}-{settings.worker or socket.gethostname()}"
