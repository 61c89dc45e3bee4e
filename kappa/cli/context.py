"""What most commands need: the pipeline, the settings and a broker."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from serving.pipeline import Pipeline
    from streams.settings import Settings

DEFAULT_PIPELINE = "examples.citibike"

PipelineOption = Annotated[
    str,
    typer.Option(
        "-p", "--pipeline", help="The pipeline: a module or a .py file.", envvar="KAPPA_PIPELINE"
    ),
]


@dataclass(frozen=True)
class Context:
    """A loaded pipeline, its settings, and the address of a broker that answers."""

    pipeline: "Pipeline"
    settings: "Settings"
    bootstrap: str

    @property
    def home(self) -> Path:
        """The folder of the pipeline's state."""
        return self.settings.pipeline_home(self.pipeline.name)


@contextmanager
def open_context(pipeline: str, starts: bool = False) -> Iterator[Context]:
    """Load the pipeline, find or start a broker, and make sure that the topics are right.

    ``starts``: the command writes to the log, or reads it for good; so types and definitions must
    fit what it was written with, and are recorded there.
    """
    from infra.broker import broker_session
    from infra.schema_check import check_schemas
    from kappa.loading import load_pipeline
    from streams.settings import Settings
    from streams.topics import ensure_topics

    declared, settings = load_pipeline(pipeline), Settings()
    with broker_session(settings) as bootstrap:
        ensure_topics(bootstrap, declared.topic_specs, settings.replication)
        if starts:
            check_schemas(bootstrap, declared, settings.replication)
        yield Context(declared, settings, bootstrap)
