"""The committed answers: which event each is of, and whether the model is the one that had to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.replay import read_ranges
from streams.routed import UNKNOWN, Routed
from streams.topics import Topics
from streams.wire import Source

Offsets = NDArray[np.int64]


class _Answer(msgspec.Struct, gc=False):
    prediction_id: str
    event_id: str
    entity: str
    model_version: int
    source: Source
    definition: int


@dataclass(frozen=True)
class AnswerLog:
    """Per partition of the events: source offsets of the answers, the definitions that gave them,
    and the offsets that another model answered than had to; and all event ids."""

    offsets: dict[int, Offsets]
    definitions: dict[int, Offsets]
    other_model: dict[int, Offsets]
    event_ids: list[str]


def read_answers(
    bootstrap: str,
    topics: Topics,
    ends: Mapping[int, tuple[int, int]],
    events: Mapping[int, tuple[int, int]],
    routed: Routed,
) -> AnswerLog:
    """Read the answers up to ``ends``, but those to events that came after ``events``."""
    decode = msgspec.json.Decoder(_Answer).decode
    found: dict[int, list[int]] = {partition: [] for partition in events}
    by: dict[int, list[int]] = {partition: [] for partition in events}
    other: dict[int, list[int]] = {partition: [] for partition in events}
    event_ids: list[str] = []
    for batch in read_ranges(bootstrap, topics.predictions, ends):
        answers = list(map(decode, filter(None, batch.values)))
        for answer in answers:
            source = answer.source
            if source.partition not in events or source.offset < events[source.partition][1]:
                found.setdefault(source.partition, []).append(source.offset)
                by.setdefault(source.partition, []).append(answer.definition)
                event_ids.append(answer.event_id)
        for answer in _by_another(answers, batch.partition, routed):
            other.setdefault(answer.source.partition, []).append(answer.source.offset)
    return AnswerLog(_arrays(found), _arrays(by), _arrays(other), event_ids)


def _by_another(answers: list[_Answer], partition: int, routed: Routed) -> list[_Answer]:
    """Return the answers of a partition that another version gave than the log says."""
    wrong: list[_Answer] = []
    for definition in {answer.definition for answer in answers}:
        mine = [answer for answer in answers if answer.definition == definition]
        offsets = [_features_offset(answer.prediction_id) for answer in mine]
        entities = [answer.entity for answer in mine]
        due = routed.versions_at(definition, partition, np.array(offsets, np.int64), entities)
        given = np.array([answer.model_version for answer in mine], np.int64)
        bad = np.flatnonzero(((given != due) & (due != UNKNOWN)) | (np.array(offsets) < 0))
        wrong += [mine[row] for row in bad.tolist()]
    return wrong


def _features_offset(prediction_id: str) -> int:
    """Return the features offset that the id names, −1 where it names none."""
    parts = prediction_id.rsplit("-", 2)
    return int(parts[1]) if len(parts) == 3 and parts[1].isdecimal() else -1


def _arrays(lists: Mapping[int, list[int]]) -> dict[int, Offsets]:
    return {partition: np.array(numbers, dtype=np.int64) for partition, numbers in lists.items()}
