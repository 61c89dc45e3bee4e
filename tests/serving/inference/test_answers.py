"""From feature records to the records of the predictions topic, without a broker."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.inference.answers import AnswerCodec, checked_answers, not_answered, questions
from streams.errors import ModelError
from streams.wire import Prediction, Source
from tests.serving.feature_stream import T0_MS, ConstantModel, rows
from training.answers import Answers
from training.networks.tasks import Binary, MultiClass, Regression, Task

CODEC = AnswerCodec("p.features.v1", "p.predictions.v1", "/p/inference", 1)


@given(st.lists(st.integers(0, 40), max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_what_counts_as_new_does_not_depend_on_batch_boundaries(
    sources: list[int], cuts: list[int]
) -> None:
    log = np.array(sources, np.int64)
    answered, new = -1, []
    for part in np.split(log, sorted(cut for cut in cuts if cut <= len(log))):
        new += not_answered(part, answered).tolist()
        answered = max([answered, *part.tolist()])
    seen: list[int] = []
    for source, is_new in zip(sources, new, strict=True):
        assert is_new == (source > max(seen, default=-1))
        seen.append(source)


def test_a_prediction_names_all_that_made_it() -> None:
    made = rows(3, [17, 18])
    asked = questions(made, np.array([40, 41]), [[("kappa-featurised-at-ms", b"9")], None])
    outgoing = CODEC.encode(asked, Answers(np.array([0.125, 0.75])), 2, "live", 1234)
    assert (outgoing.topic, outgoing.partition) == ("p.predictions.v1", 3)
    assert outgoing.keys == [b"shop3", b"shop3"]
    assert outgoing.timestamps_ms == [T0_MS + 17_000, T0_MS + 18_000]
    assert msgspec.json.decode(outgoing.values[0]) == {
        "prediction_id": "p.features.v1-3-40-v2",
        "event_id": "e3-17",
        "entity": "shop3",
        "score": 0.125,
        "model_version": 2,
        "stage": "live",
        "definition": 1,
        "event_time_ms": T0_MS + 17_000,
        "source": {"partition": 3, "offset": 17},
        "times": {"event_ms": T0_MS + 17_000, "featurised_ms": 9, "predicted_ms": 1234},
    }
    second = msgspec.json.decode(outgoing.values[1], type=Prediction)
    assert (second.prediction_id, second.times.featurised_ms) == ("p.features.v1-3-41-v2", None)


def test_selected_questions_keep_their_places() -> None:
    made = rows(0, [5, 6, 7])
    asked = questions(made, np.array([10, 11, 12]), [[("traceparent", b"t")], None, None])
    kept = asked.select(np.array([True, False, True]))
    outgoing = CODEC.encode(kept, Answers(np.array([0.1, 0.2])), 1, "shadow", 0)
    predictions = [msgspec.json.decode(value, type=Prediction) for value in outgoing.values]
    assert [(p.prediction_id, p.event_id, p.source.offset, p.score) for p in predictions] == [
        ("p.features.v1-0-10-v1", "e0-5", 5, 0.1),
        ("p.features.v1-0-12-v1", "e0-7", 7, 0.2),
    ]
    assert [dict(pairs).get("traceparent") for pairs in outgoing.headers] == [b"t", None]
    assert kept.rows.numeric.tolist() == [[5.0], [0.0]]
    assert kept.rows.categories == [["shop0", "shop0"]]


def test_the_source_is_the_place_in_the_events_topic_however_many_keys_there_are() -> None:
    made = replace(
        rows(2, [5, 6]),
        origin_partitions=np.array([1, 3]),
        origin_offsets=np.array([90, 7]),
        label_offsets=np.array([4, 4]),
    )
    kept = questions(made, np.array([10, 11]), [None, None]).select(np.array([False, True]))
    (value,) = CODEC.encode(kept, Answers(np.array([0.5])), 1, "live", 0).values
    prediction = msgspec.json.decode(value, type=Prediction)
    assert prediction.source == Source(3, 7)
    assert prediction.prediction_id == "p.features.v1-2-11-v1"
    assert kept.rows.label_offsets is not None
    assert kept.rows.label_offsets.tolist() == [4]


def test_a_time_that_is_none_informs_nobody_and_stops_nothing() -> None:
    name = "kappa-featurised-at-ms"
    asked = questions(rows(0, [0, 1, 2]), np.arange(3), [[(name, b"12")], [(name, b"soon")], None])
    assert asked.featurised_ms == [12, None, None]


@pytest.mark.parametrize("score", [np.nan, -0.1, 1.1, np.inf])
def test_scores_must_be_probabilities(score: float) -> None:
    with pytest.raises(ModelError, match="no probability"):
        checked_answers(ConstantModel(score), rows(0, [1, 2]))


def test_there_must_be_one_score_per_row() -> None:
    with pytest.raises(ModelError, match=r"shape \(3,\) for 2 rows"):
        checked_answers(lambda _: np.zeros(3), rows(0, [1, 2]))


CLASSES = MultiClass(("steel", "wood"))
OF_CLASSES = Answers.of_classes(np.array([[0.25, 0.75], [0.5, 0.5]]))
OF_NUMBERS = Answers(np.array([7.5, -1.0]), spread=np.array([2.0, 0.5]))


def answered(task: Task, answers: Answers) -> list[dict[str, object]]:
    codec = replace(CODEC, task=task)
    asked = questions(rows(0, [1, 2]), np.array([10, 11]), [None, None])
    checked = checked_answers(lambda _: answers, asked.rows, task)
    return [msgspec.json.decode(v) for v in codec.encode(asked, checked, 1, "live", 0).values]


def test_an_answer_of_several_classes_tells_the_probability_of_each() -> None:
    first, second = answered(CLASSES, OF_CLASSES)
    assert (first["score"], first["probabilities"]) == (0.75, {"steel": 0.25, "wood": 0.75})
    assert (second["score"], "spread" in second) == (0.5, False)


def test_an_answer_that_is_a_number_tells_its_spread() -> None:
    first, second = answered(Regression(), OF_NUMBERS)
    assert [(a["score"], a["spread"]) for a in (first, second)] == [(7.5, 2.0), (-1.0, 0.5)]
    assert "probabilities" not in first
    (prior, _) = answered(Regression(), Answers(OF_NUMBERS.score))
    assert "spread" not in prior


@pytest.mark.parametrize(
    ("task", "answers", "why"),
    [
        (Binary(), OF_CLASSES, "another task"),
        (Binary(), Answers(OF_CLASSES.score, spread=OF_CLASSES.score), "another task"),
        (CLASSES, Answers(OF_CLASSES.score), "not those that are declared"),
        (MultiClass(("a", "b", "c")), OF_CLASSES, "not those that are declared"),
        (CLASSES, Answers.of_classes(np.full((2, 2), np.nan)), "no probability"),
        (Regression(), Answers(np.array([1.0, np.inf])), "no number"),
        (Regression(), Answers(np.zeros(2), spread=np.zeros(2)), "must be above 0"),
    ],
)
def test_answers_of_another_task_are_refused(task: Task, answers: Answers, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        checked_answers(lambda _: answers, rows(0, [1, 2]), task)
