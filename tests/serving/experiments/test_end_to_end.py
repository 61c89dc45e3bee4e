"""An experiment through the real workers: two that route, one that joins labels, the report, and
what is live then."""

from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from features.records import FeatureCodec
from serving.experiments.planning import Wish
from serving.experiments.running import Experiments
from serving.feedback.worker import OutcomesWorker
from serving.pipeline import Pipeline
from streams.assignment import place_of, versions_of
from streams.expressions import Above
from streams.kafka_client import producer
from streams.replay import offset_bounds, read_ranges
from streams.stream import LabelStream
from streams.topics import ensure_topics
from streams.wire import Routing
from tests.serving.feature_stream import (
    DEFINITION,
    EVENTS,
    PARTITIONS,
    append,
    committed_answers,
    live,
    new_pipeline,
    registered,
    rows,
    wait_drained,
    working,
)

pytestmark = pytest.mark.broker

ENTITIES = 240
SHARE = {1: 0.25, 2: 0.6}


class Review(msgspec.Struct):
    """The label."""

    id: str
    shop: str
    at_ms: int
    stars: int


REVIEWS = LabelStream(
    Review, id="id", entity="shop", event_time="at_ms", target=Above("stars", 3.0)
)


class Shops:
    """The pipeline's log: features go in, labels follow what was answered."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.topics = new_pipeline(bootstrap)
        self.pipeline = Pipeline(self.topics.name, EVENTS, REVIEWS, DEFINITION)
        ensure_topics(bootstrap, self.pipeline.topic_specs)
        self.next = [0] * PARTITIONS

    def emit(self, each: int) -> None:
        """Append ``each`` feature records to both partitions; entities take turns."""
        codec = FeatureCodec(DEFINITION, EVENTS)
        client = producer(self.bootstrap)
        for partition in range(PARTITIONS):
            first = self.next[partition]
            self.next[partition] += each
            offsets = range(first, first + each)
            own = [f"s{partition}-{offset % (ENTITIES // PARTITIONS)}" for offset in offsets]
            made = replace(rows(partition, offsets), entities=own, categories=[own])
            for value, entity in zip(codec.encode(made), own, strict=True):
                client.produce(self.topics.features, value, entity, partition)
        assert client.flush(30) == 0

    def label(self) -> None:
        """Append the labels of the answers that have none: a better model, better reviews."""
        found = sorted(
            committed_answers(self.bootstrap, self.topics.predictions), key=lambda p: p.event_id
        )
        client = producer(self.bootstrap)
        for p in found:
            is_good = place_of("review", p.event_id) < SHARE[p.model_version]
            review = Review(p.event_id, p.entity, p.event_time_ms + 1000, 5 if is_good else 2)
            client.produce(
                self.topics.labels, msgspec.json.encode(review), p.entity, p.source.partition
            )
        assert client.flush(30) == 0

    def join(self, home: Path) -> int:
        """Let the outcomes worker join all; return how many outcomes there are."""
        wanted = sum(self.next)
        with closing(OutcomesWorker(self.bootstrap, self.pipeline, home)) as worker:
            for _ in range(3_000):
                worker.turn()
                bounds = offset_bounds(self.bootstrap, self.topics.outcomes, PARTITIONS)
                batches = read_ranges(self.bootstrap, self.topics.outcomes, bounds)
                if sum(map(len, batches)) == wanted:
                    return wanted
        raise TimeoutError("not all labels are joined")


def test_from_start_to_the_winner_live(bootstrap: str, tmp_path: Path) -> None:
    shops = Shops(bootstrap)
    topics = shops.topics
    append(bootstrap, topics, registered(1), registered(2), live(1))
    with (
        working(bootstrap, topics, worker="w0"),
        working(bootstrap, topics, worker="w1"),
        closing(Experiments(bootstrap, shops.pipeline)) as experiments,
    ):
        shops.emit(ENTITIES)
        wait_drained(bootstrap, topics)
        plan = experiments.plan(["label", "label/ever"], Wish(0.2, sigma=0.3, days=0.0))
        experiments.start("stars", [2], plan, None, "a test")
        assert experiments.wait("stars", print, 60)
        shops.emit(3 * ENTITIES)
        wait_drained(bootstrap, topics)
        shops.label()
        assert shops.join(tmp_path) == 8 * ENTITIES
        _, readings, found = experiments.findings("stars")
        assert readings.mismatches == 0
        assert readings.outcomes == 6 * ENTITIES
        assert not found.soundness.mismatch
        assert found.verdict.kind == "ship"
        assert found.verdict.winner == 2
        effect = found.compared[0].plain
        planted = SHARE[2] - SHARE[1]
        assert effect.sequential.low < planted < effect.sequential.high
        assert experiments.deploy("stars", None, force=False)[0] == 2
        before = sum(shops.next)
        while True:
            shops.emit(20)
            wait_drained(bootstrap, topics)
            answers = committed_answers(bootstrap, topics.predictions)
            if Counter(p.stage for p in answers if p.model_version == 2)["live"]:
                break
    started = experiments.experiment("stars").started
    assert len(answers) == len({p.event_id for p in answers}) > before
    routed = [p for p in answers if p.stage == "experiment"]
    assert {p.model_version for p in routed} == {2}
    routing = experiments.rollout.routing(1)
    assert (routing.live, routing.arms) == (2, ())
    names = sorted({p.entity for p in routed})
    due = versions_of(Routing(started.control, started.salt, started.arms), names)
    assert np.all(due == 2), "anyone can compute who had to answer"
