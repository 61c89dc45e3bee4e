"""Which of a pipeline's definitions have workers: the first, and those built beside it."""

from features.definition import Definition
from features.processing.stages import stages_of
from serving.pipeline import Pipeline
from streams.control import ControlFollower, decode_model_events
from streams.cutover import Cutovers
from streams.group_offsets import GroupOffsets
from streams.rollout import Rollout


def definitions_to_run(bootstrap: str, pipeline: Pipeline) -> tuple[Definition, ...]:
    """Return the definitions that feature workers keep up with the log, in declared order.

    The first always has one. A further one has one from the moment at which a replay has built it
    whole, so that it stands where the first stands when it is cut over; and for good once it was.

    Raises:
        BrokerError: the groups' offsets can't be read.
    """
    first, *further = pipeline.definitions
    if not further:
        return (first,)
    answering = answering_version(bootstrap, pipeline)
    return (
        first,
        *(
            definition
            for definition in further
            if definition.version == answering or is_built(bootstrap, pipeline, definition)
        ),
    )


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


def cutovers_of(bootstrap: str, pipeline: Pipeline) -> Cutovers:
    """Return what the control log says of cut-overs so far.

    Raises:
        BrokerError: the log can't be read.
    """
    follower = ControlFollower(bootstrap, pipeline.topics.models)
    try:
        return Rollout().apply_all(decode_model_events(follower.catch_up())).cutovers
    finally:
        follower.close()


def answering_version(bootstrap: str, pipeline: Pipeline) -> int:
    """Return the version of the definition that answers, or is ordered to.

    Raises:
        BrokerError: the control log can't be read.
    """
    ordered = cutovers_of(bootstrap, pipeline).definition
    return pipeline.features.version if ordered is None else ordered
