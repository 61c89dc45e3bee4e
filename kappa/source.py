"""Where a pipeline's stream comes from: its own reader, the reader for all, or its generator."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from serving.pipeline import Pipeline
from streams.errors import ConfigurationError
from streams.recording import Recording


def recordings_of(
    pipeline: Pipeline,
    events: Path | Sequence[Path] | None,
    seed: int = 7,
    scale: float = 1.0,
    labels: Sequence[Path] = (),
) -> Iterator[Recording]:
    """Return the stream in order of time: from files or folders, or made up where there are none.

    Raises:
        ConfigurationError: there is nothing to read and the pipeline has no generator.
        SourceError: (while iterating) a file can't be read.
    """
    files = [events] if isinstance(events, Path) else list(events or ())
    if files or labels:
        from streams.sources import open_source

        return open_source(pipeline.events, pipeline.labels, pipeline.read, files, labels)
    if pipeline.generate is None:
        raise ConfigurationError(
            f"the pipeline {pipeline.name} has no generator: give a file or folder to read, "
            "or declare generate=... in its Pipeline"
        )
    if not scale > 0:
        raise ConfigurationError(f"scale {scale}: must be above 0")
    return pipeline.generate(seed, scale)


def begun(recordings: Iterator[Recording]) -> Iterator[Recording]:
    """Return the same stream with its first part read, so that what can't be read is told now.

    Raises:
        SourceError: a file can't be read.
    """
    first = list(islice(recordings, 1))
    return chain(first, recordings)
