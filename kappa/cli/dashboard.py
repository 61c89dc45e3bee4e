"""``kappa dashboard``: the page that shows a pipeline, with what can be done about it."""

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context

if TYPE_CHECKING:
    from kappa.cli.context import Context
    from streams.settings import Settings

DASHBOARD = "dashboard"
"""The name of the process among those of ``kappa up``."""

TRIES = 20


def dashboard(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="The port. [default: the first free from 8790]"),
    ] = None,
    host: Annotated[str, typer.Option(help="Where it listens.")] = "127.0.0.1",
    remote: Annotated[
        bool, typer.Option("--remote", help="Mean a --host that others can reach; needs a token.")
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(help="A name by which browsers ask for this machine; may be repeated."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="KAPPA_DASHBOARD_TOKEN_FILE",
            help="File with a token to log in with at any time.",
        ),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Print the one-time link of the one that runs, and end.")
    ] = False,
    parent_pid: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve the pipeline's page on this machine until Ctrl-C; prints a link that may act."""
    from infra.lifeline import end_with_parent
    from infra.supervisor import EXIT_USER_MUST_ACT
    from kappa.loading import load_pipeline
    from serving.dashboard.options import PORT, DashboardOptions
    from serving.dashboard.server import serve_dashboard
    from serving.http.options import read_token
    from streams.errors import ConfigurationError, DefinitionError, TopicMismatchError
    from streams.settings import Settings

    if link:
        typer.echo(running_link(Settings(), load_pipeline(pipeline).name))
        return
    if parent_pid is not None:
        end_with_parent(parent_pid)
    try:
        token = read_token(token_file, None)
        first = PORT if port is None else port
        with open_context(pipeline) as context:
            options = DashboardOptions(
                host,
                first,
                token,
                remote,
                tuple(name or ()),
                tries=TRIES if port is None else 1,
                link_file=link_file(context.settings, context.pipeline.name),
            )
            with _reported(context) if parent_pid is not None else contextlib.nullcontext():
                serve_dashboard(context.pipeline, context.bootstrap, options, _show)
    except (ConfigurationError, DefinitionError, TopicMismatchError) as error:
        # Told apart from other ends, since starting again can't help.
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(EXIT_USER_MUST_ACT) from None


def link_file(settings: "Settings", name: str) -> Path:
    """Return where the running dashboard of a pipeline keeps its one-time link."""
    return settings.pipeline_home(name) / "dashboard" / "link"


def running_link(settings: "Settings", name: str) -> str:
    """Return the current one-time link; raises ConfigurationError where no dashboard runs."""
    from streams.errors import ConfigurationError

    try:
        return link_file(settings, name).read_text().strip()
    except OSError:
        raise ConfigurationError(
            f"no dashboard of pipeline {name} runs with this KAPPA_HOME: `kappa dashboard` or "
            "`kappa up` starts one"
        ) from None


class NewLinks:
    """Tells of each one-time link of a pipeline's dashboard once, for whoever started it."""

    def __init__(self, settings: "Settings", name: str) -> None:
        self._file, self._before = link_file(settings, name), ""
        with contextlib.suppress(OSError):  # one that was left behind opens nothing
            self._before = self._file.read_text()

    def told(self) -> list[str]:
        """Return the lines to be shown now: mostly none."""
        try:
            link = self._file.read_text()
        except OSError:
            return []
        before, self._before = self._before, link
        return [] if link == before else _lines(link.strip())


def dashboard_command(pipeline: str, port: int | None) -> list[str]:
    """Return the command line of a dashboard on this machine that ends when this process does."""
    at = [] if port is None else ["--port", str(port)]
    return [
        sys.executable, "-m", "kappa", "dashboard", "-p", pipeline, *at,
        "--parent-pid", str(os.getpid()),
    ]  # fmt: skip


def _reported(context: "Context") -> "contextlib.AbstractContextManager[None]":
    """Return what has this process tell of itself, as one among those of a pipeline."""
    from infra.roles import worker_name
    from serving.health.process import looked_after

    settings = context.settings
    worker = worker_name(DASHBOARD, settings)
    topics = context.pipeline.topics
    return looked_after(context.bootstrap, topics, DASHBOARD, worker, settings, watched=False)


def _lines(link: str) -> list[str]:
    return [f"dashboard: {link.partition('login?')[0]}", f"log in, once, to act: {link}"]


def _show(link: str) -> None:
    for line in _lines(link):
        typer.echo(line)
