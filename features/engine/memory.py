"""How much memory a definition's state takes, by a formula.

For each stage, with n entities in a partition, each with events in t tiles of every tile length:

    n · (table + Σ families (block + copies · room(t) · record) + memories) · growth

- table: 64 bytes in the table of names, 16 for where the name ends, and the name.
- block: 32 bytes per tile length and kind (sums, sketches of events, of labels).
- room(t): places for tiles, the power of two from t · 4/3 on, at least 4 (1 for records of more
  than 4 words), at most a quarter more than the windows can need.
- record: 8 bytes for the tile's number, and 8 for a count or sum, 16 first or last, 24 a variance,
  2^precision a distinct count, 4 a bucket of a quantile, 8 + 16 · size a top share.
- copies: 2, since blocks that were outgrown stay in the pool until others take them.
- memories: 8 bytes, 8 for each time since the last, 24 for each decayed mean.
- growth: 1.5, as arrays grow by half.

Ids that are remembered against duplicates come on top: at most 64 bytes for each within twice
``dedupe``.
"""

from collections.abc import Sequence

from features.aggregations import Remembering
from features.definition import Definition
from features.engine.cell_plan import CellPlan
from features.engine.columns import event_columns, label_columns
from features.engine.state import NOTHING, StatePlan, plan_state
from features.engine.tiles import FIRST_ROOM
from features.staging import label_stage, stage_features
from streams.stream import EventStream, LabelStream

BYTES_PER_ID = 64
_TABLE, _BLOCK, _COPIES, _GROWTH = 80, 32, 2, 1.5
_SMALLEST = 200_000  # what is there for the first entity


def memory_estimate(
    definition: Definition,
    events: EventStream,
    labels: LabelStream | None = None,
    entities: int = 0,
    tiles_per_entity: int = 1,
    ids: int = 0,
    name_bytes: int = 16,
) -> int:
    """Return the most bytes that the state of one partition takes, all stages together.

    Args:
        definition: the features.
        events: the stream.
        labels: what features are made of labels from.
        entities: how many of each key are remembered at a time.
        tiles_per_entity: in how many tiles of a length one has something, at most.
        ids: how many event ids are remembered against duplicates.
        name_bytes: length of an entity's name.
    """
    per_entity = 0.0
    stages = range(len(definition.keys(events, labels)))
    for stage in stages:
        plan = _plan(definition, events, labels, stage)
        per_entity += _TABLE + name_bytes + _memories(plan)
        per_entity += _sums(plan, tiles_per_entity)
        per_entity += _cells(plan.event_cells, tiles_per_entity)
        per_entity += _cells(plan.label_cells, tiles_per_entity)
    return round(_GROWTH * per_entity * entities) + ids * BYTES_PER_ID + _SMALLEST * len(stages)


def _plan(
    definition: Definition, events: EventStream, labels: LabelStream | None, stage: int
) -> StatePlan:
    names = stage_features(definition, events, labels, stage)
    features: Sequence[Remembering] = [
        feature
        for name, feature in definition.features.items()
        if name in names and isinstance(feature, Remembering)
    ]
    of_labels = NOTHING
    if labels is not None and label_stage(definition, events, labels) == stage:
        of_labels = label_columns(definition)
    of_events = event_columns(definition, events, labels, stage)
    return plan_state(features, of_events, of_labels, events.lateness_ms, definition.forget_ms)


def _sums(plan: StatePlan, tiles: int) -> int:
    bytes_taken = 0
    for _, _, capacity, most, rings in plan.sums.tiles.tolist():
        room = _room(min(tiles, capacity), FIRST_ROOM, most)
        bytes_taken += _BLOCK + _COPIES * room * 8 * (1 + rings)
    return bytes_taken


def _cells(plan: CellPlan, tiles: int) -> int:
    bytes_taken = 0
    for _, _, capacity, most, first, words in plan.families.tolist():
        room = _room(min(tiles, capacity), first, most)
        bytes_taken += _BLOCK + _COPIES * room * 8 * words
    return bytes_taken


def _room(tiles: int, first: int, most: int) -> int:
    room = first
    while 3 * room < 4 * tiles:
        room *= 2
    return min(room, most)


def _memories(plan: StatePlan) -> int:
    memories = plan.memories
    if not len(memories.outputs):
        return 0
    return 8 + 8 * len(memories.lasts) + 24 * len(memories.decays)
