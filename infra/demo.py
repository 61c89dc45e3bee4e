"""The demonstration: a whole pipeline on this machine, a stream played through it, a summary."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from infra.broker import EmbeddedBroker
from infra.conductor import Conductor, Observer
from infra.roles import HEALTH, ONLINE, OUTCOMES, ROLLOUT, SKEW, roles_of, stages_at
from infra.schema_check import check_schemas
from infra.supervisor import Supervisor, worker_command
from serving.auditing.audit import run_audit
from serving.auditing.skew import SkewAccount, skew_account
from serving.finished_run import read_answers, read_confirmed, read_labels
from serving.pipeline import Pipeline
from serving.summary import Answers, after_first_training, models, periods
from streams.durations import seconds
from streams.errors import ConfigurationError
from streams.positions import PositionReader
from streams.producing import Player, SourceProducer
from streams.recording import Recording
from streams.settings import Settings
from streams.topics import Topics, ensure_topics

SKEW_WITHIN_S = 120.0
"""How long a demo waits at its end for the skew audit, which runs at a low priority."""

MARKER = ".kappa-demo"
"""Tells a folder that an earlier demo made, and that the next may therefore empty."""

Then = Callable[[dict[str, Any], Callable[[], None]], None]


@dataclass(frozen=True)
class Demo:
    """What is played: a pipeline, the module that declares it, and the moment to freeze at.

    ``skew``: whether the skew audit runs beside it. ``beside`` are further processes, by name,
    with their command lines; where there are any, what looks after the processes and what joins
    outcomes run too, since the further ones tell of them.
    """

    pipeline: Pipeline
    module: str
    settings: Settings
    frozen_at_ms: int | None = None
    skew: bool = False
    beside: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the processes that run."""
        roles = roles_of(self.pipeline)
        roles = (*roles, SKEW) if self.skew else roles
        if not self.beside:
            return roles
        outcomes = () if OUTCOMES in roles else (OUTCOMES,)
        return (*roles, *outcomes, HEALTH, *self.beside)

    def command(self, role: str) -> list[str]:
        """Return the command line of a role's process."""
        return self.beside.get(role) or worker_command(self.module, role)


def demo_settings(settings: Settings) -> Settings:
    """Return settings with a state folder of the demo's own, ``<home>/demo``."""
    return settings.model_copy(update={"home": settings.home.resolve() / "demo"})


@contextmanager
def demo_broker(settings: Settings) -> Iterator[str]:
    """Yield the address of a fresh embedded broker, or of the configured one.

    What an earlier demo left in its folder is removed, so that every demo begins at nothing.
    """
    if settings.bootstrap_servers:
        yield settings.bootstrap_servers
        return
    broker = EmbeddedBroker(settings.home, settings.broker_port, settings.broker_heap_mb)
    if broker.running():
        raise ConfigurationError(
            f"a demo already runs in {settings.home}: wait for it, or set KAPPA_HOME to another "
            "folder for this one"
        )
    _empty(settings.home)
    try:
        yield broker.start()
    finally:
        broker.stop()


def _empty(home: Path) -> None:
    """Make ``home`` a new, empty folder of the demo's; never touch a folder that is not."""
    marker = home / MARKER
    if home.exists():
        if any(home.iterdir()) and not marker.exists():
            raise ConfigurationError(
                f"{home} holds files that no demo left there, and a demo begins by emptying its "
                "folder: set KAPPA_HOME to another folder"
            )
        shutil.rmtree(home)
    home.mkdir(parents=True)
    marker.touch()


