"""The command ``kappa``: collects the commands, prints errors that are meant for the user."""

import logging
import os
import sys

import structlog
import typer

from kappa.cli.alerts import alerts
from kappa.cli.audit import audit
from kappa.cli.cutover import cutover
from kappa.cli.dashboard import dashboard
from kappa.cli.dataset import dataset
from kappa.cli.demo import demo
from kappa.cli.diff import diff
from kappa.cli.doctor import doctor
from kappa.cli.drift import drift
from kappa.cli.experiment import experiment
from kappa.cli.fairness import fairness
from kappa.cli.gc import gc
from kappa.cli.health import health
from kappa.cli.history import history
from kappa.cli.lab import lab
from kappa.cli.outcomes import outcomes
from kappa.cli.performance import performance
from kappa.cli.plan import plan
from kappa.cli.predict import predict
from kappa.cli.predictions import predictions
from kappa.cli.produce import produce
from kappa.cli.promoting import models
from kappa.cli.replay import replay
from kappa.cli.retrain import retrain
from kappa.cli.rollout import rollout
from kappa.cli.schema import schema
from kappa.cli.serve import serve
from kappa.cli.shadow import shadow
from kappa.cli.train import train
from kappa.cli.tune import tune
from kappa.cli.up import up
from kappa.cli.worker import worker
from streams.errors import KappaError

app = typer.Typer(
    name="kappa",
    help="A Kappa-architecture machine-learning pipeline: one log, from events to drift alerts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _command in (
    demo, up, dashboard, produce, train, retrain, tune, replay, diff, cutover, gc, history, predict,
    predictions, outcomes, shadow, performance, fairness, alerts, health, audit, schema, doctor,
    worker, serve, dataset,
):  # fmt: skip
    app.command()(_command)
app.add_typer(models, name="models")
app.add_typer(rollout, name="rollout")
app.add_typer(plan, name="plan")
app.add_typer(lab, name="lab")
app.add_typer(drift, name="drift")
app.add_typer(experiment, name="experiment")


def main() -> None:
    """Run the command line; errors meant for the user end it with status 1 and one message."""
    configure_logging(os.environ.get("KAPPA_LOG_LEVEL", "info"))
    try:
        app()
    except KappaError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)


def configure_logging(level: str) -> None:
    """Send all logs to stderr, one line each; the tools' own chatter only from warnings on."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s"
    )
    # It warns of each of its own steps that takes a tenth of a second, as on any busy machine.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
    )
