"""The process of the dashboard: one listener, the folds behind it, and the link to log in with."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from serving.dashboard.acting import Acting
from serving.dashboard.documents.rollout import ExperimentFindings
from serving.dashboard.documents.topics import Records
from serving.dashboard.doing import Doing
from serving.dashboard.experiment_list import findings_document
from serving.dashboard.folding import Folds
from serving.dashboard.live import Live, References
from serving.dashboard.options import DashboardOptions
from serving.dashboard.records import Wanted, browse
from serving.dashboard.retrying import times_sent
from serving.dashboard.sessions import Sessions
from serving.http.server import listen, until_drained
from serving.pipeline import Pipeline
from streams.clock import SystemClock
from streams.control import ControlFollower
from streams.errors import ConfigurationError
from streams.topics import dead_letter_topic

GRACE_S = 3

_LOG = structlog.get_logger(__name__)


def serve_dashboard(
    pipeline: Pipeline,
    bootstrap: str,
    options: DashboardOptions,
    show: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    ``show`` is given the one-time link, at the start and whenever one was used: each opens one
    session.

    Raises:
        ConfigurationError: nothing can listen there.
    """
    import uvicorn

    from serving.dashboard.app import Parts, make_app

    clock = SystemClock()
    with first_free(options) as listener:
        port = listener.getsockname()[1]
        options = replace(options, port=port)
        sessions = Sessions(port, time.monotonic, options.token)
        doing = Doing(pipeline, bootstrap).all()
        folds = Folds(pipeline, bootstrap, list(doing), clock.now_ms)
        log, url = Questions(pipeline, bootstrap), url_of(options)

        def new_link() -> None:
            link = f"{url}login?token={sessions.new_link()}"
            if options.link_file is not None:
                write_private(options.link_file, link)
            show(link)

        acting = Acting(doing, folds.acted, clock.now_ms)
        server: uvicorn.Server | None = None
        parts = Parts(
            pipeline.name,
            folds.board,
            sessions,
            options,
            acting,
            References(folds).cell,
            log.records,
            log.findings,
            new_link,
            lambda: server is not None and server.should_exit,
        )
        config = uvicorn.Config(
            make_app(parts),
            access_log=False,
            log_config=None,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )
        server = uvicorn.Server(config)
        _LOG.info("dashboard", pipeline=pipeline.name, url=url)
        try:
            with Live(folds, bootstrap):
                new_link()
                with until_drained(server):
                    server.run(sockets=[listener])
        finally:
            if options.link_file is not None:
                options.link_file.unlink(missing_ok=True)


def first_free(options: DashboardOptions) -> socket.socket:
    """Return a listener on the first port that can be had; raises ConfigurationError."""
    for number in range(options.tries):
        at = replace(options, port=options.port + number if options.port else 0)
        try:
            return listen(at)
        except ConfigurationError:
            if number + 1 >= options.tries:
                raise
    raise ConfigurationError(f"tries={options.tries}: at least one port is to be tried")


def url_of(options: DashboardOptions) -> str:
    """Return the page's address as a browser of this machine, or by its first name, asks it."""
    host = options.names[0] if options.names else options.host
    return f"http://{f'[{host}]' if ':' in host else host}:{options.port}/"


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    new.replace(path)


@dataclass(frozen=True)
class Questions:
    """What is read from the log when it is asked for; joins no group, and writes nothing."""

    pipeline: Pipeline
    bootstrap: str

    def records(self, wanted: Wanted) -> Records:
        """Return records of one of the pipeline's topics; raises ConfigurationError of others."""
        topics = {spec.name: spec.partitions for spec in self.pipeline.topic_specs}
        if wanted.topic not in topics:
            raise ConfigurationError(
                f"{wanted.topic[:100]} is no topic of pipeline {self.pipeline.name}"
            )
        sources = (self.pipeline.topics.events, self.pipeline.topics.labels)
        retried = None
        if wanted.topic in map(dead_letter_topic, sources):
            follower = ControlFollower(self.bootstrap, self.pipeline.topics.commands)
            try:
                retried = times_sent(wanted.topic, follower.catch_up())
            finally:
                follower.close()
        return browse(self.bootstrap, wanted, topics[wanted.topic], retried)

    def findings(self, name: str) -> ExperimentFindings:
        """Return what an experiment shows; raises ConfigurationError where there is none."""
        from serving.experiments.running import Experiments

        experiments = Experiments(self.bootstrap, self.pipeline)
        try:
            _, readings, found = experiments.findings(name)
            arms = experiments.experiment(name).started.arms
        finally:
            experiments.close()
        return findings_document(name, [arm.version for arm in arms], readings, found)
