"""What every process of a pipeline has beside its work: vitals, metrics, traces, a watchdog."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from serving.health.exporting import Exported, shown
from serving.health.probing import Probe
from serving.health.reporting import Figures, Reporter
from streams.settings import Settings
from streams.topics import Topics
from streams.tracing import tracing
from streams.watchdog import watching


@contextmanager
def looked_after(
    bootstrap: str,
    topics: Topics,
    role: str,
    worker: str,
    settings: Settings,
    figures: Figures = dict,
    *,
    watched: bool = True,
) -> Iterator[None]:
    """Report how this process is, show its metrics where a port is set, make its spans where they
    are asked for, and watch its loop.

    Args:
        bootstrap: the brokers; they need not answer.
        topics: the pipeline's.
        role: the process's role.
        worker: its lasting name.
        settings: the port of the metrics, and when a loop counts as stuck.
        figures: gives further figures of its own.
        watched: whether the loop calls :func:`streams.watchdog.beat`.

    Raises:
        ConfigurationError: the port of the metrics is taken; or as
            :func:`streams.tracing.tracing`.
    """
    with ExitStack() as stack:
        stack.enter_context(tracing(f"{topics.name}-{role}", worker))
        listen = None
        if settings.metrics_port is not None:
            exported = Exported(role)
            stack.enter_context(shown(exported, settings.metrics_port, settings.metrics_host))
            listen = exported.listen
        probe = Probe(worker, role, settings.home)
        stack.enter_context(Reporter(bootstrap, topics.health, probe, figures, listen=listen))
        if watched:
            stack.enter_context(watching(settings.stuck_after_s))
        yield
