"""Which of a pipeline's definitions have workers: the first, and those built beside it."""

from features.definition import Definition
from features.stages import stages_of
from serving.pipeline import Pipeline
from streams.group_offsets import GroupOffsets


def definitions_to_run(bootstrap: str, pipeline: Pipeline) -> tuple[Definition, ...]:
    """Return the definitions that feature workers keep up with the log, in declared order.

    The first always has one. A further one has one from the moment at which a replay has built it
    whole, so that it stands where the first stands when it is cut over.

    Raises:
        BrokerError: the groups' offsets can't be read.
    """
    first, *further = pipeline.definitions
    return (first, *(d for d in further if is_built(bootstrap, pipeline, d)))


def is_built(bootstrap: str, pipeline: Pipeline, definition: Definition) -> bool:
    """Return whether the definition's features stand in their topic up to some moment, in whole.

    A build that is under way, or that was one of a range only, notes so at its group's offsets.

    Raises:
        BrokerError: the group's offsets can't be read.
    """
    topics = pipeline.topics_of(definition)
    last = stages_of(definition, pipeline.events, pipeline.labels, topics)[-1]
    offsets = GroupOffsets(bootstrap, last.group, last.input)
    try:
        committed = offsets.read(pipeline.events.partitions)
    finally:
        offsets.close()
    return len(committed) == pipeline.events.partitions and not any(
        at.note for at in committed.values()
    )