def run_demo(
    demo: Demo,
    bootstrap: str,
    recordings: Iterable[Recording],
    observer: Observer,
    then: Then | None = None,
) -> dict[str, Any]:
    """Play the stream through the running pipeline and return the summary.

    ``then`` is given the summary, and what raises where a process is beyond help, while all still
    runs.
    """
    began = time.monotonic()
    pipeline, topics = demo.pipeline, demo.pipeline.topics
    ensure_topics(bootstrap, pipeline.topic_specs, demo.settings.replication)
    _refuse_used_topics(bootstrap, topics, pipeline.events.partitions)
    check_schemas(bootstrap, pipeline, demo.settings.replication)
    producer = SourceProducer(bootstrap, topics, "kappa/demo")
    player = Player(recordings, producer, labels_first=pipeline.features.reads_labels)
    roles = demo.roles
    with Supervisor(
        demo.module, pipeline.name, demo.settings, bootstrap, roles, command=demo.command
    ) as supervisor:
        conductor = Conductor(
            bootstrap=bootstrap,
            topics=topics,
            partitions=pipeline.events.partitions,
            step_ms=seconds(pipeline.step) * 1000,
            player=player,
            observer=observer,
            check=supervisor.check,
            frozen_at_ms=demo.frozen_at_ms,
            stages=partial(stages_at, pipeline),
            beside={OUTCOMES, ROLLOUT, ONLINE}.intersection(roles),
        )
        conductor.run()
        if demo.skew:
            _await_skew(bootstrap, pipeline, supervisor)
        summary = _summary(demo, bootstrap, conductor, time.monotonic() - began)
        if then is not None:
            then(summary, supervisor.check)
    return summary


def _summary(
    demo: Demo, bootstrap: str, conductor: Conductor, seconds_taken: float
) -> dict[str, Any]:
    pipeline, topics = demo.pipeline, demo.pipeline.topics
    partitions, task = pipeline.events.partitions, pipeline.model.task
    live = read_answers(bootstrap, topics.predictions, partitions, task)
    shadow = read_answers(bootstrap, topics.shadow, partitions, task)
    labels = read_labels(bootstrap, topics.labels, partitions, pipeline.labels, task)
    alerts = read_confirmed(bootstrap, topics)
    columns: dict[str, Answers] = {"live": live}
    if conductor.first_version is not None:
        columns["first"] = shadow.only(conductor.first_version)
    if conductor.frozen_version is not None:
        columns["frozen"] = shadow.only(conductor.frozen_version)
    audit = run_audit(bootstrap, topics, partitions)
    skew = _skew_accounts(bootstrap, pipeline) if demo.skew else []
    return {
        "pipeline": pipeline.name,
        "timezone": pipeline.timezone,
        "events": conductor.progress.events,
        "labels": conductor.progress.labels,
        "predictions": audit.predictions,
        "dead_letters": audit.dead_letters,
        "audit": {
            "ok": audit.ok and not any(account.different for account in skew),
            "lines": [*audit.lines, *map(str, skew)],
        },
        "alerts": [msgspec.to_builtins(alert) for alert in alerts],
        "models": models(list(conductor.rollout.versions.values())),
        "first_version": conductor.first_version,
        "frozen_version": conductor.frozen_version,
        "after_first_training": after_first_training(live, labels, pipeline.baseline, task),
        "periods": periods(columns, labels, alerts, pipeline.timezone, pipeline.baseline, task),
        "seconds": round(seconds_taken, 1),
    }


def _await_skew(bootstrap: str, pipeline: Pipeline, supervisor: Supervisor) -> None:
    """Wait until the skew audit has told of everything that was played."""
    deadline = time.monotonic() + SKEW_WITHIN_S
    while any(
        account.behind or not account.upto for account in _skew_accounts(bootstrap, pipeline)
    ):
        supervisor.check()
        if time.monotonic() > deadline:
            return  # the summary says how far it is behind
        time.sleep(0.2)


def _skew_accounts(bootstrap: str, pipeline: Pipeline) -> list[SkewAccount]:
    return [skew_account(bootstrap, stage) for stage in stages_at(pipeline, pipeline.topics)]


def _refuse_used_topics(bootstrap: str, topics: Topics, partitions: int) -> None:
    positions = PositionReader(bootstrap)
    try:
        ends = positions.ends({topics.events: partitions, topics.models: 1})
    finally:
        positions.close()
    used = [topic for topic, by_partition in ends.items() if sum(by_partition.values())]
    if used:
        raise ConfigurationError(
            f"{', '.join(used)} at {bootstrap} already hold records: a demo begins at nothing; "
            "delete the pipeline's topics, or unset KAFKA_BOOTSTRAP_SERVERS to use a fresh "
            "embedded broker"
        )
