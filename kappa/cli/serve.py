"""``kappa serve``: predictions and features over HTTP."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context

if TYPE_CHECKING:
    from kappa.cli.context import Context
    from serving.http.options import ServeOptions

SERVE = "serve"
"""The name of the service's process among those of a pipeline."""


def serve(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    host: Annotated[
        str, typer.Option(help="Where to listen; off this machine a token is wanted.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 8080,
    workers: Annotated[int, typer.Option(min=1, help="How many processes share the port.")] = 1,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="KAPPA_SERVE_TOKEN_FILE", help="The file with the token that clients show."
        ),
    ] = None,
    token_env: Annotated[
        str | None,
        typer.Option(help="The environment variable with the token, in place of a file."),
    ] = None,
    log: Annotated[
        Literal["best-effort", "required", "off"],
        typer.Option(help="Keep answers in P.requests.v1; required: answer only what was kept."),
    ] = "best-effort",
    body_bytes: Annotated[int, typer.Option(min=1, help="A larger body is refused.")] = 1 << 20,
    rows: Annotated[int, typer.Option(min=1, help="Rows of a request at most.")] = 1_000,
    concurrent: Annotated[int, typer.Option(min=1, help="Requests at once at most.")] = 256,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds until a 503.")] = 5.0,
    access_log: Annotated[bool, typer.Option(help="Write one line per request.")] = True,
    shared: Annotated[bool, typer.Option(hidden=True, help="Others listen on the port too.")] = (
        False
    ),
    parent_pid: Annotated[
        int | None,
        typer.Option(hidden=True, help="End when this process, which started us, ends."),
    ] = None,
) -> None:
    """Answer requests over HTTP until SIGTERM or Ctrl-C; /openapi.json says what can be asked."""
    from infra.lifeline import end_with_parent
    from infra.supervisor import EXIT_USER_MUST_ACT
    from serving.http.options import Limits, ServeOptions, read_token
    from streams.errors import ConfigurationError, DefinitionError, TopicMismatchError

    if parent_pid is not None:
        end_with_parent(parent_pid)
    try:
        limits = Limits(body_bytes, rows, concurrent, timeout)
        token = read_token(token_file, token_env)
        options = ServeOptions(host, port, token, limits, log, access_log)
        with open_context(pipeline) as context:
            if workers > 1:
                arguments = _arguments(options, token_file, token_env)
                _serve_together(pipeline, context, options, workers, arguments)
            else:
                _serve_alone(context, options, shared)
    except (ConfigurationError, DefinitionError, TopicMismatchError) as error:
        # Told apart from other ends, since starting again can't help.
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(EXIT_USER_MUST_ACT) from None


def _serve_alone(context: "Context", options: "ServeOptions", shared: bool) -> None:
    from serving.http.server import listen
    from serving.http.server import serve as run
    from serving.http.service import Service

    context.home.mkdir(parents=True, exist_ok=True)
    with listen(options, shared) as listener:
        service = Service(
            context.pipeline, context.bootstrap, context.home, context.settings, options
        )
        run(service, listener)


def _serve_together(
    pipeline: str,
    context: "Context",
    options: "ServeOptions",
    workers: int,
    arguments: list[str],
) -> None:
    """Run so many processes on one port, until SIGTERM or SIGINT; one that dies is restarted."""
    import os
    import tempfile
    import threading

    from infra.supervisor import Supervisor
    from serving.http.metrics import MULTIPROCESS
    from serving.http.server import listen
    from serving.stopping import until_signal

    listen(options, shared=True).close()  # what can't be had is told here, once
    command = [*serve_command(pipeline, options.port), "--shared", *arguments]
    with tempfile.TemporaryDirectory() as figures, until_signal(threading.Event()) as stop:
        os.environ[MULTIPROCESS] = figures
        supervisor = Supervisor(
            pipeline,
            context.pipeline.name,
            context.settings,
            context.bootstrap,
            [f"serve-{number}" for number in range(1, workers + 1)],
            command=lambda _: command,
        )
        with supervisor:
            typer.echo(f"{workers} processes on {options.host}:{options.port}, logs in "
                       f"{supervisor.logs}", err=True)  # fmt: skip
            while not stop.wait(1.0):
                supervisor.check()


def _arguments(
    options: "ServeOptions", token_file: Path | None, token_env: str | None
) -> list[str]:
    """Return the options of one of several processes; the token by reference."""
    limits = options.limits
    made = [
        "--host", options.host, "--log", options.logging,
        "--body-bytes", str(limits.body_bytes), "--rows", str(limits.batch_rows),
        "--concurrent", str(limits.concurrent), "--timeout", str(limits.timeout_s),
        "--access-log" if options.access_log else "--no-access-log",
    ]  # fmt: skip
    if token_file is not None:
        made += ["--token-file", str(token_file.resolve())]
    return made if token_env is None else [*made, "--token-env", token_env]


def serve_command(pipeline: str, port: int) -> list[str]:
    """Return the command line of a service on this machine that ends when this process does."""
    import os
    import sys

    return [
        sys.executable, "-m", "kappa", "serve", "-p", pipeline, "--port", str(port),
        "--parent-pid", str(os.getpid()),
    ]  # fmt: skip
