"""``kappa up``: all processes of a pipeline on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.table import Table

    from infra.supervisor import ProcessStatus, Supervisor
    from kappa.cli.context import Context

UP = "up"
"""The role, in vitals and metrics, of the process that runs the others."""

LOOK_EVERY = 5
"""Seconds between two looks at which definitions are to be kept up."""


def up(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    role: Annotated[
        list[str] | None,
        typer.Option(help="Run this role; may be repeated. All of them without it."),
    ] = None,
    skew: Annotated[
        bool, typer.Option(help="Run the skew audit too: served features against the log.")
    ] = True,
    outcomes: Annotated[
        bool, typer.Option(help="Join predictions with their labels, as outcomes.")
    ] = True,
    health: Annotated[
        bool, typer.Option(help="Look after the processes and the brokers, and tell by alerts.")
    ] = True,
    metrics: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_000,
            envvar="KAPPA_METRICS_PORT",
            help="Show metrics to Prometheus: on this port of 127.0.0.1 those of the supervisor, "
            "on the ports behind it those of each process.",
        ),
    ] = None,
    http: Annotated[
        int | None,
        typer.Option(min=1, max=65_535, help="Serve over HTTP too, on this port of 127.0.0.1."),
    ] = None,
    dashboard: Annotated[
        bool, typer.Option(help="Serve the pipeline's page too, on 127.0.0.1.")
    ] = True,
    dashboard_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65_535, help="The page's port. [default: the first free from 8790]"
        ),
    ] = None,
) -> None:
    """Run the pipeline's processes under one supervisor until Ctrl-C; a dead one is restarted."""
    from infra.roles import HEALTH, OUTCOMES, SKEW, check_role, roles_of, worker_name
    from infra.supervisor import Supervisor, worker_command
    from kappa.cli.dashboard import DASHBOARD, NewLinks, dashboard_command
    from kappa.cli.serve import SERVE, serve_command
    from serving.definitions import definitions_to_run
    from serving.health.process import looked_after

    ports: dict[str, int] = {}

    def environment(name: str) -> dict[str, str]:
        """Give each process a port of its own for its metrics; `serve` has one."""
        if metrics is None or name == SERVE:
            return {}
        ports.setdefault(name, metrics + 1 + len(ports))
        return {"KAPPA_METRICS_PORT": str(ports[name])}

    def command(name: str) -> list[str]:
        if name == SERVE and http is not None:
            return serve_command(pipeline, http)
        if name == DASHBOARD:
            return dashboard_command(pipeline, dashboard_port)
        return worker_command(pipeline, name)

    with open_context(pipeline, starts=True) as context:
        declared, bootstrap = context.pipeline, context.bootstrap
        for name in role or ():
            check_role(name, declared)

        def roles() -> tuple[str, ...]:
            made = roles_of(declared, definitions_to_run(bootstrap, declared))
            if outcomes and OUTCOMES not in made:
                made = (*made, OUTCOMES)
            made = (*made, SKEW) if skew else made
            made = (*made, HEALTH) if health else made
            made = (*made, DASHBOARD) if dashboard else made
            return made if http is None else (*made, SERVE)

        run = roles() if role is None else [*role, SERVE] if http is not None else role
        supervisor = Supervisor(
            pipeline, declared.name, context.settings, bootstrap, run, command=command,
            environment=environment,
        )  # fmt: skip
        settings = context.settings.model_copy(update={"metrics_port": metrics})
        looking = looked_after(
            bootstrap, declared.topics, UP, worker_name(UP, settings), settings,
            lambda: process_figures(supervisor.status()), watched=False,
        )  # fmt: skip
        with looking, supervisor:
            if metrics is not None:
                for name, port in {UP: metrics, **ports}.items():
                    typer.echo(f"metrics of {name}: http://{settings.metrics_host}:{port}/metrics")
            links = NewLinks(context.settings, declared.name)
            _watch(context, supervisor, None if role else roles, links.told)
            typer.echo("stopping", err=True)


def _watch(
    context: "Context",
    supervisor: "Supervisor",
    roles: "Callable[[], tuple[str, ...]] | None" = None,
    news: "Callable[[], list[str]]" = list,
) -> None:
    """Show how things stand until SIGINT or SIGTERM, and what is new; start what ``roles`` name."""
    import contextlib
    import itertools
    import signal
    import threading

    from rich.console import Console
    from rich.live import Live

    from infra.roles import feature_stages
    from serving.health.lag import LagReader
    from streams.errors import BrokerError

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    declared = context.pipeline
    lags = LagReader(
        context.bootstrap,
        declared.topics,
        declared.events.partitions,
        stages=feature_stages(declared),
    )
    looks = itertools.count(1)

    def look() -> None:
        """Let the supervisor's failures through; now and then see what else is to run."""
        supervisor.check()
        if roles is not None and len(declared.definitions) > 1 and next(looks) % LOOK_EVERY == 0:
            with contextlib.suppress(BrokerError):  # the next look will do
                supervisor.add(roles())

    console = Console()
    console.print(f"{declared.name} at {context.bootstrap}, logs in {supervisor.logs}")
    try:
        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                while not stop.wait(1.0):
                    look()
                    for line in news():
                        live.console.print(line, soft_wrap=True, highlight=False)
                    live.update(process_table(supervisor.status(), lags.read()), refresh=True)
            return
        before: list[str] = []
        while not stop.wait(1.0):
            look()
            for line in news():
                typer.echo(line)
            lines = process_lines(supervisor.status(), lags.read())
            for line in lines:
                if line not in before:
                    typer.echo(line)
            before = lines
    finally:
        lags.close()


def process_table(status: "list[ProcessStatus]", lag: "Mapping[str, int]") -> "Table":
    """Return the table of processes: role, state, process id, restarts, records behind."""
    from rich.table import Table

    table = Table("process", "state", "pid", "restarts", "lag")
    for column in table.columns[2:]:
        column.justify = "right"
    colours = {"running": "green", "waiting": "yellow", "failed": "red", "stopped": "dim"}
    for process in status:
        table.add_row(
            process.role,
            f"[{colours[process.state]}]{process.state}[/]",
            str(process.pid or ""),
            str(process.restarts),
            _lag_text(lag, process.role),
        )
    return table


def process_lines(status: "list[ProcessStatus]", lag: "Mapping[str, int]") -> list[str]:
    """Return the same as plain lines, for logs."""
    return [
        f"{process.role} {process.state} pid={process.pid or '-'} restarts={process.restarts} "
        f"lag={_lag_text(lag, process.role) or '-'}"
        for process in status
    ]


def _lag_text(lag: "Mapping[str, int]", role: str) -> str:
    return f"{lag[role]:,}" if role in lag else ""


def process_figures(status: "list[ProcessStatus]") -> dict[str, float]:
    """Return the figures of vitals: how often each process was restarted, and whether it runs."""
    restarts = {f"restarts/{process.role}": float(process.restarts) for process in status}
    return restarts | {f"state/{p.role}": float(p.state == "running") for p in status}
